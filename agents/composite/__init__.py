"""Policies made of other policies: one policy for each agent of a role."""

"""Policies that consist of other policies: `per_agent` has one for each agent of a role."""

"""Environments of oversight: AI control, and weak supervisors of stronger students."""

"""Environments of oversight: AI control, in which trusted components supervise an untrusted one."""

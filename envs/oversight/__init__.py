"""Environments of oversight: supervisors who know less than those whom they supervise."""

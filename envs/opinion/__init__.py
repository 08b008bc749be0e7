"""Environments of value and belief change: opinion dynamics, panel surveys, lock-in."""

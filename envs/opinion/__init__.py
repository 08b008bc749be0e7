"""Environments in which values and beliefs move: opinion dynamics, panel surveys, lock-in."""

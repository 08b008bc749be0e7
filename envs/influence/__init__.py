"""Environments in which an assistant can change people's preferences."""

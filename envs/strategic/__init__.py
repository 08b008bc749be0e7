"""Environments of game theory: repeated games, principal and agents."""

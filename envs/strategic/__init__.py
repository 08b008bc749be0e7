"""Environments of game theory: repeated games, principals and agents."""

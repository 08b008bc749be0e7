"""Environments in which people give feedback on options or texts: rewards, choices, critiques."""

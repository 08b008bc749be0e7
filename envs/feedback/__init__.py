"""Environments of human feedback on options and completions: rewards, choices, critiques."""

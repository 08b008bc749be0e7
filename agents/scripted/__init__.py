"""Scripted policies: random, strategies of repeated games, assistants."""

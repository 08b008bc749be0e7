"""Graphs of who is influenced by whom."""

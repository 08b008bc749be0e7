"""Contract games, one per file."""

"""Contract games, one a file: who offers what to whom, and who knows what."""

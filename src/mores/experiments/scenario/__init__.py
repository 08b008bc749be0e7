"""Scenario files: models of their content, loading, expansion into cells, and verification."""

"""Claims of a scenario: their data, estimates and verdicts."""

"""Claims of a scenario: the estimates that they use, and their verdicts."""

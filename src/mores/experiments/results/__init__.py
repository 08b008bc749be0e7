"""Results of cells and runs: in memory and on disk."""

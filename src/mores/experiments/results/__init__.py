"""Results of a cell and of a run: in memory, on disk, and read back."""

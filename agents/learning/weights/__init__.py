"""Operators on learned weights: merging, restoring what was lost, subspaces of what changed."""

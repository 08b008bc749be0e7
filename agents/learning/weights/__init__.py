"""Operators on learned weights: merging, restoring of alignment, subspaces of weight changes."""

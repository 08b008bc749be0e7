"""Mutated scenario files: texts, mutations, and guarded attempts to load and check them."""

"""Runs that are killed and resumed: see `benchmarks.kills`."""

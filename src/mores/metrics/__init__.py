"""Metrics of values: drift, distances between distributions, polarization, diversity."""

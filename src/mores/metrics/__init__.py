"""Registered metrics of people's values: drift, distributions, polarization, diversity; returns."""

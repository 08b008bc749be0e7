"""Trackers: training curves and metrics of cells, logged while they are computed."""

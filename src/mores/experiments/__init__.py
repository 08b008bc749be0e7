"""Experiments: scenario files, runs, results, claims, calibration, training from Python."""

"""Learners: training data, objectives, update loops."""

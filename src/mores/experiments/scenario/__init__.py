"""Scenario files: what they may say (`model`), how they are read (`load`), what they lead to."""

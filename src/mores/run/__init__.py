"""Running scenarios: cells are played, claims judged, and a folder is left that anyone can read."""

from mores.run.engine import Result, run

__all__ = ["Result", "run"]

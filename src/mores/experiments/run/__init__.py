"""Running scenarios: cells are played, claims judged, and a folder is left that anyone can read."""

from mores.experiments.run.engine import Result, run
from mores.experiments.run.resume import resume

__all__ = ["Result", "resume", "run"]

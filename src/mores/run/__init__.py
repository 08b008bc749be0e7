"""Running scenarios: cells are played, claims judged, and a folder is left that anyone can read."""

from mores.run.engine import Result, run
from mores.run.resuming import resume

__all__ = ["Result", "resume", "run"]

"""Running scenarios: cells are played, claims judged, and a folder is left that anyone can read."""

from mores.experiments.run.engine import RunResult, run_scenario
from mores.experiments.run.resume import resume_run

__all__ = ["RunResult", "resume_run", "run_scenario"]

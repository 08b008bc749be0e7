"""Run scenarios: simulate cells, evaluate claims, write a folder that is readable without mores."""

from mores.experiments.run.engine import RunResult, run_scenario
from mores.experiments.run.extension import extend
from mores.experiments.run.resume import resume_run

__all__ = ["RunResult", "extend", "resume_run", "run_scenario"]

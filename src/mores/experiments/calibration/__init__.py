"""Fitting a scenario's parameters to figures of the real world.

`calibrate` does it, `run_calibrate_command` is `mores calibrate`. How: docs/explanation/calibration.md.
"""

from mores.experiments.calibration.command import run_calibrate_command
from mores.experiments.calibration.pipeline import calibrate
from mores.experiments.calibration.result import CalibrationResult, FittedParameter, TargetFit

__all__ = [
    "CalibrationResult",
    "TargetFit",
    "FittedParameter",
    "calibrate",
    "run_calibrate_command",
]

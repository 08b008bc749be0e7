"""Calibration: fits parameters of a scenario to empirical targets.

`calibrate` is the function, `run_calibrate_command` the command (docs/explanation/calibration.md).
"""

from mores.experiments.calibration.command import run_calibrate_command
from mores.experiments.calibration.pipeline import calibrate
from mores.experiments.calibration.result import CalibrationResult, FittedParameter, TargetFit

__all__ = [
    "CalibrationResult",
    "FittedParameter",
    "TargetFit",
    "calibrate",
    "run_calibrate_command",
]

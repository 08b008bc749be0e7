"""Fitting a scenario's parameters to figures of the real world.

`calibrate` does it, `calibrate_command` is `mores calibrate`. How: docs/explanation/calibration.md.
"""

from mores.experiments.calibration.command import calibrate_command
from mores.experiments.calibration.pipeline import calibrate
from mores.experiments.calibration.result import Calibrated, Met, Parameter

__all__ = ["Calibrated", "Met", "Parameter", "calibrate", "calibrate_command"]

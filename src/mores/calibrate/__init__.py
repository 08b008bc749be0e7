"""Fitting a scenario's parameters to figures of the real world.

`calibrate` does it, `calibrate_command` is `mores calibrate`. How: docs/explanation/calibration.md.
"""

from mores.calibrate.calibration import calibrate
from mores.calibrate.command import calibrate_command
from mores.calibrate.result import Calibrated, Met, Parameter

__all__ = ["Calibrated", "Met", "Parameter", "calibrate", "calibrate_command"]

"""Command `mores calibrate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from mores.experiments.calibration.console_tables import calibration_tables
from mores.experiments.calibration.output import default_folder
from mores.experiments.calibration.pipeline import calibrate
from mores.experiments.scenario.loading import LoadedScenario


def run_calibrate_command(
    loaded: LoadedScenario, console: Console, out: Path | None, hold_out: Sequence[str]
) -> int:
    """Calibrate, print the result and the path of the output.

    Returns:
        Exit status: 0; 1 if the search did not converge.

    Raises:
        UserError: see `calibrate`.
    """
    result = calibrate(loaded, out or default_folder(loaded.scenario.name), hold_out)
    console.print(calibration_tables(result))
    assert result.folder is not None
    path = result.folder / "calibrated.yaml"
    console.print(f"scenario with the fitted values: {path}", soft_wrap=True, highlight=False)
    return int(not result.converged)

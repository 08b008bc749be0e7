"""Command `mores calibrate`, and its tables on a console of 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console, Group
from rich.table import Column, Table
from rich.text import Text

from mores.experiments.calibration.output import default_folder
from mores.experiments.calibration.pipeline import calibrate
from mores.experiments.calibration.result import CalibrationResult
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


def calibration_tables(result: CalibrationResult) -> Group:
    """Parameters, targets, the quality of the fit, and warnings."""
    parameters = _table("parameter", "fitted", "95 % interval", "search range")
    for parameter in result.parameters:
        left = "..." if parameter.low_at_bound else ""
        right = "..." if parameter.high_at_bound else ""
        low, high = parameter.search_range
        parameters.add_row(
            Text(parameter.path),
            f"{parameter.value:.4g}",
            Text(f"{left}[{parameter.low:.4g}, {parameter.high:.4g}]{right}"),
            Text(f"[{low:.4g}, {high:.4g}]"),
        )
    targets = _table("target", "empirical", "simulated", "z")
    targets.add_column("", no_wrap=True)
    for target in result.targets:
        reference = f" minus {target.compare_to}" if target.compare_to else ""
        source = f"\n{target.metric}, {target.arm}{reference}, round {target.at_round}"
        targets.add_row(
            Text.assemble(target.statement, (source, "dim")),
            f"{target.value:.4g}\n± {target.standard_error:.4g}",
            f"{target.simulated:.4g}\n± {target.simulation_standard_error:.4g}",
            f"{target.z:.2f}",
            Text(target.usage),
        )
    fit = f"distance {result.distance:.3g}"
    if result.p_value is not None:
        noun = "degree" if result.degrees_of_freedom == 1 else "degrees"
        fit += f" with {result.degrees_of_freedom} {noun} of freedom (p = {result.p_value:.2g})"
    fit += f"; {result.num_evaluations} evaluations with {result.replicates} replicates"
    warnings = [Text(f"! {warning}", style="yellow") for warning in result.warnings]
    return Group(parameters, targets, Text(f"{fit}, {result.seconds:.1f} s"), *warnings)


def _table(name: str, *headings: str) -> Table:
    numbers = [Column(heading, justify="right", no_wrap=True) for heading in headings]
    first = Column(name, overflow="fold")
    return Table(first, *numbers, box=box.HORIZONTALS)

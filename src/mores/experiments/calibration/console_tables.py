"""Console tables of a calibration."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mores.experiments.calibration.result import CalibrationResult


def calibration_tables(result: CalibrationResult) -> RenderableType:
    """Parameters, targets and warnings for a console of 80 columns."""
    parts: list[RenderableType] = [
        _parameter_table(result),
        _target_table(result),
        _summary_line(result),
    ]
    parts += [Text(f"! {warning}", style="yellow") for warning in result.warnings]
    return Group(*parts)


def _parameter_table(result: CalibrationResult) -> Table:
    table = Table(box=box.HORIZONTALS, expand=True)
    table.add_column("parameter", overflow="fold", ratio=1)
    for heading in ("fitted", "95 % interval", "search range"):
        table.add_column(heading, justify="right", no_wrap=True)
    for parameter in result.parameters:
        left = "..." if parameter.low_at_bound else ""
        right = "..." if parameter.high_at_bound else ""
        low, high = parameter.search_range
        table.add_row(
            Text(parameter.path),
            _format(parameter.value),
            Text(f"{left}[{_format(parameter.low)}, {_format(parameter.high)}]{right}"),
            Text(f"[{_format(low)}, {_format(high)}]"),
        )
    return table


def _target_table(result: CalibrationResult) -> Table:
    table = Table(box=box.HORIZONTALS, expand=True)
    table.add_column("target", overflow="fold", ratio=1)
    for heading in ("empirical", "simulated", "z"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for target in result.targets:
        reference = f" minus {target.compare_to}" if target.compare_to else ""
        source = f"\n{target.metric}, {target.arm}{reference}, round {target.at_round}"
        description = Text.assemble(target.statement, (source, "dim"))
        empirical = f"{_format(target.value)}\n± {_format(target.standard_error)}"
        simulated = f"{_format(target.simulated)}\n± {_format(target.simulation_standard_error)}"
        table.add_row(description, empirical, simulated, f"{target.z:.2f}", Text(target.usage))
    return table


def _summary_line(result: CalibrationResult) -> Text:
    fit = f"distance {result.distance:.3g}"
    if result.p_value is not None:
        noun = "degree" if result.degrees_of_freedom == 1 else "degrees"
        fit += f" with {result.degrees_of_freedom} {noun} of freedom (p = {result.p_value:.2g})"
    fit += f"; {result.num_evaluations} evaluations with {result.replicates} replicates"
    return Text(f"{fit}, {result.seconds:.1f} s")


def _format(value: float) -> str:
    return f"{value:.4g}"

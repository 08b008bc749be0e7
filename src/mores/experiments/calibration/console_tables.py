"""A calibration as tables on a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mores.experiments.calibration.result import CalibrationResult


def calibration_tables(result: CalibrationResult) -> RenderableType:
    """Parameters, targets, and what the reader must know: readable on 80 columns."""
    parts: list[RenderableType] = [
        _parameter_table(result),
        _target_table(result),
        _summary_line(result),
    ]
    parts += [Text(f"! {remark}", style="yellow") for remark in result.warnings]
    return Group(*parts)


def _parameter_table(result: CalibrationResult) -> Table:
    table = Table(box=box.HORIZONTALS, expand=True)
    table.add_column("parameter", overflow="fold", ratio=1)
    for heading in ("fitted", "95 % interval", "searched"):
        table.add_column(heading, justify="right", no_wrap=True)
    for found in result.parameters:
        low = "..." if found.low_at_bound else ""
        high = "..." if found.high_at_bound else ""
        table.add_row(
            Text(found.path),
            _format_number(found.value),
            Text(f"{low}[{_format_number(found.low)}, {_format_number(found.high)}]{high}"),
            Text(
                f"[{_format_number(found.search_range[0])}, {_format_number(found.search_range[1])}]"
            ),
        )
    return table


def _target_table(result: CalibrationResult) -> Table:
    table = Table(box=box.HORIZONTALS, expand=True)
    table.add_column("target", overflow="fold", ratio=1)
    for heading in ("figure", "simulated", "z"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for met in result.targets:
        where = f"{met.metric}, {met.arm}" + (f" less {met.compare_to}" if met.compare_to else "")
        says = Text.assemble(met.statement, (f"\n{where}, round {met.at_round}", "dim"))
        figure = f"{_format_number(met.value)}\n± {_format_number(met.standard_error)}"
        simulated = (
            f"{_format_number(met.simulated)}\n± {_format_number(met.simulation_standard_error)}"
        )
        table.add_row(says, figure, simulated, f"{met.z:.2f}", Text(met.usage))
    return table


def _summary_line(result: CalibrationResult) -> Text:
    fit = f"distance {result.distance:.3g}"
    if result.p_value is not None:
        of = "degree" if result.degrees_of_freedom == 1 else "degrees"
        fit += f" with {result.degrees_of_freedom} {of} of freedom (p = {result.p_value:.2g})"
    played = (
        f"{result.num_evaluations} points of {result.replicates} replicates, {result.seconds:.1f} s"
    )
    return Text(f"{fit}; {played}")


def _format_number(value: float) -> str:
    return f"{value:.4g}"

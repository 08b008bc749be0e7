"""A calibration as tables on a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mores.experiments.calibration.result import Calibrated


def tables(result: Calibrated) -> RenderableType:
    """Parameters, targets, and what the reader must know: readable on 80 columns."""
    parts: list[RenderableType] = [_parameters(result), _targets(result), _overall(result)]
    parts += [Text(f"! {remark}", style="yellow") for remark in result.remarks]
    return Group(*parts)


def _parameters(result: Calibrated) -> Table:
    table = Table(box=box.HORIZONTALS, expand=True)
    table.add_column("parameter", overflow="fold", ratio=1)
    for heading in ("fitted", "95 % interval", "searched"):
        table.add_column(heading, justify="right", no_wrap=True)
    for found in result.parameters:
        low = "..." if found.low_open else ""
        high = "..." if found.high_open else ""
        table.add_row(
            Text(found.path),
            _number(found.value),
            Text(f"{low}[{_number(found.low)}, {_number(found.high)}]{high}"),
            Text(f"[{_number(found.searched[0])}, {_number(found.searched[1])}]"),
        )
    return table


def _targets(result: Calibrated) -> Table:
    table = Table(box=box.HORIZONTALS, expand=True)
    table.add_column("target", overflow="fold", ratio=1)
    for heading in ("figure", "simulated", "z"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for met in result.targets:
        where = f"{met.measure}, {met.arm}" + (f" less {met.against}" if met.against else "")
        says = Text.assemble(met.says, (f"\n{where}, round {met.at}", "dim"))
        figure = f"{_number(met.value)}\n± {_number(met.error)}"
        simulated = f"{_number(met.simulated)}\n± {_number(met.simulation_error)}"
        table.add_row(says, figure, simulated, f"{met.z:.2f}", Text(met.role))
    return table


def _overall(result: Calibrated) -> Text:
    fit = f"distance {result.distance:.3g}"
    if result.probability is not None:
        of = "degree" if result.freedom == 1 else "degrees"
        fit += f" with {result.freedom} {of} of freedom (p = {result.probability:.2g})"
    played = f"{result.points} points of {result.replicates} replicates, {result.seconds:.1f} s"
    return Text(f"{fit}; {played}")


def _number(value: float) -> str:
    return f"{value:.4g}"

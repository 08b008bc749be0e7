"""What the command line shows: a table of verdicts, and where it is shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from mores.experiments.run import RunResult
    from mores.experiments.scenario.specification import Claim, Scenario

COLORS = {"holds": "green", "fails": "bold red", "undecided": "yellow", "report": "cyan"}


def verdict_table(results: Sequence[tuple[Scenario, RunResult]]) -> Table:
    """Claims and what became of them: a word beside the colour, readable on 80 columns."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.HORIZONTALS, show_lines=True, expand=True)
    table.add_column("claim", overflow="fold", ratio=1)
    table.add_column("estimate, interval", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for scenario, result in results:
        for verdict in result.verdicts:
            claim, found = verdict.claim, verdict.estimate
            colour = COLORS.get(verdict.status, "")
            points = f"{verdict.num_points} points of the sweep" if verdict.num_points > 1 else None
            over = None if claim.interval == "monte_carlo" else f"over {claim.interval}"
            about = [
                scenario.name,
                claim.stage,
                claim.kind,
                _arm_description(claim, scenario),
                over,
                points,
            ]
            about.append(claim.source or scenario.source)
            says = Text.assemble(claim.statement, ("\n" + " - ".join(filter(None, about)), "dim"))
            if verdict.status in ("fails", "undecided"):
                says.append(f"\n{verdict.reason}", style=colour)
            interval = f"[{_format_number(found.low)}, {_format_number(found.high)}]"
            if math.isinf(found.low) and math.isinf(found.high):
                interval = "no interval"
            numbers = Text.assemble(_format_number(found.value), "\n", interval)
            table.add_row(says, numbers, Text(str(found.n)), Text(verdict.status, style=colour))
    return table


def _arm_description(claim: Claim, scenario: Scenario) -> str:
    """The arm that a claim is about, and what it is compared with."""
    from mores.experiments.scenario.claim_inputs import DERIVED_METRICS, claim_arm

    if not scenario.arms:
        return ""
    other = claim.compare_to or (scenario.control if claim.metric in DERIVED_METRICS else None)
    against = f" against {other}" if other else ""
    without = f", ablation {claim.ablation}" if claim.ablation else ""
    return f"{claim_arm(scenario, claim)}{against}{without}"


def _format_number(value: float) -> str:
    return f"{value:.4g}"


def pluralize(number: int, noun: str) -> str:
    """A number of things, in words."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def stdout_console() -> Console:
    """Standard output; a reader that has gone is told by the usual exception."""
    from rich.console import Console

    class Quiet(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    wide = Quiet()
    return wide if wide.width >= 60 else Quiet(width=60)

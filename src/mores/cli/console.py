"""What the command line shows: a table of verdicts, and where it is shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from mores.experiments.run import Result
    from mores.experiments.scenario.specification import Claim, Scenario

COLOURS = {"holds": "green", "fails": "bold red", "undecided": "yellow", "report": "cyan"}


def verdicts(results: Sequence[tuple[Scenario, Result]]) -> Table:
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
            colour = COLOURS.get(verdict.verdict, "")
            points = f"{verdict.n_points} points of the sweep" if verdict.n_points > 1 else None
            over = None if claim.interval == "monte_carlo" else f"over {claim.interval}"
            about = [scenario.name, claim.stage, claim.kind, _arms(claim, scenario), over, points]
            about.append(claim.source or scenario.source)
            says = Text.assemble(claim.says, ("\n" + " - ".join(filter(None, about)), "dim"))
            if verdict.verdict in ("fails", "undecided"):
                says.append(f"\n{verdict.reason}", style=colour)
            interval = f"[{_number(found.low)}, {_number(found.high)}]"
            if math.isinf(found.low) and math.isinf(found.high):
                interval = "no interval"
            numbers = Text.assemble(_number(found.value), "\n", interval)
            table.add_row(says, numbers, Text(str(found.n)), Text(verdict.verdict, style=colour))
    return table


def _arms(claim: Claim, scenario: Scenario) -> str:
    """The arm that a claim is about, and what it is compared with."""
    from mores.experiments.scenario.claim_inputs import DERIVED, arm_of

    if not scenario.arms:
        return ""
    other = claim.against or (scenario.control if claim.measure in DERIVED else None)
    against = f" against {other}" if other else ""
    without = f", ablation {claim.ablation}" if claim.ablation else ""
    return f"{arm_of(scenario, claim)}{against}{without}"


def _number(value: float) -> str:
    return f"{value:.4g}"


def count(number: int, what: str) -> str:
    """A number of things, in words."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def output() -> Console:
    """Standard output; a reader that has gone is told by the usual exception."""
    from rich.console import Console

    class Quiet(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    wide = Quiet()
    return wide if wide.width >= 60 else Quiet(width=60)

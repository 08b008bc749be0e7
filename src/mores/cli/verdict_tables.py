"""Verdicts on claims and lists of claims: a table, or blocks of lines.

The blocks are for narrow terminals, and for pipes, where no line is broken or padded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mores.cli.console import has_room_for_table
from mores.core.errors import printable
from mores.experiments.claims.looks import describe_look
from mores.experiments.scenario.claim_inputs import claim_arm, metric_compared_with_control

if TYPE_CHECKING:
    from mores.experiments.claims.verdicts import Verdict
    from mores.experiments.run import RunResult
    from mores.experiments.run.earlier_runs import EarlierRun
    from mores.experiments.scenario.specification import Claim, Scenario

COLORS = {"holds": "green", "fails": "bold red", "undecided": "yellow", "report": "cyan"}
MIN_TABLE_WIDTH = 120  # columns


class _Row(NamedTuple):
    """A verdict in words.

    Attributes:
        about: the statement, its kind and arms, and notes on the verdict.
        value, interval, n: the estimate.
        status, adjusted: the verdict, and the one adjusted for all claims of the file; else empty.
    """

    about: list[Text]
    value: str
    interval: str
    n: str
    status: Text
    adjusted: str


def verdict_view(results: Sequence[RunResult], width: int) -> RenderableType:
    """Claims of runs with estimates and verdicts, readable without colors.

    Args:
        results: the runs.
        width: of the terminal, or `UNLIMITED_WIDTH`.
    """
    if has_room_for_table(width, MIN_TABLE_WIDTH):
        return _verdict_table(results)
    blocks: list[RenderableType] = []
    for result in results:
        blocks.append(_title(result.scenario))
        for row in _rows(result):
            adjusted = f"   {row.adjusted}" if row.adjusted else ""
            numbers = f"   {row.value} {row.interval}   n = {row.n}   "
            statement, context, *notes = row.about
            verdict = Text.assemble(row.status, (adjusted, "yellow"), numbers, context)
            blocks.append(_block([statement, verdict, *notes]))
    return Group(*blocks)


def _verdict_table(results: Sequence[RunResult]) -> Table:
    table = Table(box=box.HORIZONTALS, show_lines=True)
    table.add_column("claim", overflow="fold")
    for heading in ("verdict", "estimate, interval", "n"):
        justify = "right" if heading == "n" else "left"
        table.add_column(heading, justify=justify, no_wrap=True)
    for result in results:
        table.add_row(_title(result.scenario), "", "", "")
        for row in _rows(result):
            adjusted = row.adjusted.replace(": ", ":\n")
            verdict = Text("\n").join(filter(None, (row.status, Text(adjusted, "yellow"))))
            numbers = Text(f"{row.value}\n{row.interval}")
            table.add_row(Text("\n").join(row.about), verdict, numbers, Text(row.n))
    return table


def _rows(result: RunResult) -> Iterator[_Row]:
    for verdict in result.verdicts:
        estimate, color = verdict.estimate, COLORS.get(verdict.status, "")
        interval = f"[{_format_number(estimate.low)}, {_format_number(estimate.high)}]"
        if math.isinf(estimate.low) and math.isinf(estimate.high):
            interval = "no interval"
        is_adjusted = verdict.adjusted_status != verdict.status
        yield _Row(
            about=[Text(verdict.claim.statement), *_details(verdict, result.scenario)],
            value=_format_number(estimate.value),
            interval=interval,
            n=str(estimate.n),
            status=Text(verdict.status, style=color),
            adjusted=f"adjusted: {verdict.adjusted_status}" if is_adjusted else "",
        )


def _details(verdict: Verdict, scenario: Scenario) -> Iterator[Text]:
    """Lines below the statement of a claim."""
    claim = verdict.claim
    context = [claim.kind.replace("_", " "), claim.stage, _arm_description(claim, scenario)]
    if claim.interval != "monte_carlo":
        context.append(f"interval over {claim.interval}")
    context += [_describe_points(verdict), claim.source]
    yield Text(" - ".join(filter(None, context)), style="dim")
    lacking = any(math.isnan(each.estimate.value) for each in verdict.at_points or [verdict])
    if verdict.status in ("fails", "undecided") or lacking:
        yield Text(verdict.reason, style=COLORS[verdict.status])
    if verdict.audit is not None:
        yield Text(str(verdict.audit), style="dim")
    look = describe_look(claim, verdict.look, verdict.level)
    for note in filter(None, (verdict.warning, verdict.changed, look)):
        yield Text(note, style="yellow")


def claim_view(
    scenarios: Sequence[Scenario], runs: Mapping[str, EarlierRun], width: int
) -> RenderableType:
    """Claims of scenarios with their kinds, papers and last verdicts.

    Args:
        scenarios: the scenarios.
        runs: the newest finished run of a scenario, by its name.
        width: of the terminal, or `UNLIMITED_WIDTH`.
    """
    table = Table(box=box.HORIZONTALS)
    table.add_column("claim", overflow="fold")
    table.add_column("kind", no_wrap=True)
    table.add_column("last verdict", no_wrap=True)
    blocks: list[RenderableType] = []
    for scenario in scenarios:
        run = runs.get(scenario.name)
        title = _title(scenario, "" if run is None else f"last run {printable(run.folder.name)}")
        blocks.append(title)
        table.add_row(title, "", "")
        for claim in scenario.claims:
            verdict = "not run" if run is None else run.verdict(claim)
            status, kind = (
                Text(verdict, style=COLORS.get(verdict, "")),
                claim.kind.replace("_", " "),
            )
            lines = [Text(claim.statement)]
            lines += [Text(claim.source, style="dim")] if claim.source else []
            blocks.append(_block([lines[0], Text.assemble(status, f"   {kind}"), *lines[1:]]))
            table.add_row(Text("\n").join(lines), kind, status)
        if not scenario.claims:
            blocks.append(_block([Text("no claims", style="dim")]))
            table.add_row(Text("no claims", style="dim"), "", "")
        table.add_section()
    return table if has_room_for_table(width, MIN_TABLE_WIDTH) else Group(*blocks)


def _title(scenario: Scenario, note: str = "") -> Text:
    """Name of a scenario, with its paper and a note."""
    parts = [part for part in (scenario.source, note) if part]
    return Text.assemble(
        (scenario.name, "bold"), (f"   {'; '.join(parts)}" if parts else "", "dim")
    )


def _block(lines: Sequence[Text]) -> RenderableType:
    """Lines on a claim: the statement, and the others indented below it."""
    below = [Padding(line, (0, 0, 0, 4), expand=False) for line in lines[1:]]
    return Group(Padding(lines[0], (0, 0, 0, 2), expand=False), *below)


def _describe_points(verdict: Verdict) -> str:
    """The point of a sweep at which the estimate was taken, and the range over all points."""
    if verdict.num_points < 2:
        return ""
    point = ", ".join(f"{path}={value}" for path, value in verdict.point.items())
    low, high = map(_format_number, verdict.range)
    return f"estimate at {point}; from {low} to {high} over {verdict.num_points} points"


def _arm_description(claim: Claim, scenario: Scenario) -> str:
    """The arm of a claim, and the arm or ablation that it is compared to."""
    if not scenario.arms:
        return ""
    compared = metric_compared_with_control(claim.metric) is not None
    other = claim.compare_to or (scenario.control if compared else None)
    versus = f" vs. {other}" if other else ""
    ablation = f", ablation {claim.ablation}" if claim.ablation else ""
    changes = " as changes from {} and {}".format(*claim.references) if claim.references else ""
    return f"{claim_arm(scenario, claim)}{versus}{changes}{ablation}"


def _format_number(value: float) -> str:
    return f"{value:.4g}"

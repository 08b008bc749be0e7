"""Tables of verdicts and of claims."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from mores.experiments.claims.verdicts import Verdict
    from mores.experiments.run import RunResult
    from mores.experiments.run.earlier_runs import EarlierRun
    from mores.experiments.scenario.specification import Claim, Scenario

COLORS = {"holds": "green", "fails": "bold red", "undecided": "yellow", "report": "cyan"}


def verdict_table(results: Sequence[RunResult]) -> Table:
    """Claims with estimates and verdicts, readable without colors and on 80 columns."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from mores.experiments.claims.looks import describe_look

    table = Table(box=box.HORIZONTALS, show_lines=True, expand=True)
    table.add_column("claim", overflow="fold", ratio=1)
    table.add_column("estimate, interval", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for result in results:
        scenario = result.scenario
        for verdict in result.verdicts:
            claim, estimate = verdict.claim, verdict.estimate
            color = COLORS.get(verdict.status, "")
            points = _describe_points(verdict)
            interval_type = (
                None if claim.interval == "monte_carlo" else f"interval over {claim.interval}"
            )
            arm = _arm_description(claim, scenario)
            context = [scenario.name, claim.stage, claim.kind, arm, interval_type, points]
            context.append(claim.source or scenario.source)
            details = "\n" + " - ".join(filter(None, context))
            statement = Text.assemble(claim.statement, (details, "dim"))
            if verdict.status in ("fails", "undecided"):
                statement.append(f"\n{verdict.reason}", style=color)
            if verdict.audit is not None:
                statement.append(f"\n{verdict.audit}", style="dim")
            look = describe_look(claim, verdict.look, verdict.level)
            for note in filter(None, (verdict.warning, verdict.changed, look)):
                statement.append(f"\n{note}", style="yellow")
            interval = f"[{_format_number(estimate.low)}, {_format_number(estimate.high)}]"
            if math.isinf(estimate.low) and math.isinf(estimate.high):
                interval = "no interval"
            numbers = Text.assemble(_format_number(estimate.value), "\n", interval)
            status = Text(verdict.status, style=color)
            if verdict.adjusted_status != verdict.status:
                status.append(f"\nadjusted:\n{verdict.adjusted_status}", style="yellow")
            table.add_row(statement, numbers, Text(str(estimate.n)), status)
    return table


def claim_list(scenarios: Sequence[Scenario], runs: Mapping[str, EarlierRun]) -> Table:
    """Claims with their kinds, papers and last verdicts.

    Args:
        scenarios: the scenarios.
        runs: the newest finished run of a scenario, by its name.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.HORIZONTALS, expand=True)
    for heading, ratio in (("claim", 1), ("kind", None), ("last verdict", None)):
        table.add_column(heading, overflow="fold", ratio=ratio, no_wrap=ratio is None)
    for scenario in scenarios:
        run = runs.get(scenario.name)
        title = scenario.name if run is None else f"{scenario.name} (last run {run.folder.name})"
        table.add_row(Text(title, style="bold"), "", "")
        for claim in scenario.claims:
            verdict = "not run" if run is None else run.verdict(claim)
            source = claim.source or scenario.source
            statement = Text.assemble(claim.statement, (f"\n{source}" if source else "", "dim"))
            kind = Text(claim.kind.replace("_", " "))
            table.add_row(statement, kind, Text(verdict, style=COLORS.get(verdict, "")))
        if not scenario.claims:
            table.add_row(Text("no claims", style="dim"), "", "")
        table.add_section()
    return table


def _describe_points(verdict: Verdict) -> str | None:
    """The point of a sweep at which the estimate was taken, and the range over all points."""
    if verdict.num_points < 2:
        return None
    point = ", ".join(f"{path}={value}" for path, value in verdict.point.items())
    low, high = map(_format_number, verdict.range)
    return f"estimate at {point}; from {low} to {high} over {verdict.num_points} points"


def _arm_description(claim: Claim, scenario: Scenario) -> str:
    """The arm of a claim, and the arm or ablation that it is compared to."""
    from mores.experiments.scenario.claim_inputs import claim_arm, metric_compared_with_control

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

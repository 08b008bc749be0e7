"""The difference of a claim over the rounds: the figure that shows a run's main answer."""

from __future__ import annotations

from typing import Any

import numpy as np

from mores.experiments.claims.bounds import bound_range
from mores.experiments.claims.claim_evaluation import stage_and_round
from mores.experiments.scenario.claim_inputs import claim_arm
from mores.experiments.scenario.specification import Claim
from mores.report.figures.metric_lines import LINES_DESCRIPTION, describe_coinciding, line_panel
from mores.report.figures.plot_data import ReportData, metric_label
from mores.report.figures.rendering import FigureSpec, PanelSpec
from mores.report.figures.theme import LIGHT_COLORS, PlotStyle

BOUND_STYLE = PlotStyle("soft", (4.0, 3.0))
DRIFT_METRICS = ("mean_value", "drift", "effect_vs_control")  # have a figure of their own


def claim_figures(data: ReportData) -> list[FigureSpec]:
    """Figure of the first claim that compares two arms in a metric and rests on an interval.

    The difference of every arm that recorded the metric in the stage of the claim is drawn, paired
    by replicate, and the claim's bound. Empty without such a claim, in a sweep, and for metrics of
    drift.
    """
    numbered = enumerate(data.scenario.claims, 1)
    number, claim = next((pair for pair in numbered if _is_shown(pair[1])), (0, None))
    if claim is None or claim.compare_to not in data.arms or len(data.points) > 1:
        return []
    arm_of_claim = claim_arm(data.scenario, claim)
    stage, at_round = stage_and_round(data.scenario, claim)
    metric, reference = claim.metric, data.record(claim.compare_to)
    rounds = reference.stage(stage.name).rounds
    if metric not in reference.stage(stage.name).names or len(rounds) < 2:
        return []
    baseline = reference.by_replicate(metric, stage.name)
    differences = {}
    # the arm of the claim last: its line is above the others
    for arm in sorted(data.arms, key=lambda arm: arm == arm_of_claim):
        record = data.record(arm)
        if arm != claim.compare_to and metric in record.stage(stage.name).names:
            differences[arm] = record.by_replicate(metric, stage.name) - baseline
    name = metric_label(metric, reference)
    title = f"Claim ({number}): {name} in “{arm_of_claim}” minus “{claim.compare_to}”"
    if len(differences) > 1:
        title = f"Claim ({number}) on “{arm_of_claim}”: {name} minus that in “{claim.compare_to}”"
    panel = line_panel(data, title, differences, rounds, y_label="difference")
    in_stage = f" of stage “{stage.name}”" if data.scenario.stages else ""
    mean = ", mean over its episodes" if stage.episodes > 1 else ""
    caption = (
        f"“{claim.statement}”: {name} over the rounds{in_stage}{mean}, in each arm minus that in "
        f"“{claim.compare_to}”, which shares its {data.shared_draws}. The claim is on "
        f"“{arm_of_claim}” after round {at_round}. "
        f"{LINES_DESCRIPTION.format(data.replicates)}"
    )
    if claim.interval == "people":
        caption += " The interval of the claim covers the choice of respondents as well."
    caption += describe_coinciding({title: differences})
    shown = _with_bound(panel, claim)
    others = [arm for arm in differences if arm != arm_of_claim]
    legend = {arm: data.style(arm) for arm in differences if arm == arm_of_claim}
    legend |= {arm: data.style(arm) for arm in others}
    legend[f"bound of claim ({number})"] = BOUND_STYLE
    return [FigureSpec("answer", caption, [shown], legend, panel_size=(6.2, 3.4))]


def _is_shown(claim: Claim) -> bool:
    """Whether a claim is of the kind that the figure can show."""
    return (
        claim.kind in ("statistical", "learned", "by_construction")
        and not claim.checks_every_replicate
        and claim.compare_to is not None
        and claim.references is None
        and claim.statistic == "mean"
        and not claim.relative
        and claim.interval != "parameters"
        and claim.metric.partition("[")[0] not in DRIFT_METRICS
    )


def _with_bound(panel: PanelSpec, claim: Claim) -> PanelSpec:
    """The panel with lines at 0 and at the ends of a bound, below those of the arms."""

    def draw(axes: Any) -> None:
        if 0.0 not in bound_range(claim)[:2]:  # else it would hide the bound
            axes.axhline(0, color=LIGHT_COLORS["axis"], linewidth=0.8)
        draw_bound(axes, claim)
        panel.draw(axes)

    return panel._replace(draw=draw)


def draw_bound(axes: Any, claim: Claim) -> None:
    """Draw dashed gray lines at the ends of the bound of a claim."""
    for end in np.unique(bound_range(claim)[:2]):
        if np.isfinite(end):
            axes.axhline(end, linewidth=0.9, **BOUND_STYLE.line)

"""The difference of the first claim over the rounds: the figure that shows a run's main answer."""

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
from mores.report.figures.theme import LIGHT_COLORS

DRIFT_METRICS = ("mean_value", "drift", "effect_vs_control")  # have a figure of their own


def claim_figures(data: ReportData) -> list[FigureSpec]:
    """Figure of the first claim that compares two arms in a metric and rests on an interval.

    The difference of every arm that recorded the metric in the stage of the claim is drawn, paired
    by replicate, and the claim's bound. Empty without such a claim, in a sweep, and for metrics of
    drift.
    """
    claim = next(filter(_is_shown, data.scenario.claims), None)
    if claim is None or claim.compare_to not in data.arms or len(data.points) > 1:
        return []
    stage, at_round = stage_and_round(data.scenario, claim)
    metric, reference = claim.metric, data.record(claim.compare_to)
    rounds = reference.stage(stage.name).rounds
    if metric not in reference.stage(stage.name).names or len(rounds) < 2:
        return []
    baseline = reference.by_replicate(metric, stage.name)
    differences = {}
    for arm in data.arms:
        record = data.record(arm)
        if arm != claim.compare_to and metric in record.stage(stage.name).names:
            differences[arm] = record.by_replicate(metric, stage.name) - baseline
    name = metric_label(metric, reference)
    title = f"{name[:1].upper()}{name[1:]} minus {claim.compare_to}"
    panel = line_panel(data, title, differences, rounds, y_label="difference")
    in_stage = f" of stage “{stage.name}”" if data.scenario.stages else ""
    mean = ", mean over its episodes" if stage.episodes > 1 else ""
    caption = (
        f"“{claim.statement}”: {name} over the rounds{in_stage}{mean}, in each arm minus that in "
        f"“{claim.compare_to}”, which shares its {data.shared_draws}. Dashed: the bound of the "
        f"claim on “{claim_arm(data.scenario, claim)}” after round {at_round}. "
        f"{LINES_DESCRIPTION.format(data.replicates)}"
    )
    if claim.interval == "people":
        caption += " The interval of the claim covers the choice of respondents as well."
    caption += describe_coinciding({title: differences})
    shown = _with_bound(panel, claim)
    return [
        FigureSpec(
            "answer", caption, [shown], data.legend(list(differences)), panel_size=(6.2, 3.4)
        )
    ]


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
    """The panel with lines at 0 and at the ends of a bound."""

    def draw(axes: Any) -> None:
        panel.draw(axes)
        axes.axhline(0, color=LIGHT_COLORS["axis"], linewidth=0.8)
        draw_bound(axes, claim)

    return panel._replace(draw=draw)


def draw_bound(axes: Any, claim: Claim) -> None:
    """Draw dashed gray lines at the ends of the bound of a claim."""
    for end in np.unique(bound_range(claim)[:2]):
        if np.isfinite(end):
            axes.axhline(end, color=LIGHT_COLORS["soft"], linewidth=0.9, linestyle=(0, (4, 3)))

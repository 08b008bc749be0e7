"""Curves of a sweep: a quantity against a swept parameter, with its 95 % interval.

Numbers have lines with bands; texts have points with whiskers. Lines are the arms, or the values of
a second parameter (`sweep_axes`). Further parameters have a panel for each combination of values.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from mores.analysis.intervals import IntervalEstimate
from mores.analysis.sampling_intervals import effects_by_replicate
from mores.experiments.claims.claim_estimates import ClaimData, estimate_claim
from mores.experiments.scenario.claim_inputs import claim_arm
from mores.experiments.scenario.specification import Claim
from mores.report.figures.coinciding_lines import describe_groups
from mores.report.figures.curve_panel import Curve, CurvePanel, coinciding_curves, has_bound
from mores.report.figures.figure import describe_sample
from mores.report.figures.plot_data import (
    ReportData,
    describe_time,
    format_interval,
    metric_label,
)
from mores.report.figures.rendering import FigureSpec
from mores.report.figures.series_panel import SHIFTED, Quantity
from mores.report.figures.sweep_axes import SweepAxes, sweep_axes
from mores.report.figures.theme import PlotStyle, plot_style
from mores.report.figures.value_labels import unique_labels

RANGE = "smallest to largest replicate"
MAX_PANELS = 12
MAX_ROWS = 200  # of the table
WIDE, NARROW = (6.2, 3.4), (3.4, 2.7)  # inches: one panel, several


def curve_figure(name: str, data: ReportData, claims: Sequence[Claim]) -> FigureSpec | None:
    """Figure of one quantity with all panels of the sweep, or of several with one panel each.

    None if no arm has the metric.

    Args:
        name: of the figure's files.
        data: the results.
        claims: quantities, as claims; several only if no parameter needs panels. Their analytic
            values and bounds are drawn.
    """
    swept = sweep_axes(data)
    panels: dict[str, dict[str, Curve]] = {}
    claim_of: dict[str, Claim] = {}
    for claim in claims:
        for combination, curves in _curves(data, claim, swept).items():
            title = unique_labels([*panels, combination or _label(data, claim)])[-1]
            panels[title], claim_of[title] = curves, claim
    if not panels:
        return None
    omitted = len(panels) - MAX_PANELS
    panels = dict(itertools.islice(panels.items(), MAX_PANELS))
    x_axis = swept.quantity(NARROW if len(panels) > 1 else WIDE)
    names = list(dict.fromkeys(line for curves in panels.values() for line in curves))
    styles = _styles(data, swept, names)
    analytic = {title: _analytic(data, claim_of[title], swept, title) for title in panels}
    specs = [
        CurvePanel(
            claim=claim_of[title],
            title=title,
            label=_label(data, claim_of[title]),
            curves=curves,
            x_axis=x_axis,
            styles=styles,
            analytic=analytic[title],
        ).spec
        for title, curves in panels.items()
    ]
    caption = _caption(data, claims, swept, panels, x_axis, any(analytic.values()))
    if omitted > 0:
        caption += f" The first {MAX_PANELS} of {MAX_PANELS + omitted} panels."
    columns = (swept.line or "arm", swept.x, *(("panel",) if len(panels) > 1 else ()), "estimate")
    rows = [
        [line, text, *((title,) if len(panels) > 1 else ()), format_interval(estimate)]
        for title, curves in panels.items()
        for line, curve in curves.items()
        for text, estimate in zip(x_axis.texts, curve, strict=True)
        if estimate is not None
    ]
    legend = styles if len(styles) > 1 or len(data.arms) > 1 else {}
    return FigureSpec(
        name, caption, specs, legend, x_axis.panel_size, columns=columns, rows=rows[:MAX_ROWS]
    )


def _curves(data: ReportData, claim: Claim, swept: SweepAxes) -> dict[str, dict[str, Curve]]:
    """Estimates by panel and line, one for each x."""
    arms = [arm for arm in data.arms if arm != claim.compare_to]
    arms = [claim_arm(data.scenario, claim) or ""] if claim.references else arms
    count = len(swept.sweep[swept.x])
    found: dict[str, dict[str, Curve]] = {}
    for arm in arms:
        quantity = claim.model_copy(update={"arm": arm, "analytic": None})
        try:
            everywhere = data.claim_data(quantity)
        except (KeyError, ValueError):  # this arm has no such metric or round
            continue
        for point, at_point in zip(data.points, everywhere, strict=True):
            curves = found.setdefault(swept.panel_title(point), {})
            curve = curves.setdefault(swept.line_name(point, arm), [None] * count)
            curve[swept.x_index(point)] = _estimate(quantity, at_point)
    return found


def _estimate(claim: Claim, data: ClaimData) -> IntervalEstimate:
    """Estimate as in the verdict: of a claim on every replicate, the range of the replicates."""
    if not claim.checks_every_replicate:
        return estimate_claim(claim, data)
    values = effects_by_replicate(data.values, data.comparison, claim.relative)
    if not np.isfinite(values).all():
        return IntervalEstimate.undefined(len(values), "not finite")
    low, high = float(values.min()), float(values.max())
    value = min(max(float(values.mean()), low), high)
    return IntervalEstimate(value, low, high, len(values), RANGE, 1.0)


def _analytic(
    data: ReportData, claim: Claim, swept: SweepAxes, title: str
) -> dict[str, list[float]]:
    """Analytic values of the claim by line, one for each x; empty without."""
    if claim.analytic is None:
        return {}
    found: dict[str, list[float]] = {}
    arm = claim_arm(data.scenario, claim) or ""
    for point, at_point in zip(data.points, data.claim_data(claim), strict=True):
        if swept.panel_title(point) in ("", title) and isinstance(at_point.comparison, float):
            values = found.setdefault(
                swept.line_name(point, arm), [np.nan] * len(swept.sweep[swept.x])
            )
            values[swept.x_index(point)] = at_point.comparison
    return found


def _styles(data: ReportData, swept: SweepAxes, names: Sequence[str]) -> dict[str, PlotStyle]:
    if swept.line is None:
        return {arm: data.style(arm)._replace(draws="both") for arm in names}
    return {name: plot_style(i)._replace(draws="both") for i, name in enumerate(names)}


def _label(data: ReportData, claim: Claim) -> str:
    """Label of the y axis, or title of the panel of one of several quantities."""
    label = metric_label(claim.metric, data.record(data.arms[0]))
    label = label if claim.statistic == "mean" else f"{claim.statistic} of {label}"
    if claim.references is not None:
        label = f"difference in differences of {label}"
    elif claim.compare_to:
        label += f" {'relative to' if claim.relative else 'minus'} {claim.compare_to}"
    return label[:1].upper() + label[1:]


def _caption(
    data: ReportData,
    claims: Sequence[Claim],
    swept: SweepAxes,
    panels: Mapping[str, Mapping[str, Curve]],
    x_axis: Quantity,
    has_analytic: bool,
) -> str:
    each = "; ".join(f"{_label(data, c)} {describe_time(data.scenario, c)}" for c in claims)
    shown = [e for curves in panels.values() for curve in curves.values() for e in curve if e]
    what = "bands" if x_axis.is_numeric else "whiskers"
    statistics = " or ".join(dict.fromkeys(claim.statistic for claim in claims))
    sentences = [f"{each}, by {swept.x}{' (logarithmic axis)' if x_axis.log else ''}."]
    if all(claim.checks_every_replicate for claim in claims):
        n = max(estimate.n for estimate in shown)
        sentences.append(f"Mean of n = {n} replicates; {what}: {RANGE}.")
    else:
        sentences.append(describe_sample(shown, what, statistics))
    for claim in claims:
        if claim.references is not None:
            first, second = claim.references
            arm = claim_arm(data.scenario, claim)
            sentences.append(
                f"Difference in differences: {arm} minus {first}, "
                f"less {claim.compare_to} minus {second}."
            )
    lines = list(dict.fromkeys(line for curves in panels.values() for line in curves))
    if len(lines) == 1:
        sentences.append(f"{swept.line or 'Arm'}: {lines[0]}.")
    if has_analytic:
        sentences.append("Dashed: analytic values.")
    if any(map(has_bound, claims)):
        sentences.append("Gray, dashed: the bound of the claim.")
    if any(not np.isfinite(estimate.value) for estimate in shown):
        sentences.append("Values that are not finite are not shown.")
    if not x_axis.is_numeric and max(map(len, panels.values())) > 1:
        sentences.append(SHIFTED)
    text = " ".join(sentences)
    if x_axis.is_numeric:
        text += describe_groups({t: coinciding_curves(curves) for t, curves in panels.items()})
    return text

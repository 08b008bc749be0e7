"""Lines of metrics over rounds and over episodes: means over replicates with confidence bands.

A point of a learning curve is a metric after the last round of an episode, as in claims. If there
are more episodes than points, it is the mean over a block of episodes within each replicate; the
band is over replicates, which are the independent trainings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from mores.analysis.intervals import confidence_band
from mores.core.component_names import split_component
from mores.experiments.results.cell_result import CellResult
from mores.experiments.scenario.claim_inputs import claim_arm
from mores.experiments.scenario.stages import Stage
from mores.report.figures.coinciding_lines import (
    Turn,
    coinciding_groups,
    describe_groups,
    turns,
)
from mores.report.figures.plot_data import ReportData, format_number, metric_label
from mores.report.figures.rendering import FigureSpec, PanelSpec
from mores.report.figures.theme import PlotStyle

MAX_PANELS = 12
MAX_POINTS = 200  # points per line
MAX_BLOCKS = 60  # points per learning curve
NUM_ANALYTIC_POINTS = 9
BAND_ALPHA, MAX_CLEAR_BANDS = 0.18, 5  # opacity of a band; of more bands, less
LINES_DESCRIPTION = "Lines: mean of {} replicates; bands: 95 % interval of that mean (Student's t)."

Points = tuple[np.ndarray, np.ndarray]  # x and y of some points
Series = dict[str, Float[np.ndarray, "replicate column"]]  # by arm


def metric_figures(data: ReportData) -> list[FigureSpec]:
    """Figure of every metric over the rounds of the last stage."""
    first = data.record(data.arms[0])
    series, omitted = _metric_series(data, None, lambda record, name: record.by_replicate(name))
    if len(first.rounds) < 2 or not series:
        return []
    analytic = {name: _analytic_points(data, name) for name in series}
    panels = [
        line_panel(data, metric_label(name, first), by_arm, first.rounds, points=analytic[name])
        for name, by_arm in series.items()
    ]
    stage = f" of stage “{first.stages[-1].name}”" if data.scenario.stages else ""
    lines = LINES_DESCRIPTION.format(data.replicates)
    caption = f"Metrics over the rounds{stage}. {lines}{omitted}"
    caption += " Circles: analytic values." if any(analytic.values()) else ""
    caption += describe_coinciding({metric_label(n, first): each for n, each in series.items()})
    return [FigureSpec("metrics", caption, panels, data.legend(data.arms))]


def learning_figures(data: ReportData) -> list[FigureSpec]:
    """Figure of every metric by episode, for each simulated stage with several episodes."""
    first = data.record(data.arms[0])
    has_training = any(stage.trains_policies for stage in data.scenario.stages_or_default)
    figures = []
    for stage in data.scenario.stages_or_default:
        if stage.episodes == 1 or stage.loop == "fit_offline":
            continue

        def final_values(record: CellResult, name: str, stage: str = stage.name) -> np.ndarray:
            return record.by_episode(name, stage)[:, :, -1]

        series, omitted = _metric_series(data, stage.name, final_values)
        if not series:
            continue
        x_label = "episode"
        if has_training:
            x_label += f" of {stage.name}" + ("" if stage.trains_policies else " (frozen)")
        panels, block_size, has_gaps, drawn = [], 1, False, {}
        for name, by_arm in series.items():
            means, midpoints = {}, np.array([])
            for arm, values in by_arm.items():
                midpoints, means[arm], block_size = block_means(values)
                has_gaps |= not np.isfinite(means[arm]).all()
            title = metric_label(name, first)
            panels.append(line_panel(data, title, means, midpoints, x_label))
            drawn[title] = means
        caption = _describe_stage(data, stage, has_training)
        if block_size > 1:
            caption += f" Each point is the mean over {block_size} episodes."
        caption += f" {LINES_DESCRIPTION.format(data.replicates)}"
        if has_gaps:
            caption += " A gap in a line marks a non-finite value in some replicate."
        caption += describe_coinciding(drawn)
        name = f"{'learning' if has_training else 'episodes'}_{stage.name}"
        figures.append(FigureSpec(name, caption + omitted, panels, data.legend(data.arms)))
    return figures


def _describe_stage(data: ReportData, stage: Stage, has_training: bool) -> str:
    """Sentence on the stage for the caption."""
    text = f"Metrics after the last round of each episode of stage “{stage.name}”"
    if stage.trains_policies:
        roles = " and ".join(stage.roles_to_train)
        arms = [arm for arm in data.arms if not data.record(arm).num_models]
        is_partial = 0 < len(arms) < len(data.arms)
        exception = f" (no training in {', '.join(arms)})" if is_partial else ""
        return f"{text}, in which {roles} learns from reward{exception}."
    stages = data.scenario.stages_through(stage.name)
    if trained := [earlier.name for earlier in stages if earlier.trains_policies]:
        return f"{text}, with policies frozen after stage “{trained[-1]}”."
    return f"{text}, with policies frozen before training." if has_training else f"{text}."


def block_means(
    values: Float[np.ndarray, "replicate episode"],
) -> tuple[Float[np.ndarray, " block"], Float[np.ndarray, "replicate block"], int]:
    """Midpoints (in episodes from 1), means and size of at most `MAX_BLOCKS` blocks of episodes.

    The last block may have fewer episodes than that size.
    """
    episodes = values.shape[1]
    block_size = -(-episodes // MAX_BLOCKS)
    starts = np.arange(0, episodes, block_size)
    counts = np.diff([*starts, episodes])
    midpoints = starts + (counts + 1) / 2
    return midpoints, np.add.reduceat(values, starts, axis=1) / counts, block_size


def _metric_series(
    data: ReportData, stage: str | None, read: Callable[[CellResult, str], np.ndarray]
) -> tuple[dict[str, Series], str]:
    """Values of the metrics of a stage by name and arm, and a sentence on omitted metrics.

    Metrics without any finite value are left out; those of the claims come first.
    """
    records = {arm: data.record(arm) for arm in data.arms}
    stages = {arm: record.stage(stage) for arm, record in records.items()}
    listed = data.scenario.metric_names  # metrics of policies are in a table
    metrics = {
        arm: {n: each.array(n) for n in each.names if split_component(n)[0] in listed}
        for arm, each in stages.items()
    }
    names = [
        name
        for name in dict.fromkeys(name for by_name in metrics.values() for name in by_name)
        if any(np.isfinite(m[name]).any() for m in metrics.values() if name in m)
    ]
    claimed = {claim.metric for claim in data.scenario.claims}
    names.sort(key=lambda name: name.partition("[")[0] not in claimed)
    omitted = len(names) - MAX_PANELS
    note = f" {omitted} more metrics are in the files of the run." if omitted > 0 else ""
    series = {
        name: {arm: read(record, name) for arm, record in records.items() if name in metrics[arm]}
        for name in names[:MAX_PANELS]
    }
    return series, note


def _analytic_points(data: ReportData, name: str) -> dict[str, Points]:
    """Analytic values of a metric's mean by arm, where a claim compares the two."""
    points = {}
    for claim in data.scenario.claims:
        arm = claim_arm(data.scenario, claim) or ""
        is_mean = claim.checks_every_replicate or claim.statistic == "mean"
        if claim.metric != name or claim.analytic is None or not is_mean or arm not in data.arms:
            continue
        stage = data.record(arm).stage()
        rounds = np.array(stage.rounds)
        analytic = np.asarray(stage.analytic_values.get(claim.analytic, np.nan), dtype=np.float64)
        analytic = analytic[rounds] if analytic.ndim else np.full(len(rounds), analytic)
        chosen = evenly_spaced(len(rounds), NUM_ANALYTIC_POINTS)
        chosen = chosen[np.isfinite(analytic[chosen])]
        points[arm] = rounds[chosen], analytic[chosen]
    return points


def line_panel(
    data: ReportData,
    title: str,
    series: Mapping[str, Float[np.ndarray, "replicate column"]],
    x_values: Sequence[int] | np.ndarray,
    x_label: str = "round",
    y_label: str = "",
    points: Mapping[str, Points] | None = None,
) -> PanelSpec:
    """Panel with a line and band for each arm, and circles at some points."""

    place = turns(coinciding_arms(series))
    opacity = band_alpha(len(series))

    def draw(axes: Any) -> None:
        for arm, values in series.items():  # at columns where every replicate is finite
            columns = np.flatnonzero(np.isfinite(values).all(0))
            columns = columns[evenly_spaced(len(columns), MAX_POINTS)]
            if len(columns):
                x = np.array(x_values)[columns]
                draw_line(axes, x, values[:, columns], data.style(arm), place.get(arm), opacity)
        for arm, (x, y) in (points or {}).items():
            axes.plot(x, y, "o", ms=4.5, mfc="none", mec=data.style(arm).color, mew=1.1)
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.locator_params(nbins=5)
        axes.xaxis.get_major_locator().set_params(integer=True)

    ends = (f"{a} {format_number(float(values[:, -1].mean()))}" for a, values in series.items())
    return PanelSpec(title, f"Lines by {x_label}; at the end: {'; '.join(ends)}.", draw)


def coinciding_arms(
    series: Mapping[str, Float[np.ndarray, "replicate column"]],
) -> list[list[str]]:
    """Arms whose lines coincide in a panel with their bands."""
    means = {arm: values.mean(0) for arm, values in series.items()}
    ends = [np.zeros(0)]
    for values in series.values():
        finite = values[:, np.isfinite(values).all(0)]
        ends += [finite[0]] if len(finite) == 1 else confidence_band(finite)[1:]
    shown = np.concatenate(ends)
    return coinciding_groups(means, float(np.ptp(shown)) if len(shown) else 0.0)


def describe_coinciding(series_by_panel: Mapping[str, Series]) -> str:
    """Sentence on arms whose lines coincide, by title of the panel; empty without."""
    return describe_groups({title: coinciding_arms(s) for title, s in series_by_panel.items()})


def band_alpha(num_bands: int) -> float:
    """Opacity of the bands of a panel: lines must remain visible below many of them."""
    return BAND_ALPHA * min(1.0, MAX_CLEAR_BANDS / max(num_bands, 1))


def draw_line(
    axes: Any,
    x: np.ndarray,
    values: np.ndarray,
    style: PlotStyle,
    turn: Turn | None = None,
    opacity: float = BAND_ALPHA,
    **marker: Any,
) -> None:
    """Draw mean and band; by default, markers only on a line of one point.

    Args:
        axes: the axes.
        x: x of each column.
        values: replicate by column.
        style: color, dashes and marker.
        turn: place among the lines that coincide with this one, if there are any.
        opacity: of the band.
        marker: arguments of matplotlib.
    """
    mean, low, high = confidence_band(values)
    if len(x) == 1:
        marker = {"marker": style.marker, "ms": 4}
    line = style.line if turn is None else style.line | {"linestyle": turn.linestyle}
    axes.plot(x, mean, **line, **marker)
    if len(values) > 1:
        axes.fill_between(x, low, high, color=style.color, alpha=opacity, linewidth=0)


def evenly_spaced(length: int, count: int) -> np.ndarray:
    """At most `count` evenly spaced indices of a sequence, with both ends."""
    return np.unique(np.linspace(0, length - 1, min(length, count)).round().astype(int))

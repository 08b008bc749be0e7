"""Initial and final values of the sampled people: histograms, or maps of two dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from mores.report.figures.plot_data import (
    ReportData,
    format_number,
    indices_of_largest,
    value_label,
)
from mores.report.figures.rendering import FigureSpec, PanelSpec
from mores.report.figures.theme import LIGHT_COLORS, PlotStyle

MAX_SCATTER_PEOPLE = 200  # above: density regions instead of dots
NUM_BINS = 72
REGION_SHARES = (0.9, 0.5)  # share of people inside the outer and the inner line
START_STYLE = PlotStyle("line-7", (4.0, 2.0))
END_STYLE = PlotStyle("line-0")
MAX_ARMS = 12
MIN_ARROW_LENGTH = 0.04  # of a map's width; a shorter arrow is a dot
MAX_WIDTH_RATIO = 5.0  # of the widths of two arms' axes; above: separate scales

Ends = Float[np.ndarray, "2 person value"]  # values at the start and at the end
Limits = Float[np.ndarray, "value 2"]  # low and high end of the axis of each shown value


def people_figures(data: ReportData) -> list[FigureSpec]:
    """Figure of the sampled people of every arm; empty without trajectories."""
    latent = {arm: data.record(arm).trajectory.latent.get("values") for arm in data.arms}
    values_by_arm = {arm: values for arm, values in latent.items() if values is not None}
    if not values_by_arm:
        return []
    first_arm = next(iter(values_by_arm))
    worlds, _, people, num_values = values_by_arm[first_arm].shape
    if not num_values or not people:
        return []
    ends: dict[str, Ends] = {}
    for arm, values in values_by_arm.items():
        if values.shape[-1] == num_values:
            pair = np.stack([values[:, 0], values[:, -1]]).astype(np.float64)
            pair = pair.reshape(2, -1, num_values)
            ends[arm] = pair[:, np.isfinite(pair).all((0, 2))]
    num_arms = len(ends)
    ends = dict(list(ends.items())[:MAX_ARMS])
    # the two values with the largest mean absolute change, in their own order
    changes = [np.abs(end - start).mean(0) for start, end in ends.values() if len(start)]
    shown = [0] if num_values == 1 else indices_of_largest(np.mean(changes, 0), 2)
    ends = {arm: pair[..., shown] for arm, pair in ends.items()}
    names = [value_label(data.record(first_arm), dimension) for dimension in shown]
    limits = dict.fromkeys(ends, _axis_limits(list(ends.values())))
    if num_values == 1:
        own = {arm: _axis_limits([pair]) for arm, pair in ends.items()}
        widths = [float(np.ptp(ends)) for ends in own.values()]
        if max(widths) >= MAX_WIDTH_RATIO * min(widths):
            limits = own
        marks = "Histograms: number of people"
    else:
        marks = (
            "Circles: people, hollow at the start, filled at the end"
            if people * worlds <= MAX_SCATTER_PEOPLE
            else "Lines: regions with 50 % (inner) and 90 % (outer) of the people"
        )
        marks += "; arrow: change of the mean value (dot: small change)"
    panels = [_panel(data, arm, ends[arm], names, limits[arm]) for arm in ends]
    sample = f"{people} people in {'one world' if worlds == 1 else f'each of {worlds} worlds'}"
    rounds = data.record(first_arm).trajectory.rounds
    start = f"after {rounds[0]}" if rounds[0] else "at the start"
    caption = (
        f"Values of the people {start} and after {rounds[-1]} rounds, in value units: {sample}. "
        f"{marks}. An illustration, not an estimate."
    )
    if num_arms > MAX_ARMS:
        caption += f" The first {MAX_ARMS} of {num_arms} arms."
    legend = {"start": START_STYLE, "end": END_STYLE}
    if num_values > 1 and people * worlds <= MAX_SCATTER_PEOPLE:  # circles, hollow and filled
        legend = {
            "start": START_STYLE._replace(draws="marker", hollow=True),
            "end": END_STYLE._replace(draws="marker"),
        }
    return [FigureSpec("people", caption, panels, legend, (3.4, 2.9))]


def _panel(
    data: ReportData, arm: str, ends: Ends, names: Sequence[str], limits: Limits
) -> PanelSpec:
    num_people = ends.shape[1]

    def draw(axes: Any) -> None:
        for values, style in zip(ends, (START_STYLE, END_STYLE), strict=True):
            color, filled = style.color, style is END_STYLE
            if len(names) == 1:
                fill = {"fill": filled, "facecolor": (color, 0.25), "edgecolor": color}
                axes.hist(values[:, 0], 30, limits[0], histtype="step", linewidth=1.4, **fill)
            elif num_people <= MAX_SCATTER_PEOPLE:
                fill = {"color": color} if filled else {"edgecolors": color, "facecolors": "none"}
                axes.scatter(*values.T, s=14, alpha=0.75, linewidths=0.9, **fill)
            else:
                _draw_density_regions(axes, values, limits, style, filled)
        if len(names) == 1:
            axes.set(xlabel=names[0], ylabel="people")
        else:
            if num_people:
                _draw_arrow(axes, ends.mean(1), limits)
            axes.set(xlim=limits[0], ylim=limits[1], xlabel=names[0], ylabel=names[1])
        axes.locator_params(nbins=5)

    alt_text = "No finite values."
    if num_people:
        texts = [
            f"{name} from {format_number(float(start))} to {format_number(float(end))}"
            for name, start, end in zip(names, *ends.mean(1), strict=True)
        ]
        alt_text = f"Mean value: {'; '.join(texts)}."
    return PanelSpec(arm if data.scenario.arms else "all people", alt_text, draw)


def _draw_density_regions(
    axes: Any, values: Float[np.ndarray, "person 2"], limits: Limits, style: PlotStyle, filled: bool
) -> None:
    """Draw highest-density regions with 50 % and 90 % of the people.

    The density is a kernel estimate: counts smoothed by a normal kernel with the bandwidth of
    Scott's rule (Scott 1992, Multivariate Density Estimation).
    """
    from scipy.ndimage import gaussian_filter

    counts, x, y = np.histogram2d(*values.T, bins=NUM_BINS, range=limits)
    bins = np.ptp(limits, axis=1) / NUM_BINS
    bandwidth = len(values) ** (-1 / 6) * values.std(0) / bins  # Scott's rule
    density = gaussian_filter(counts, np.maximum(bandwidth, 1.0), mode="constant")
    ordered = np.sort(density.ravel())[::-1]
    mass = np.cumsum(ordered) / ordered.sum()
    levels = np.unique(ordered[np.searchsorted(mass, REGION_SHARES)])
    grid = *((edges[:-1] + edges[1:]) / 2 for edges in (x, y)), density.T
    colors = [style.color]
    for level in levels if filled else ():
        axes.contourf(*grid, levels=[level, np.inf], colors=colors, alpha=0.18)
    line = {"linewidths": 1.2, "linestyles": [style.line["linestyle"]]}
    axes.contour(*grid, levels=levels, colors=colors, **line)


def _draw_arrow(axes: Any, means: Float[np.ndarray, "2 value"], limits: Limits) -> None:
    """Draw an arrow between two mean values, or a dot for a small change."""
    (start, end), color = means, LIGHT_COLORS["ink"]
    axes.plot(*start, marker="o", ms=3.5, color=color)
    if (np.abs(end - start) / np.ptp(limits, axis=1)).max() > MIN_ARROW_LENGTH:
        style = {"arrowstyle": "-|>", "color": color, "shrinkA": 0, "shrinkB": 0, "lw": 1.5}
        axes.annotate("", tuple(end), tuple(start), arrowprops={**style, "mutation_scale": 9})


def _axis_limits(ends: Sequence[Ends]) -> Limits:
    """Range of each value with a margin; for many people, of the 0.5 % to 99.5 % quantiles."""
    pooled = np.concatenate([pair.reshape(-1, pair.shape[-1]) for pair in ends])
    if not len(pooled):
        return np.tile([0.0, 1.0], (pooled.shape[1], 1))
    is_small = ends[0].shape[1] <= MAX_SCATTER_PEOPLE
    low, high = np.quantile(pooled, [0.0, 1.0] if is_small else [0.005, 0.995], axis=0)
    margin = 0.16 * (high - low)
    margin = np.where(margin > 0, margin, 0.5 * np.maximum(1.0, np.abs(low)))
    return np.stack([low - margin, high + margin], axis=1)

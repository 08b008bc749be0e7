"""Initial and final values of the sampled people: histograms, or maps of two dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from mores.report.figures.plot_data import ReportData, format_number, value_label
from mores.report.figures.rendering import FigureSpec, PanelSpec
from mores.report.figures.theme import LIGHT_COLORS, PlotStyle

MAX_SCATTER_PEOPLE = 200  # above: density regions instead of dots
NUM_BINS = 72
REGION_SHARES = (0.9, 0.5)  # share of people inside the outer and the inner line
START_STYLE = PlotStyle("line-7", (4.0, 2.0), "o")
END_STYLE = PlotStyle("line-0", (), "o")
MAX_ARMS = 12
MIN_ARROW_LENGTH = 0.04  # of a map's width; a shorter arrow is a dot
MAX_WIDTH_RATIO = 5.0  # of the widths of two arms' axes; above: separate scales

Ends = tuple[Float[np.ndarray, "person value"], Float[np.ndarray, "person value"]]


def people_figures(data: ReportData) -> list[FigureSpec]:
    """Figure of the sampled people of every arm; empty without trajectories or in a sweep."""
    arms = [arm for arm in data.arms if "values" in data.record(arm).latent]
    if len(data.points) > 1 or not arms:
        return []
    first = data.record(arms[0])
    worlds, _, people, num_values = first.latent["values"].shape
    arms = [arm for arm in arms if data.record(arm).latent["values"].shape[-1] == num_values]
    if not num_values or not people:
        return []
    ends = {arm: _initial_and_final_values(data, arm) for arm in arms[:MAX_ARMS]}
    shown = [0] if num_values == 1 else _most_changed_dimensions(list(ends.values()))
    ends = {arm: (start[:, shown], end[:, shown]) for arm, (start, end) in ends.items()}
    names = [value_label(first, dimension) for dimension in shown]
    pooled = [values for pair in ends.values() for values in pair]
    limits = {arm: [_axis_limits(pooled, i) for i in range(len(shown))] for arm in ends}
    if num_values == 1:
        own = {arm: [_axis_limits(pair, 0)] for arm, pair in ends.items()}
        widths = [high - low for ((low, high),) in own.values()]
        if max(widths) >= MAX_WIDTH_RATIO * min(widths):
            limits = own
        marks = "Histograms: number of people"
    else:
        marks = (
            "Dots: people"
            if people * worlds <= MAX_SCATTER_PEOPLE
            else "Lines: regions with 50 % (inner) and 90 % (outer) of the people"
        )
        marks += "; arrow: change of the mean value (dot: small change)"
    panels = [_panel(data, arm, ends[arm], names, limits[arm]) for arm in ends]
    sample = f"{people} people in {'one world' if worlds == 1 else f'each of {worlds} worlds'}"
    caption = (
        f"Values of the people at the start and after {first.latent_rounds[-1]} rounds, in value "
        f"units: {sample}. {marks}. An illustration, not an estimate."
    )
    if len(arms) > MAX_ARMS:
        caption += f" The first {MAX_ARMS} of {len(arms)} arms."
    legend = {"start": START_STYLE, "end": END_STYLE}
    return [FigureSpec("people", caption, panels, legend, (3.4, 2.9))]


def _initial_and_final_values(data: ReportData, arm: str) -> Ends:
    """Values of all sampled people at the start and at the end."""
    values = data.record(arm).latent["values"].astype(np.float64)
    num_values = values.shape[-1]
    start, end = values[:, 0].reshape(-1, num_values), values[:, -1].reshape(-1, num_values)
    is_known = np.isfinite(start).all(1) & np.isfinite(end).all(1)
    return start[is_known], end[is_known]


def _panel(
    data: ReportData,
    arm: str,
    ends: Ends,
    names: Sequence[str],
    limits: Sequence[tuple[float, float]],
) -> PanelSpec:
    def draw(axes: Any) -> None:
        for values, style in zip(ends, (START_STYLE, END_STYLE), strict=True):
            color, filled = style.color, style is END_STYLE
            if len(names) == 1:
                edges = np.linspace(*limits[0], 31)
                counts, _ = np.histogram(values[:, 0], edges)
                axes.stairs(counts, edges, color=color, linewidth=1.4)
                if filled:
                    axes.stairs(counts, edges, color=color, alpha=0.25, fill=True)
            elif len(values) <= MAX_SCATTER_PEOPLE:
                fill = {"color": color} if filled else {"edgecolors": color, "facecolors": "none"}
                axes.scatter(*values.T, s=14, alpha=0.75, linewidths=0.9, **fill)
            elif len(values):
                _draw_density_regions(axes, values, limits, style, filled)
        if len(names) == 1:
            axes.set(xlabel=names[0], ylabel="people")
        else:
            if len(ends[0]):
                _draw_arrow(axes, ends[0].mean(0), ends[1].mean(0), limits)
            axes.set(xlim=limits[0], ylim=limits[1], xlabel=names[0], ylabel=names[1])
        axes.locator_params(nbins=5)

    alt_text = "No finite values."
    if len(ends[0]):
        means = ([format_number(float(x)) for x in values.mean(0)] for values in ends)
        changes = zip(names, *means, strict=True)
        texts = (f"{name} from {before} to {after}" for name, before, after in changes)
        alt_text = f"Mean value: {'; '.join(texts)}."
    return PanelSpec(arm if data.scenario.arms else "all people", alt_text, draw)


def _draw_density_regions(
    axes: Any,
    values: Float[np.ndarray, "agent 2"],
    limits: Sequence[tuple[float, float]],
    style: PlotStyle,
    filled: bool,
) -> None:
    """Draw highest-density regions with 50 % and 90 % of the people.

    The density is a kernel estimate: counts smoothed by a normal kernel with the bandwidth of
    Scott's rule (Scott 1992, Multivariate Density Estimation).
    """
    from scipy.ndimage import gaussian_filter

    counts, x, y = np.histogram2d(*values.T, bins=NUM_BINS, range=limits)
    bins = np.array([(high - low) / NUM_BINS for low, high in limits])
    bandwidth = len(values) ** (-1 / 6) * values.std(0) / bins  # Scott's rule
    density = gaussian_filter(counts, np.maximum(bandwidth, 1.0), mode="constant")
    ordered = np.sort(density.ravel())[::-1]
    mass = np.cumsum(ordered) / ordered.sum()
    levels = np.unique([ordered[np.searchsorted(mass, share)] for share in REGION_SHARES])
    grid = *((edges[:-1] + edges[1:]) / 2 for edges in (x, y)), density.T
    colors = [style.color]
    for level in levels if filled else ():
        axes.contourf(*grid, levels=[level, np.inf], colors=colors, alpha=0.18)
    axes.contour(*grid, levels=levels, colors=colors, linewidths=1.2, linestyles=[style.line["linestyle"]])


def _draw_arrow(axes: Any, start: np.ndarray, end: np.ndarray, limits: Any) -> None:
    """Draw an arrow between two mean values, or a dot for a small change."""
    color = LIGHT_COLORS["ink"]
    axes.plot(*start, marker="o", ms=3.5, color=color)
    shifts = [abs(end[i] - start[i]) / (high - low) for i, (low, high) in enumerate(limits)]
    if max(shifts) > MIN_ARROW_LENGTH:
        style = {"arrowstyle": "-|>", "color": color, "shrinkA": 0, "shrinkB": 0, "lw": 1.5}
        axes.annotate("", tuple(end), tuple(start), arrowprops={**style, "mutation_scale": 9})


def _most_changed_dimensions(ends: Sequence[Ends]) -> list[int]:
    """The two dimensions with the largest mean absolute change, in their own order."""
    change = np.mean([np.abs(end - start).mean(0) for start, end in ends if len(start)], axis=0)
    return sorted(np.argsort(-change, kind="stable")[:2].tolist())


def _axis_limits(values: Sequence[np.ndarray], dimension: int) -> tuple[float, float]:
    """Range of the values with a margin; for many people, of the 0.5 % to 99.5 % quantiles."""
    pooled = np.concatenate([x[:, dimension] for x in values])
    if not len(pooled):
        return 0.0, 1.0
    quantiles = [0.0, 1.0] if len(values[0]) <= MAX_SCATTER_PEOPLE else [0.005, 0.995]
    low, high = (float(end) for end in np.quantile(pooled, quantiles))
    margin = 0.16 * (high - low) or 0.5 * max(1.0, abs(low))
    return low - margin, high + margin

"""Where people stand at the start and at the end: a map of two values for each arm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from mores.report.figures.plot_data import ReportData, format_number, value_label
from mores.report.figures.rendering import FigureSpec, LegendEntry, PanelSpec
from mores.report.figures.theme import LIGHT_COLORS, PlotStyle

MAX_SCATTER_PEOPLE = 200  # people that are shown one by one
NUM_BINS = 72
REGION_SHARES = (0.9, 0.5)  # shares of the people inside the outer and the inner line
START_STYLE = PlotStyle("line-7", (4.0, 2.0), "o")
END_STYLE = PlotStyle("line-0", (), "o")
MAX_ARMS = 12
MIN_ARROW_LENGTH = 0.04  # of a map's width: arrows that are drawn
MAX_WIDTH_RATIO = 5.0  # times as wide as another arm's


def people_figures(data: ReportData) -> list[FigureSpec]:
    """The sampled people of every arm; none where none were kept."""
    arms = [arm for arm in data.arms if "values" in data.record(arm).latent]
    if len(data.points) > 1 or not arms:
        return []
    first = data.record(arms[0])
    worlds, _, people, size = first.latent["values"].shape
    arms = [arm for arm in arms if data.record(arm).latent["values"].shape[-1] == size]
    if not size or not people:
        return []
    shown_arms = arms[:MAX_ARMS]
    if size == 1:
        panels, how = _histogram_panels(data, shown_arms), "Steps: how many people stand where"
    else:
        panels = _map_panels(data, shown_arms)
        how = (
            "Dots: people"
            if people * worlds <= MAX_SCATTER_PEOPLE
            else "Inner line: half of the people are within; outer line: nine tenths"
        )
        how += "; arrow: how the centre moved (a dot: hardly)"
    what = f"{people} people of {'one world' if worlds == 1 else f'{worlds} worlds, each'}"
    caption = (
        f"Where people stand at the start and after {first.latent_rounds[-1]} rounds, in value "
        f"units: {what}. {how}. An illustration from sampled worlds, not an estimate."
    )
    if len(arms) > MAX_ARMS:
        caption += f" The first {MAX_ARMS} of {len(arms)} arms."
    legend = (LegendEntry("start", START_STYLE), LegendEntry("end", END_STYLE))
    return [FigureSpec("people", caption, tuple(panels), legend, (3.4, 2.9))]


def _initial_and_final_values(data: ReportData, arm: str) -> tuple[np.ndarray, np.ndarray]:
    """All sampled people at the start, and at the end: agent value."""
    values = data.record(arm).latent["values"].astype(np.float64)
    size = values.shape[-1]
    start, end = values[:, 0].reshape(-1, size), values[:, -1].reshape(-1, size)
    known = np.isfinite(start).all(1) & np.isfinite(end).all(1)
    return start[known], end[known]


def _histogram_panels(data: ReportData, arms: Sequence[str]) -> list[PanelSpec]:
    ends = {arm: _initial_and_final_values(data, arm) for arm in arms}
    together = _axis_limits([x for pair in ends.values() for x in pair], 0)
    own = {arm: _axis_limits(pair, 0) for arm, pair in ends.items()}
    widths = [high - low for low, high in own.values()]
    alike = max(widths) < MAX_WIDTH_RATIO * min(widths)  # else arms are on scales of their own
    name = value_label(data.record(arms[0]), 0)

    def panel(arm: str) -> PanelSpec:
        start, end = ends[arm]
        edges = np.linspace(*(together if alike else own[arm]), 31)

        def draw(axes: Any) -> None:
            for values, look, filled in ((start, START_STYLE, False), (end, END_STYLE, True)):
                counts, _ = np.histogram(values[:, 0], edges)
                axes.stairs(counts, edges, color=look.hex_color, linewidth=1.4)
                if filled:
                    axes.stairs(counts, edges, color=look.hex_color, alpha=0.25, fill=True)
            axes.set(xlabel=name, ylabel="people")
            axes.locator_params(nbins=5)

        return PanelSpec(_panel_title(data, arm), _describe_change(start, end, [name]), draw)

    return [panel(arm) for arm in arms]


def _map_panels(data: ReportData, arms: Sequence[str]) -> list[PanelSpec]:
    ends = {arm: _initial_and_final_values(data, arm) for arm in arms}
    both = _most_changed_dimensions(list(ends.values()))
    ends = {arm: (start[:, both], end[:, both]) for arm, (start, end) in ends.items()}
    limits = [_axis_limits([x for pair in ends.values() for x in pair], i) for i in (0, 1)]
    names = [value_label(data.record(arms[0]), part) for part in both]

    def panel(arm: str) -> PanelSpec:
        start, end = ends[arm]

        def draw(axes: Any) -> None:
            for values, look, filled in ((start, START_STYLE, False), (end, END_STYLE, True)):
                if len(values) <= MAX_SCATTER_PEOPLE:
                    style = {"s": 14, "alpha": 0.75, "linewidths": 0.9}
                    fill = {"color": look.hex_color} if filled else {"edgecolors": look.hex_color}
                    axes.scatter(*values.T, **style, **fill, facecolors=None if filled else "none")
                elif len(values):
                    _draw_density_regions(axes, values, limits, look, filled)
            if len(start):
                _draw_arrow(axes, start.mean(0), end.mean(0), limits)
            axes.set(xlim=limits[0], ylim=limits[1], xlabel=names[0], ylabel=names[1])
            axes.locator_params(nbins=5)

        return PanelSpec(_panel_title(data, arm), _describe_change(start, end, names), draw)

    return [panel(arm) for arm in arms]


def _draw_density_regions(
    axes: Any,
    values: Float[np.ndarray, "agent 2"],
    limits: Sequence[tuple[float, float]],
    style: PlotStyle,
    filled: bool,
) -> None:
    """Lines around the densest places that hold half, and nine tenths, of the people.

    The density is a kernel estimate: counts, smoothed by a normal kernel as wide as Scott's rule
    says (Scott 1992, Multivariate Density Estimation).
    """
    from scipy.ndimage import gaussian_filter

    counts, x, y = np.histogram2d(*values.T, bins=NUM_BINS, range=limits)
    bins = np.array([(high - low) / NUM_BINS for low, high in limits])
    smooth = len(values) ** (-1 / 6) * values.std(0) / bins  # Scott's rule
    density = gaussian_filter(counts, np.maximum(smooth, 1.0), mode="constant")
    ordered = np.sort(density.ravel())[::-1]
    held = np.cumsum(ordered) / ordered.sum()
    levels = np.unique([ordered[np.searchsorted(held, share)] for share in REGION_SHARES])
    middle = [(edges[:-1] + edges[1:]) / 2 for edges in (x, y)]
    if filled:
        for level in levels:
            axes.contourf(
                *middle, density.T, levels=[level, np.inf], colors=[style.hex_color], alpha=0.18
            )
    dashes = (0, style.dashes) if style.dashes else "-"
    axes.contour(*middle, density.T, levels=levels, colors=[style.hex_color], linewidths=1.2,
                 linestyles=[dashes])  # fmt: skip


def _draw_arrow(axes: Any, start: np.ndarray, end: np.ndarray, limits: Any) -> None:
    """From centre to centre; a dot where an arrow would be too short to have a direction."""
    style = {
        "arrowstyle": "-|>",
        "color": LIGHT_COLORS["ink"],
        "shrinkA": 0,
        "shrinkB": 0,
        "lw": 1.5,
    }
    axes.plot(*start, marker="o", ms=3.5, color=LIGHT_COLORS["ink"])
    parts = [abs(end[i] - start[i]) / (high - low) for i, (low, high) in enumerate(limits)]
    if max(parts) > MIN_ARROW_LENGTH:
        axes.annotate("", tuple(end), tuple(start), arrowprops={**style, "mutation_scale": 9})


def _most_changed_dimensions(ends: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[int]:
    """The two values along which people moved most, in their own order."""
    moved = np.mean([np.abs(end - start).mean(0) for start, end in ends if len(start)], axis=0)
    return sorted(np.argsort(-moved, kind="stable")[:2].tolist())


def _axis_limits(values: Sequence[np.ndarray], dimension: int) -> tuple[float, float]:
    """From the least to the greatest value, of many but for one in 200, with room around."""
    every = np.concatenate([x[:, dimension] for x in values])
    if not len(every):
        return 0.0, 1.0
    ends = [0.0, 1.0] if len(values[0]) <= MAX_SCATTER_PEOPLE else [0.005, 0.995]
    low, high = (float(end) for end in np.quantile(every, ends))
    room = 0.16 * (high - low) or 0.5 * max(1.0, abs(low))
    return low - room, high + room


def _panel_title(data: ReportData, arm: str) -> str:
    return arm if data.scenario.arms else "everybody"


def _describe_change(start: np.ndarray, end: np.ndarray, names: Sequence[str]) -> str:
    if not len(start):
        return "Nobody has a place."
    told = (
        f"{name} from {format_number(float(start[:, i].mean()))} to {format_number(float(end[:, i].mean()))}"
        for i, name in enumerate(names)
    )
    return f"The centre moved: {'; '.join(told)}."

"""Where people stand at the start and at the end: a map of two values for each arm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from mores.report.figures.plot_data import Shown, number, value_name
from mores.report.figures.rendering import Entry, Figure, Panel
from mores.report.figures.theme import LIGHT, Look

FEW = 200  # people that are shown one by one
BINS = 72
WITHIN = (0.9, 0.5)  # shares of the people inside the outer and the inner line
START = Look("line-7", (4.0, 2.0), "o")
END = Look("line-0", (), "o")
MOST_ARMS = 12
SHORTEST = 0.04  # of a map's width: arrows that are drawn
SCALES_APART = 5.0  # times as wide as another arm's


def people_figures(shown: Shown) -> list[Figure]:
    """The sampled people of every arm; none where none were kept."""
    arms = [arm for arm in shown.arms if "values" in shown.record(arm).hidden]
    if len(shown.points) > 1 or not arms:
        return []
    first = shown.record(arms[0])
    worlds, _, people, size = first.hidden["values"].shape
    arms = [arm for arm in arms if shown.record(arm).hidden["values"].shape[-1] == size]
    if not size or not people:
        return []
    shown_arms = arms[:MOST_ARMS]
    if size == 1:
        panels, how = _on_a_line(shown, shown_arms), "Steps: how many people stand where"
    else:
        panels = _on_a_map(shown, shown_arms)
        how = (
            "Dots: people"
            if people * worlds <= FEW
            else "Inner line: half of the people are within; outer line: nine tenths"
        )
        how += "; arrow: how the centre moved (a dot: hardly)"
    what = f"{people} people of {'one world' if worlds == 1 else f'{worlds} worlds, each'}"
    caption = (
        f"Where people stand at the start and after {first.hidden_rounds[-1]} rounds, in value "
        f"units: {what}. {how}. An illustration from sampled worlds, not an estimate."
    )
    if len(arms) > MOST_ARMS:
        caption += f" The first {MOST_ARMS} of {len(arms)} arms."
    legend = (Entry("start", START), Entry("end", END))
    return [Figure("people", caption, tuple(panels), legend, (3.4, 2.9))]


def _ends(shown: Shown, arm: str) -> tuple[np.ndarray, np.ndarray]:
    """All sampled people at the start, and at the end: agent value."""
    values = shown.record(arm).hidden["values"].astype(np.float64)
    size = values.shape[-1]
    start, end = values[:, 0].reshape(-1, size), values[:, -1].reshape(-1, size)
    known = np.isfinite(start).all(1) & np.isfinite(end).all(1)
    return start[known], end[known]


def _on_a_line(shown: Shown, arms: Sequence[str]) -> list[Panel]:
    ends = {arm: _ends(shown, arm) for arm in arms}
    together = _limits([x for pair in ends.values() for x in pair], 0)
    own = {arm: _limits(pair, 0) for arm, pair in ends.items()}
    widths = [high - low for low, high in own.values()]
    alike = max(widths) < SCALES_APART * min(widths)  # else arms are on scales of their own
    name = value_name(shown.record(arms[0]), 0)

    def panel(arm: str) -> Panel:
        start, end = ends[arm]
        edges = np.linspace(*(together if alike else own[arm]), 31)

        def draw(axes: Any) -> None:
            for values, look, filled in ((start, START, False), (end, END, True)):
                counts, _ = np.histogram(values[:, 0], edges)
                axes.stairs(counts, edges, color=look.hex, linewidth=1.4)
                if filled:
                    axes.stairs(counts, edges, color=look.hex, alpha=0.25, fill=True)
            axes.set(xlabel=name, ylabel="people")
            axes.locator_params(nbins=5)

        return Panel(_title(shown, arm), _moved(start, end, [name]), draw)

    return [panel(arm) for arm in arms]


def _on_a_map(shown: Shown, arms: Sequence[str]) -> list[Panel]:
    ends = {arm: _ends(shown, arm) for arm in arms}
    both = _most_moved(list(ends.values()))
    ends = {arm: (start[:, both], end[:, both]) for arm, (start, end) in ends.items()}
    limits = [_limits([x for pair in ends.values() for x in pair], i) for i in (0, 1)]
    names = [value_name(shown.record(arms[0]), part) for part in both]

    def panel(arm: str) -> Panel:
        start, end = ends[arm]

        def draw(axes: Any) -> None:
            for values, look, filled in ((start, START, False), (end, END, True)):
                if len(values) <= FEW:
                    style = {"s": 14, "alpha": 0.75, "linewidths": 0.9}
                    fill = {"color": look.hex} if filled else {"edgecolors": look.hex}
                    axes.scatter(*values.T, **style, **fill, facecolors=None if filled else "none")
                elif len(values):
                    _regions(axes, values, limits, look, filled)
            if len(start):
                _arrow(axes, start.mean(0), end.mean(0), limits)
            axes.set(xlim=limits[0], ylim=limits[1], xlabel=names[0], ylabel=names[1])
            axes.locator_params(nbins=5)

        return Panel(_title(shown, arm), _moved(start, end, names), draw)

    return [panel(arm) for arm in arms]


def _regions(
    axes: Any,
    values: Float[np.ndarray, "agent 2"],
    limits: Sequence[tuple[float, float]],
    look: Look,
    filled: bool,
) -> None:
    """Lines around the densest places that hold half, and nine tenths, of the people.

    The density is a kernel estimate: counts, smoothed by a normal kernel as wide as Scott's rule
    says (Scott 1992, Multivariate Density Estimation).
    """
    from scipy.ndimage import gaussian_filter

    counts, x, y = np.histogram2d(*values.T, bins=BINS, range=limits)
    bins = np.array([(high - low) / BINS for low, high in limits])
    smooth = len(values) ** (-1 / 6) * values.std(0) / bins  # Scott's rule
    density = gaussian_filter(counts, np.maximum(smooth, 1.0), mode="constant")
    ordered = np.sort(density.ravel())[::-1]
    held = np.cumsum(ordered) / ordered.sum()
    levels = np.unique([ordered[np.searchsorted(held, share)] for share in WITHIN])
    middle = [(edges[:-1] + edges[1:]) / 2 for edges in (x, y)]
    if filled:
        for level in levels:
            axes.contourf(*middle, density.T, levels=[level, np.inf], colors=[look.hex], alpha=0.18)
    dashes = (0, look.dashes) if look.dashes else "-"
    axes.contour(*middle, density.T, levels=levels, colors=[look.hex], linewidths=1.2,
                 linestyles=[dashes])  # fmt: skip


def _arrow(axes: Any, start: np.ndarray, end: np.ndarray, limits: Any) -> None:
    """From centre to centre; a dot where an arrow would be too short to have a direction."""
    style = {"arrowstyle": "-|>", "color": LIGHT["ink"], "shrinkA": 0, "shrinkB": 0, "lw": 1.5}
    axes.plot(*start, marker="o", ms=3.5, color=LIGHT["ink"])
    parts = [abs(end[i] - start[i]) / (high - low) for i, (low, high) in enumerate(limits)]
    if max(parts) > SHORTEST:
        axes.annotate("", tuple(end), tuple(start), arrowprops={**style, "mutation_scale": 9})


def _most_moved(ends: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[int]:
    """The two values along which people moved most, in their own order."""
    moved = np.mean([np.abs(end - start).mean(0) for start, end in ends if len(start)], axis=0)
    return sorted(np.argsort(-moved, kind="stable")[:2].tolist())


def _limits(values: Sequence[np.ndarray], part: int) -> tuple[float, float]:
    """From the least to the greatest value, of many but for one in 200, with room around."""
    every = np.concatenate([x[:, part] for x in values])
    if not len(every):
        return 0.0, 1.0
    ends = [0.0, 1.0] if len(values[0]) <= FEW else [0.005, 0.995]
    low, high = (float(end) for end in np.quantile(every, ends))
    room = 0.16 * (high - low) or 0.5 * max(1.0, abs(low))
    return low - room, high + room


def _title(shown: Shown, arm: str) -> str:
    return arm if shown.scenario.arms else "everybody"


def _moved(start: np.ndarray, end: np.ndarray, names: Sequence[str]) -> str:
    if not len(start):
        return "Nobody has a place."
    told = (
        f"{name} from {number(float(start[:, i].mean()))} to {number(float(end[:, i].mean()))}"
        for i, name in enumerate(names)
    )
    return f"The centre moved: {'; '.join(told)}."

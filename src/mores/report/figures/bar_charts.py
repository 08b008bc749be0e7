"""Horizontal bars with whiskers, one row per arm or parameter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mores.report.figures.rendering import PanelSpec
from mores.report.figures.theme import LIGHT_COLORS


class Bar(NamedTuple):
    """A bar from 0 to a value, with a whisker where its ends are finite.

    Attributes:
        label: tick label.
        text: name and interval, for the alternative text.
        low, value, high: ends of the whisker and of the bar.
        color: of the bar.
        is_hatched: draw an outline with hatches instead of a filled bar.
    """

    label: str
    text: str
    low: float
    value: float
    high: float
    color: str
    is_hatched: bool = False


def bar_panel(
    title: str,
    bars: Sequence[Bar],
    x_label: str = "",
    num_rows: int | None = None,
    max_whisker_ratio: float = np.inf,
) -> PanelSpec:
    """Panel of horizontal bars from top to bottom.

    Args:
        title: title of the panel.
        bars: the bars.
        x_label: label of the x axis.
        num_rows: rows for which there is space; None: one per bar.
        max_whisker_ratio: a whisker longer than this multiple of the longest bar is cut.
    """

    def draw(axes: Any) -> None:
        for y, bar in enumerate(bars):
            fill = {"fill": False, "hatch": "////"} if bar.is_hatched else {"alpha": 0.75}
            axes.barh(y, bar.value, 0.55, color=bar.color, edgecolor=bar.color, **fill)
            if np.isfinite([bar.low, bar.high]).all():
                axes.plot([bar.low, bar.high], [y, y], color=LIGHT_COLORS["ink"], lw=1.3)
        ends = np.array([(bar.low, bar.value, bar.high) for bar in bars])
        longest = float(np.nanmax(np.abs(ends[:, 1]), initial=0.0))
        limit = max_whisker_ratio * longest if longest else 0.0
        if limit and np.nanmax(ends[:, 2], initial=0.0) > limit:
            axes.set_xlim(max(float(np.nanmin(ends[:, 0])), -limit) * 1.05, limit)
        axes.axvline(0, color=LIGHT_COLORS["axis"], linewidth=0.8)
        axes.set_yticks(range(len(bars)), [bar.label for bar in bars])
        axes.set_ylim((num_rows or len(bars)) - 0.4, -0.6)
        axes.grid(False, axis="y")
        axes.set_xlabel(x_label)
        axes.locator_params(axis="x", nbins=3)

    return PanelSpec(title, f"{'; '.join(bar.text for bar in bars)}.", draw)

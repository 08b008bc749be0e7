"""Panels of series of estimates over a quantity: lines with markers, whiskers, analytic values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mores.analysis.intervals import IntervalEstimate
from mores.report.figures.figure import label_axes
from mores.report.figures.plot_data import format_interval
from mores.report.figures.rendering import PanelSpec
from mores.report.figures.theme import LIGHT_COLORS, MARKERS, PlotStyle
from mores.report.figures.value_labels import value_labels
from mores.report.figures.value_ticks import ValueTicks

Estimates = Mapping[str, Sequence[IntervalEstimate]]  # by series, one for each x
SHIFTS = (4.0, 8.0)  # points between series: at numbers and at texts on the x axis
SHIFTED = "Series are shifted sideways so that none hides another."


class Quantity(NamedTuple):
    """The x axis of panels.

    Attributes:
        values: numbers, or texts in their order.
        label: of the axis.
        log: whether the axis is logarithmic.
        size: width and height of a panel, inches.
    """

    values: tuple[float | str, ...]
    label: str
    log: bool
    size: tuple[float, float]

    @property
    def is_numeric(self) -> bool:
        """Whether the values are numbers."""
        return not isinstance(self.values[0], str)

    @property
    def positions(self) -> list[float]:
        """The numbers, or those of the texts in order."""
        return [float(x) if self.is_numeric else float(i) for i, x in enumerate(self.values)]

    @property
    def texts(self) -> list[str]:
        """Text of every value; values that differ have different texts."""
        return value_labels(self.values) if self.is_numeric else list(map(str, self.values))

    @property
    def ticks(self) -> ValueTicks:
        """Ticks at the values."""
        return ValueTicks(self.positions, self.texts, self.is_numeric, self.log, self.size[0])

    @property
    def panel_size(self) -> tuple[float, float]:
        """Width and height of a panel with its ticks, inches."""
        return self.size[0], self.size[1] + self.ticks.extra_height


def series_styles(names: Iterable[str]) -> dict[str, PlotStyle]:
    """Color and marker of every series."""
    return {
        name: PlotStyle(f"line-{i % 8}", marker=MARKERS[i % len(MARKERS)], draws="both")
        for i, name in enumerate(names)
    }


def series_panel(
    quantity: Quantity,
    estimates: Estimates,
    y_label: str,
    title: str = "",
    analytic: Mapping[str, Sequence[float]] | None = None,
    y_range: tuple[float, float] | None = None,
    is_difference: bool = False,
) -> PanelSpec:
    """Panel with one line for each series.

    Args:
        quantity: the x axis.
        estimates: by series.
        y_label: label of the y axis; may be empty below a title.
        title: of the panel.
        analytic: values by series that are drawn as dashed lines.
        y_range: limits of y; default: those of the data.
        is_difference: whether there is a line at 0 in any case.
    """
    styles = series_styles(estimates)

    def draw(axes: Any) -> None:
        for i, (name, style) in enumerate(styles.items()):
            shift = (i - (len(styles) - 1) / 2) * SHIFTS[not quantity.is_numeric]
            draw_series(axes, quantity.positions, estimates[name], style, shift)
            if analytic and name in analytic:
                pairs = sorted(zip(quantity.positions, analytic[name], strict=True))
                dashed = {"linestyle": (0, (4, 3)), "marker": "_", "ms": 12, "mew": 1.2}
                xs, ys = zip(*pairs, strict=True)
                axes.plot(xs, ys, color=style.color, lw=1.1, zorder=2, **dashed)
        label_axes(axes, quantity.label, y_label, quantity.size)
        quantity.ticks.draw(axes)
        axes.autoscale_view()
        if y_range is not None:
            axes.set_ylim(*y_range)
        low, high = axes.get_ylim()
        if low < 0.0 < high or is_difference:
            axes.axhline(0, color=LIGHT_COLORS["axis"], linewidth=0.8)
        axes.locator_params(axis="y", nbins=6)

    texts = [
        f"{name} at {text}: {format_interval(estimate)}"
        for name, each in estimates.items()
        for text, estimate in zip(quantity.texts, each, strict=True)
    ]
    alt_text = f"{y_label or title} by {quantity.label or 'x'}. {'; '.join(texts)}."
    return PanelSpec(title, alt_text, draw)


def shared_range(
    estimates: Iterable[IntervalEstimate], with_zero: bool
) -> tuple[float, float] | None:
    """Limits of y that contain every interval; None if nothing is finite."""
    ends = np.array([end for e in estimates for end in (e.low, e.value, e.high)])
    ends = ends[np.isfinite(ends)]
    if not len(ends):
        return None
    ends = np.append(ends, 0.0) if with_zero else ends
    low, high = float(ends.min()), float(ends.max())
    margin = 0.05 * (high - low or 1.0)
    return low - margin, high + margin


def draw_series(
    axes: Any,
    positions: Sequence[float],
    estimates: Sequence[IntervalEstimate],
    style: PlotStyle,
    shift: float,
) -> None:
    """Draw line, markers and whiskers of a series in the order of x.

    Args:
        axes: the axes.
        positions: x of each estimate.
        estimates: those that are not finite are left out.
        style: what is drawn beside whiskers: line, markers or both.
        shift: to the right, points.
    """
    from matplotlib.transforms import ScaledTranslation

    scale = axes.get_figure(root=False).dpi_scale_trans
    transform = axes.transData + ScaledTranslation(shift / 72.0, 0.0, scale)
    pairs = sorted(zip(positions, estimates, strict=True), key=lambda pair: pair[0])
    shown = [(x, e) for x, e in pairs if np.isfinite(e.value)]
    xs, ys = [x for x, _ in shown], [e.value for _, e in shown]
    marker = {"marker": style.marker, "ms": 5.5, "mew": 0}
    line = style.line | ({"linestyle": "none"} if style.draws == "marker" else {})
    axes.plot(xs, ys, **line, **marker, zorder=3, transform=transform)
    axes.update_datalim(list(zip(xs, ys, strict=True)))  # a transform of its own is left out
    for x, e in shown:
        if np.isfinite([e.low, e.high]).all():
            axes.update_datalim([(x, e.low), (x, e.high)])
            ends = [e.low, e.high]
            axes.plot([x, x], ends, color=style.color, lw=1.3, zorder=2, transform=transform)

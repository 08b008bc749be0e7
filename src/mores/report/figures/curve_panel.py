"""Panel with curves of a sweep: estimates against a parameter, with their 95 % intervals.

Numbers have lines with bands; texts have points with whiskers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mores.analysis.intervals import IntervalEstimate
from mores.experiments.scenario.specification import Claim
from mores.report.figures.claim_lines import draw_bound
from mores.report.figures.coinciding_lines import Turn, coinciding_groups, turns
from mores.report.figures.metric_lines import band_alpha
from mores.report.figures.plot_data import format_interval
from mores.report.figures.rendering import PanelSpec
from mores.report.figures.series_panel import SHIFTS, Quantity, draw_series
from mores.report.figures.theme import PlotStyle

Curve = list[IntervalEstimate | None]  # one for each x; None: no such cell


@dataclasses.dataclass(frozen=True)
class CurvePanel:
    """Curves of one quantity.

    Attributes:
        claim: the quantity; its bound is drawn.
        title: of the panel.
        label: of the y axis.
        curves: estimates by line.
        x_axis: values of the parameter.
        styles: by line.
        analytic: analytic values by line, one for each x; may lack lines.
    """

    claim: Claim
    title: str
    label: str
    curves: Mapping[str, Curve]
    x_axis: Quantity
    styles: Mapping[str, PlotStyle]
    analytic: Mapping[str, Sequence[float]]

    @property
    def spec(self) -> PanelSpec:
        """The panel with its alternative text."""
        texts = [
            f"{name} at {text}: {format_interval(estimate)}"
            for name, curve in self.curves.items()
            for text, estimate in zip(self.x_axis.texts, curve, strict=True)
            if estimate is not None
        ]
        alt_text = f"{self.label} by {self.x_axis.label}. {'; '.join(texts)}."
        return PanelSpec(self.title, alt_text, self.draw)

    def draw(self, axes: Any) -> None:
        """Draw the curves, their analytic values and the bound on axes of matplotlib."""
        turn_of = turns(coinciding_curves(self.curves))
        for index, name in enumerate(self.curves):
            if self.x_axis.is_numeric:
                self._draw_numeric(axes, name, turn_of.get(name))
            else:
                self._draw_categorical(axes, name, index)
            self._draw_analytic(axes, name)
        if has_bound(self.claim):
            draw_bound(axes, self.claim)
        label = "" if self.title == self.label else self.label
        axes.set(xlabel=self.x_axis.label, ylabel=label)
        self.x_axis.ticks.draw(axes)
        axes.autoscale_view()
        axes.locator_params(axis="y", nbins=6)

    def _draw_numeric(self, axes: Any, name: str, turn: Turn | None) -> None:
        """A line with its band; a turn if it coincides with other lines."""
        style = self.styles[name]
        x, (low, value, high) = self._sorted_x, _ends(self.curves[name])[:, self._order]
        line = style.line
        if turn is not None:
            line |= {"linestyle": turn.linestyle}
        shown = np.isfinite(value)
        axes.plot(x[shown], value[shown], **line, marker=style.marker, ms=4, mew=0)
        opacity = band_alpha(len(self.curves))
        axes.fill_between(x, low, high, color=style.color, alpha=opacity, linewidth=0)

    def _draw_categorical(self, axes: Any, name: str, index: int) -> None:
        """Points with whiskers, shifted sideways by the index of the line."""
        curve = self.curves[name]
        shift = (index - (len(self.curves) - 1) / 2) * SHIFTS[1]
        positions = [p for p, e in zip(self.x_axis.positions, curve, strict=True) if e]
        estimates = [estimate for estimate in curve if estimate]
        draw_series(axes, positions, estimates, self.styles[name]._replace(draws="marker"), shift)

    def _draw_analytic(self, axes: Any, name: str) -> None:
        if name not in self.analytic:
            return
        values = np.array(self.analytic[name])[self._order]
        line = {"lw": 1.1, "linestyle": (0, (4, 3)), "marker": "_"}
        axes.plot(self._sorted_x, values, color=self.styles[name].color, **line)

    @property
    def _order(self) -> Int[np.ndarray, " x"]:
        """Indices of the values from left to right."""
        return np.argsort(self.x_axis.positions, kind="stable")

    @property
    def _sorted_x(self) -> Float[np.ndarray, " x"]:
        return np.array(self.x_axis.positions)[self._order]


def has_bound(claim: Claim) -> bool:
    """Whether the bound of a claim is about the values of its panel."""
    is_trend = claim.slope_in is not None or claim.monotone_in is not None
    return claim.bound is not None and claim.analytic is None and not is_trend


def coinciding_curves(curves: Mapping[str, Curve]) -> list[list[str]]:
    """Names of curves that coincide in the range of their intervals, in groups."""
    ends = {name: _ends(curve) for name, curve in curves.items()}
    everything = np.concatenate([array.ravel() for array in ends.values()])
    everything = everything[np.isfinite(everything)]
    height = float(np.ptp(everything)) if len(everything) else 0.0
    return coinciding_groups({name: array[1] for name, array in ends.items()}, height)


def _ends(curve: Curve) -> Float[np.ndarray, "3 x"]:
    """Low end, value and high end at each x; nan where there is none."""
    missing = (np.nan,) * 3
    ends = [(e.low, e.value, e.high) if e is not None else missing for e in curve]
    array = np.array(ends, dtype=np.float64).T
    array[:, ~np.isfinite(array[1])] = np.nan
    array[::2, ~np.isfinite(array).all(0)] = np.nan
    return array

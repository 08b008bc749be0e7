"""Trade-off of two metrics: every arm is a point with 95 % intervals in both directions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from mores.analysis.intervals import IntervalEstimate
from mores.core.errors import ParameterError
from mores.experiments.scenario.base_models import check_distinct, unknown
from mores.experiments.scenario.figure_check import MetricRequirement
from mores.experiments.scenario.specification import Scenario
from mores.report.figures.figure import MetricFigure, axis_label, describe_sample, label_axes
from mores.report.figures.label_placement import PointLabel
from mores.report.figures.plot_data import ReportData, format_interval
from mores.report.figures.rendering import FigureSpec, PanelSpec
from mores.report.figures.theme import LIGHT_COLORS, MARKERS, PlotStyle

ArmNames = Annotated[tuple[str, ...], Field(min_length=1)]
SIZE = (8.2, 5.4)  # inches
MARGIN = 0.09  # of the axes, for names
MARKER_SIZE, RING_STEP = 6.5, 5.0  # points
SAME_PLACE = 0.008  # of the range of the points, in both directions


class Point(NamedTuple):
    """An arm with its two estimates."""

    series: str
    arm: str
    x: IntervalEstimate
    y: IntervalEstimate

    @property
    def is_finite(self) -> bool:
        """Whether it can be drawn."""
        return bool(np.isfinite([self.x.value, self.y.value]).all())


class Tradeoff(MetricFigure):
    """Two metrics against each other, each arm a point: mean over replicates, with 95 % intervals.

    Every series of arms has its own color and marker, and may be joined by a line in the order of
    x. A group is joined by a thin gray line, in the order of its arms: such as one protocol under
    three attack policies.
    """

    x: str = Field(description="metric on the x axis")
    y: str = Field(description="metric on the y axis")
    series: Annotated[dict[str, ArmNames], Field(min_length=1)] = Field(
        description="arms by the name of their series"
    )
    lines: tuple[str, ...] = Field(
        default=(), description="series whose points are joined, in the order of x"
    )
    groups: dict[str, ArmNames] = Field(
        default_factory=dict,
        description="arms that a thin gray line joins, by the name that labels it",
    )
    compare_to: str | None = Field(
        default=None, description="arm that is subtracted in both directions, paired by replicate"
    )
    label: bool | None = Field(
        default=None,
        description="whether points have the names of their arms; default: those in no group",
    )

    @model_validator(mode="after")
    def _check_names(self) -> Tradeoff:
        for index, name in enumerate(self.lines):
            if name not in self.series:
                raise unknown("series", name, self.series, "lines", index)
        for name, arms in self.series.items():
            check_distinct(arms, "{!r} is listed twice", "series", name)
        shown = {arm for arms in self.series.values() for arm in arms}
        for name, arms in self.groups.items():
            for index, arm in enumerate(arms):
                if arm not in shown:
                    error = unknown("arm", arm, shown, "groups", name, index)
                    message = str(error).replace("there is no arm", "no series has the arm", 1)
                    raise ParameterError(*error.path, message=message, code=error.code)
        return self

    def required_metrics(self, scenario: Scenario) -> Iterator[MetricRequirement]:
        """Both metrics of every arm."""
        for name, arms in self.series.items():
            for index, arm in enumerate(arms):
                for axis in ("x", "y"):
                    metric = getattr(self, axis)
                    yield self.requirement(metric, arm, (axis,), "series", name, index)
                    if self.compare_to is not None:
                        yield self.requirement(metric, self.compare_to, (axis,), "compare_to")

    def draw(self, data: ReportData) -> list[FigureSpec]:
        """One panel with all points."""
        metrics = (self.x, self.y)
        points = [
            Point(name, arm, *(self.estimate(data, m, arm, self.compare_to) for m in metrics))
            for name, arms in self.series.items()
            for arm in arms
        ]
        minus = f" minus {self.compare_to}" if self.compare_to else ""
        x_label, y_label = (
            f"{given or axis_label(data, metric, points[0].arm)}{minus}"
            for given, metric in zip((self.x_label, self.y_label), metrics, strict=True)
        )
        styles = {
            name: PlotStyle(
                f"line-{i % 8}",
                marker=MARKERS[i % len(MARKERS)],
                draws="both" if name in self.lines else "marker",
            )
            for i, name in enumerate(self.series)
        }

        def draw(axes: Any) -> None:
            self._draw_on(axes, [p for p in points if p.is_finite], styles)
            label_axes(axes, x_label, y_label, SIZE)

        numbers = [(p.series, p.arm, format_interval(p.x), format_interval(p.y)) for p in points]
        texts = (f"{arm} ({series}): {x}, {y}" for series, arm, x, y in numbers)
        alt_text = f"{y_label} against {x_label}. {'; '.join(texts)}."
        return [
            FigureSpec(
                "",
                self._caption(data, points),
                [PanelSpec("", alt_text, draw)],
                styles if len(styles) > 1 else {},
                SIZE,
                heading=self.title or f"{y_label} against {x_label[:1].lower()}{x_label[1:]}",
                columns=("arm", "series", x_label, y_label),
                rows=[(arm, series, x, y) for series, arm, x, y in numbers],
            )
        ]

    def _caption(self, data: ReportData, points: list[Point]) -> str:
        sentences = [self.note.strip()] if self.note else []
        minus = f", minus those in the arm {self.compare_to}, paired by replicate"
        text = f"Each point is an arm: {self.x} (x) and {self.y} (y) {self.describe_time(data)}"
        sentences.append(f"{text}{minus if self.compare_to else ''}.")
        estimates = [estimate for p in points for estimate in (p.x, p.y)]
        sentences.append(describe_sample(estimates, "whiskers"))
        if self.lines:
            sentences.append(f"Colored lines join the arms of {', '.join(self.lines)}.")
        if self.groups:
            sentences.append("Gray lines join the arms of a group, which has one label.")
        if any(ranks([p for p in points if p.is_finite])):
            sentences.append("Points at the same place are rings around each other.")
        if missing := [p.arm for p in points if not p.is_finite]:
            sentences.append(f"Not finite, and not shown: {', '.join(missing)}.")
        return " ".join(sentences)

    def _draw_on(self, axes: Any, points: list[Point], styles: Mapping[str, PlotStyle]) -> None:
        from mores.report.figures.point_labels import PointLabels

        at = {p.arm: (p.x.value, p.y.value) for p in points}
        segments: list[tuple[float, float, float, float]] = []

        def join(path: list[tuple[float, float]], **style: Any) -> None:
            if len(path) > 1:
                axes.plot(*zip(*path, strict=True), **style)
                segments.extend((*a, *b) for a, b in itertools.pairwise(path))

        for arms in self.groups.values():
            path = [at[arm] for arm in arms if arm in at]
            join(path, color=LIGHT_COLORS["axis"], lw=0.9, zorder=2)
        for name, style in styles.items():
            members = [p for p in points if p.series == name]
            path = sorted((p.x.value, p.y.value) for p in members)
            if name in self.lines:
                join(path, color=style.color, lw=1.5, zorder=3)
            for p in members:
                for low, high, is_x in ((p.x.low, p.x.high, True), (p.y.low, p.y.high, False)):
                    if not np.isfinite([low, high]).all() or low == high:
                        continue
                    x, y = p.x.value, p.y.value
                    ends = (low, y, high, y) if is_x else (x, low, x, high)
                    axes.plot(ends[::2], ends[1::2], color=style.color, lw=1.1, alpha=0.6, zorder=3)
                    segments.append(ends)
        sizes = [MARKER_SIZE + RING_STEP * rank for rank in ranks(points)]
        for p, size in zip(points, sizes, strict=True):
            ring = {"mew": 0} if size == MARKER_SIZE else {"mfc": "none", "mew": 1.5}
            marker, color = styles[p.series].marker, styles[p.series].color
            axes.plot(p.x.value, p.y.value, marker, color=color, ms=size, zorder=4, **ring)
        if self.compare_to:
            for line in (axes.axhline, axes.axvline):
                line(0, color=LIGHT_COLORS["axis"], linewidth=0.8, zorder=1)
        axes.margins(MARGIN)
        axes.locator_params(nbins=6)
        places = [(p.x.value, p.y.value) for p in points]
        radii = [size / 2 + 1.0 for size in sizes]
        labels = self._labels(points, styles)
        axes.add_artist(PointLabels(axes, labels, places, radii, segments))

    def _labels(self, points: list[Point], styles: Mapping[str, PlotStyle]) -> list[PointLabel]:
        """Names of groups, and of the arms that have their own."""
        grouped = {arm for arms in self.groups.values() for arm in arms}
        labels = []
        for name, arms in self.groups.items():
            members = tuple((p.x.value, p.y.value) for p in points if p.arm in arms)
            if members:
                labels.append(PointLabel(name, members))
        for p in points:
            if self.label or (self.label is None and p.arm not in grouped):
                color_name = styles[p.series].color_name
                labels.append(PointLabel(p.arm, ((p.x.value, p.y.value),), color_name))
        return labels


def ranks(points: Sequence[Point]) -> list[int]:
    """Number of earlier points at the place of each one."""
    at = np.array([(p.x.value, p.y.value) for p in points]).reshape(-1, 2)
    span = np.ptp(at, axis=0) if len(at) else np.ones(2)
    near = (np.abs(at[:, None] - at[None]) <= SAME_PLACE * span).all(-1)
    return np.tril(near, -1).sum(1).tolist()

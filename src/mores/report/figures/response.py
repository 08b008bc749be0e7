"""Response of metrics to a quantity that the arms vary, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from mores.analysis.intervals import IntervalEstimate
from mores.core.errors import ParameterError
from mores.experiments.scenario.base_models import unknown
from mores.experiments.scenario.figure_check import Reading
from mores.experiments.scenario.specification import Scenario
from mores.report.figures.figure import MetricFigure, axis_label, describe_sample
from mores.report.figures.label_placement import wrap_name
from mores.report.figures.plot_data import ReportData, format_interval, format_number
from mores.report.figures.rendering import FigureSpec, PanelSpec
from mores.report.figures.theme import LIGHT_COLORS, MARKERS, PlotStyle

Names = Annotated[tuple[str, ...], Field(min_length=1)]
Estimates = Mapping[str, Sequence[IntervalEstimate]]  # by series, one for each x
WIDE, NARROW = (6.2, 3.8), (4.0, 3.2)  # inches: one panel, several
SHIFTS = (4.0, 8.0)  # points between series: at numbers and at texts on the x axis
MAX_TICKS = 9  # x values that are ticks themselves
TICK_CHARACTERS = 12  # of ticks, per inch


class Response(MetricFigure):
    """Metrics against a quantity that the arms vary: mean over replicates, with 95 % intervals.

    With `compare_to`, the difference from another arm, paired by replicate.
    """

    x: tuple[float | str, ...] = Field(
        min_length=1, description="numbers, or texts, of the quantity that the arms vary"
    )
    y: str | Names = Field(description="metric on the y axis; of a list, each has a panel")
    series: Annotated[dict[str, Names], Field(min_length=1)] = Field(
        description="arms by the name of their series, one for each x"
    )
    compare_to: str | dict[str, str | Names] | None = Field(
        default=None,
        description="arm that is subtracted: one for all, or by series one or a list by x",
    )
    log_x: bool = Field(default=False, description="logarithmic x axis")

    @model_validator(mode="after")
    def _check_lengths(self) -> Response:
        for index, value in enumerate(self.x):
            if isinstance(value, str) == self.is_numeric:
                message = "has numbers and texts: give one or the other"
                raise ParameterError("x", index, message=message, code="wrong_type")
        for name, arms in self.series.items():
            self._check_length(arms, "series", name)
        references = self.compare_to if isinstance(self.compare_to, dict) else {}
        for name, arms in references.items():
            if name not in self.series:
                raise unknown("series", name, self.series, "compare_to", name)
            if not isinstance(arms, str):
                self._check_length(arms, "compare_to", name)
        if len(set(self.x)) < len(self.x):
            raise ParameterError("x", message="has a value twice", code="duplicate")
        if self.log_x and not self.is_numeric:
            raise ParameterError("log_x", message="needs numbers in x", code="conflict")
        if self.log_x and min(self.numbers) <= 0:
            message = "needs numbers above 0 in x"
            raise ParameterError("log_x", message=message, code="conflict")
        return self

    def _check_length(self, arms: Sequence[str], *path: str) -> None:
        if len(arms) != len(self.x):
            message = f"has {len(arms)} arms for {len(self.x)} values of x"
            raise ParameterError(*path, message=message, code="wrong_shape")

    @property
    def is_numeric(self) -> bool:
        """Whether x has numbers."""
        return not isinstance(self.x[0], str)

    @property
    def numbers(self) -> list[float]:
        """Positions on the x axis: the numbers, or those of the texts in order."""
        return [float(x) for x in self.x] if self.is_numeric else [*map(float, range(len(self.x)))]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics."""
        return (self.y,) if isinstance(self.y, str) else self.y

    @property
    def num_panels(self) -> int:
        """Number of panels."""
        return len(self.metrics)

    def panel_labels(self, data: ReportData) -> dict[str, str]:
        """Label of the y axis of each panel, by the name of the panel."""
        first = next(iter(self.series.values()))[0]
        return {metric: axis_label(data, metric, first) for metric in self.metrics}

    def reference(self, series: str, index: int) -> str | None:
        """The arm that is subtracted from a point."""
        given = self.compare_to
        if isinstance(given, dict):
            given = given.get(series)
        return given if given is None or isinstance(given, str) else given[index]

    def readings(self, scenario: Scenario) -> Iterator[Reading]:
        """All metrics of every arm, and of those that are subtracted."""
        for number, metric in enumerate(self.metrics):
            metric_path = ("y",) if isinstance(self.y, str) else ("y", number)
            for name, arms in self.series.items():
                for index, arm in enumerate(arms):
                    yield self.reading(metric, arm, metric_path, "series", name, index)
                    if (reference := self.reference(name, index)) is not None:
                        path = self._reference_path(name, index)
                        yield self.reading(metric, reference, metric_path, *path)

    def _reference_path(self, series: str, index: int) -> tuple[str | int, ...]:
        if not isinstance(self.compare_to, dict):
            return ("compare_to",)
        given = self.compare_to[series]
        return ("compare_to", series) if isinstance(given, str) else ("compare_to", series, index)

    def draw(self, data: ReportData) -> list[FigureSpec]:
        """One panel for each metric."""
        labels = self.panel_labels(data)
        by_metric = {metric: self._estimates(data, metric) for metric in labels}
        styles = {
            name: PlotStyle(f"line-{i % 8}", marker=MARKERS[i % len(MARKERS)], draws="both")
            for i, name in enumerate(self.series)
        }
        several = self.num_panels > 1
        panels = [
            self._panel(labels[metric] if several else "", labels[metric], estimates, styles)
            for metric, estimates in by_metric.items()
        ]
        rows = [
            [name, self._x_text(i), *(format_interval(by_metric[m][name][i]) for m in labels)]
            for name in self.series
            for i in range(len(self.x))
        ]
        x_label = self.x_label or "x"
        return [
            FigureSpec(
                "",
                self._caption(data, by_metric),
                panels,
                styles if len(styles) > 1 else {},
                self._panel_size,
                heading=self.title or " and ".join(labels.values()),
                columns=("series", x_label, *labels.values()),
                rows=rows,
            )
        ]

    def _estimates(self, data: ReportData, metric: str) -> Estimates:
        return {
            name: [
                self.estimate(data, metric, arm, self.reference(name, i))
                for i, arm in enumerate(arms)
            ]
            for name, arms in self.series.items()
        }

    def _caption(self, data: ReportData, by_metric: Mapping[str, Estimates]) -> str:
        sentences = [self.note.strip()] if self.note else []
        text = f"{', '.join(self.metrics)} {self.describe_time(data)}"
        if isinstance(self.compare_to, str):
            text += f", minus that in the arm {self.compare_to}, paired by replicate"
        elif self.compare_to:
            parts = [
                f"{name} minus {arms if isinstance(arms, str) else ', '.join(arms)}"
                for name, arms in self.compare_to.items()
            ]
            text += f"; differences, paired by replicate: {'; '.join(parts)}"
        sentences.append(f"{text}.")
        everything = [e for by_name in by_metric.values() for es in by_name.values() for e in es]
        sentences.append(describe_sample(everything, "whiskers"))
        if len(self.series) > 1:
            sentences.append("Series are shifted sideways so that none hides another.")
        if any(not np.isfinite(estimate.value) for estimate in everything):
            sentences.append("Values that are not finite are not shown.")
        return " ".join(sentences)

    def _x_text(self, index: int) -> str:
        value = self.x[index]
        return value if isinstance(value, str) else format_number(value)

    def _panel(
        self, title: str, label: str, estimates: Estimates, styles: Mapping[str, PlotStyle]
    ) -> PanelSpec:
        y_label = self.y_label or label
        if isinstance(self.compare_to, str) and not self.y_label:
            y_label += f" minus {self.compare_to}"
        elif self.compare_to and not self.y_label:
            y_label += " (difference)"

        def draw(axes: Any) -> None:
            if self.compare_to:
                axes.axhline(0, color=LIGHT_COLORS["axis"], linewidth=0.8)
            for i, (name, style) in enumerate(styles.items()):
                place = (i - (len(styles) - 1) / 2) * SHIFTS[not self.is_numeric]
                self._draw_series(axes, estimates[name], style, place)
            axes.set(xlabel=self.x_label, ylabel=y_label)
            self._set_ticks(axes)
            axes.autoscale_view()
            axes.locator_params(axis="y", nbins=6)

        texts = [
            f"{name} at {self._x_text(i)}: {format_interval(estimate)}"
            for name, each in estimates.items()
            for i, estimate in enumerate(each)
        ]
        return PanelSpec(title, f"{y_label} by {self.x_label or 'x'}. {'; '.join(texts)}.", draw)

    def _draw_series(
        self, axes: Any, estimates: Sequence[IntervalEstimate], style: PlotStyle, shift: float
    ) -> None:
        """Line, markers and whiskers of a series in the order of x, shifted by some points."""
        from matplotlib.transforms import ScaledTranslation

        scale = axes.get_figure(root=False).dpi_scale_trans
        transform = axes.transData + ScaledTranslation(shift / 72.0, 0.0, scale)
        pairs = sorted(zip(self.numbers, estimates, strict=True), key=lambda pair: pair[0])
        shown = [(x, e) for x, e in pairs if np.isfinite(e.value)]
        xs, ys = [x for x, _ in shown], [e.value for _, e in shown]
        marker = {"marker": style.marker, "ms": 5.5, "mew": 0}
        axes.plot(xs, ys, **style.line, **marker, zorder=3, transform=transform)
        axes.update_datalim(list(zip(xs, ys, strict=True)))  # a transform of its own is left out
        for x, e in shown:
            if np.isfinite([e.low, e.high]).all():
                axes.update_datalim([(x, e.low), (x, e.high)])
                ends = [e.low, e.high]
                axes.plot([x, x], ends, color=style.color, lw=1.3, zorder=2, transform=transform)

    @property
    def _tick_length(self) -> int:
        """Characters that a line of a tick can have without touching the next tick."""
        width = (NARROW if self.num_panels > 1 else WIDE)[0] - 0.9  # without the y axis
        return max(1, int(TICK_CHARACTERS * width / len(self.x)))

    @property
    def _has_tilted_ticks(self) -> bool:
        """Whether texts on the x axis are too long to stand level, in several lines."""
        lines = [
            line
            for i in range(len(self.x))
            for line in wrap_name(self._x_text(i), self._tick_length).split("\n")
        ]
        return max(map(len, lines)) > self._tick_length

    @property
    def _panel_size(self) -> tuple[float, float]:
        """Width and height in inches, with space for tilted texts."""
        width, height = NARROW if self.num_panels > 1 else WIDE
        longest = max(len(self._x_text(i)) for i in range(len(self.x)))
        return width, height + (0.03 * longest if self._has_tilted_ticks else 0.0)

    def _set_ticks(self, axes: Any) -> None:
        axes.set_xmargin(0.06)
        texts = [self._x_text(i) for i in range(len(self.x))]
        if self.log_x:
            axes.set_xscale("log")
            axes.minorticks_off()
        if self.is_numeric and len(self.x) > MAX_TICKS:
            return
        if self.is_numeric and not self.log_x and not _are_apart(self.numbers):
            return
        if self._has_tilted_ticks:
            axes.set_xticks(self.numbers, texts, rotation=25, ha="right")
        else:
            axes.set_xticks(self.numbers, [wrap_name(text, self._tick_length) for text in texts])


def _are_apart(numbers: Sequence[float]) -> bool:
    """Whether ticks at these numbers have space for their texts."""
    ordered = np.sort(numbers)
    span = float(np.ptp(ordered))
    return span == 0.0 or bool(np.diff(ordered).min() > 0.07 * span)

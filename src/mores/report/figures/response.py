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
from mores.report.figures.figure import MetricFigure, axis_label, describe_sample, label_axes
from mores.report.figures.plot_data import ReportData, format_interval, format_number
from mores.report.figures.rendering import FigureSpec, PanelSpec
from mores.report.figures.theme import LIGHT_COLORS, MARKERS, PlotStyle
from mores.report.figures.value_ticks import ValueTicks

Names = Annotated[tuple[str, ...], Field(min_length=1)]
Estimates = Mapping[str, Sequence[IntervalEstimate]]  # by series, one for each x
WIDE, NARROW = (6.2, 3.8), (4.0, 3.2)  # inches: one panel, several
SHIFTS = (4.0, 8.0)  # points between series: at numbers and at texts on the x axis


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
    analytic: str | None = Field(
        default=None, description="analytic value of the environment, a dashed line by series"
    )
    y_label: str | Names = Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default="", description="label of the y axis; of a list, titles of the panels"
    )
    log_x: bool = Field(default=False, description="logarithmic x axis")
    share_y: bool = Field(
        default=False, description="the same range of y in all panels, for metrics to compare"
    )

    @model_validator(mode="after")
    def _check_lengths(self) -> Response:
        for index, value in enumerate(self.x):
            if isinstance(value, str) == self.is_numeric:
                message = "has numbers and texts: give one or the other"
                raise ParameterError("x", index, message=message, code="wrong_type")
        if not isinstance(self.y_label, str) and len(self.y_label) != len(self.metrics):
            message = f"has {len(self.y_label)} titles for {len(self.metrics)} metrics"
            raise ParameterError("y_label", message=message, code="wrong_shape")
        if self.analytic is not None and (self.compare_to or len(self.metrics) > 1):
            message = "needs one metric, and no compare_to"
            raise ParameterError("analytic", message=message, code="conflict")
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
                    reading = self.reading(metric, arm, metric_path, "series", name, index)
                    yield reading._replace(analytic=self.analytic)
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
        by_metric = {metric: self._estimates(data, metric) for metric in self.metrics}
        analytic = self._analytic_values(data)
        styles = {
            name: PlotStyle(f"line-{i % 8}", marker=MARKERS[i % len(MARKERS)], draws="both")
            for i, name in enumerate(self.series)
        }
        first = next(iter(self.series.values()))[0]
        labels = {metric: axis_label(data, metric, first) for metric in self.metrics}
        if not isinstance(self.y_label, str):
            labels = dict(zip(self.metrics, self.y_label, strict=True))
        several = len(self.metrics) > 1
        y_range = self._shared_range(by_metric) if self.share_y else None
        panels = [
            self._panel(several, labels[metric], estimates, analytic, styles, y_range)
            for metric, estimates in by_metric.items()
        ]
        rows = [
            [name, self._x_text(i), *(format_interval(by_metric[m][name][i]) for m in labels)]
            for name in self.series
            for i in range(len(self.x))
        ]
        x_label, (width, height) = self.x_label or "x", self._panel_size
        return [
            FigureSpec(
                "",
                self._caption(data, by_metric),
                panels,
                styles if len(styles) > 1 else {},
                (width, height + self._ticks.extra_height),
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

    def _analytic_values(self, data: ReportData) -> dict[str, list[float]]:
        """Analytic values by series, in the order of x; empty without."""
        if (value := self.analytic) is None:
            return {}
        return {
            name: [data.analytic_value(value, arm, self.stage, self.at_round) for arm in arms]
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
        if self.analytic is not None:
            sentences.append(f"Dashed: the analytic value {self.analytic}.")
        if len(self.series) > 1:
            sentences.append("Series are shifted sideways so that none hides another.")
        if any(not np.isfinite(estimate.value) for estimate in everything):
            sentences.append("Values that are not finite are not shown.")
        return " ".join(sentences)

    def _x_text(self, index: int) -> str:
        value = self.x[index]
        return value if isinstance(value, str) else format_number(value)

    def _shared_range(self, by_metric: Mapping[str, Estimates]) -> tuple[float, float] | None:
        """Limits of y that contain every interval; None if nothing is finite."""
        everything = [e for by_name in by_metric.values() for es in by_name.values() for e in es]
        ends = np.array([end for e in everything for end in (e.low, e.value, e.high)])
        ends = ends[np.isfinite(ends)]
        if self.compare_to:
            ends = np.append(ends, 0.0)
        if not len(ends):
            return None
        low, high = float(ends.min()), float(ends.max())
        margin = 0.05 * (high - low or 1.0)
        return low - margin, high + margin

    def _panel(
        self,
        several: bool,
        label: str,
        estimates: Estimates,
        analytic: Mapping[str, Sequence[float]],
        styles: Mapping[str, PlotStyle],
        y_range: tuple[float, float] | None = None,
    ) -> PanelSpec:
        title = label if several else ""
        y_label = self.y_label if isinstance(self.y_label, str) else ""
        if not y_label and isinstance(self.compare_to, str):
            y_label = f"{'difference from' if several else f'{label} minus'} {self.compare_to}"
        elif not y_label and self.compare_to:
            y_label = "difference" if several else f"{label} (difference)"
        elif not (y_label or several):
            y_label = label

        def draw(axes: Any) -> None:
            for i, (name, style) in enumerate(styles.items()):
                place = (i - (len(styles) - 1) / 2) * SHIFTS[not self.is_numeric]
                self._draw_series(axes, estimates[name], style, place)
                if name in analytic:
                    xs, ys = zip(
                        *sorted(zip(self.numbers, analytic[name], strict=True)), strict=True
                    )
                    dashed = {"linestyle": (0, (4, 3)), "marker": "_", "ms": 12, "mew": 1.2}
                    axes.plot(xs, ys, color=style.color, lw=1.1, zorder=2, **dashed)
            label_axes(axes, self.x_label, y_label, self._panel_size)
            self._ticks.draw(axes)
            axes.autoscale_view()
            if y_range is not None:
                axes.set_ylim(*y_range)
            low, high = axes.get_ylim()
            if low < 0.0 < high or self.compare_to:
                axes.axhline(0, color=LIGHT_COLORS["axis"], linewidth=0.8)
            axes.locator_params(axis="y", nbins=6)

        texts = [
            f"{name} at {self._x_text(i)}: {format_interval(estimate)}"
            for name, each in estimates.items()
            for i, estimate in enumerate(each)
        ]
        name = y_label or label
        return PanelSpec(title, f"{name} by {self.x_label or 'x'}. {'; '.join(texts)}.", draw)

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
    def _panel_size(self) -> tuple[float, float]:
        """Width and height in inches, without tilted texts."""
        return NARROW if len(self.metrics) > 1 else WIDE

    @property
    def _ticks(self) -> ValueTicks:
        texts = [self._x_text(i) for i in range(len(self.x))]
        return ValueTicks(self.numbers, texts, self.is_numeric, self.log_x, self._panel_size[0])

"""Response of metrics to a quantity that the arms vary, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from mores.analysis.intervals import IntervalEstimate
from mores.core.errors import ParameterError
from mores.experiments.scenario.base_models import unknown
from mores.experiments.scenario.figure_check import MetricRequirement
from mores.experiments.scenario.specification import Scenario
from mores.report.figures.figure import MetricFigure, axis_label, describe_sample
from mores.report.figures.plot_data import ReportData, format_interval
from mores.report.figures.rendering import FigureSpec
from mores.report.figures.series_panel import (
    SHIFTED,
    Estimates,
    Quantity,
    series_panel,
    series_styles,
    shared_range,
)

Names = Annotated[tuple[str, ...], Field(min_length=1)]
WIDE, NARROW = (6.2, 3.8), (4.0, 3.2)  # inches: one panel, several


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
            if isinstance(value, str) != isinstance(self.x[0], str):
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
        if self.log_x and not all(isinstance(x, float) and x > 0.0 for x in self.x):
            message = "needs numbers above 0 in x"
            raise ParameterError("log_x", message=message, code="conflict")
        return self

    def _check_length(self, arms: Sequence[str], *path: str) -> None:
        if len(arms) != len(self.x):
            message = f"has {len(arms)} arms for {len(self.x)} values of x"
            raise ParameterError(*path, message=message, code="wrong_shape")

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

    def required_metrics(self, scenario: Scenario) -> Iterator[MetricRequirement]:
        """All metrics of every arm, and of those that are subtracted."""
        for number, metric in enumerate(self.metrics):
            metric_path = ("y",) if isinstance(self.y, str) else ("y", number)
            for name, arms in self.series.items():
                for index, arm in enumerate(arms):
                    requirement = self.requirement(metric, arm, metric_path, "series", name, index)
                    yield requirement._replace(analytic=self.analytic)
                    if (reference := self.reference(name, index)) is not None:
                        path = self._reference_path(name, index)
                        yield self.requirement(metric, reference, metric_path, *path)

    def _reference_path(self, series: str, index: int) -> tuple[str | int, ...]:
        if not isinstance(self.compare_to, dict):
            return ("compare_to",)
        given = self.compare_to[series]
        return ("compare_to", series) if isinstance(given, str) else ("compare_to", series, index)

    def draw(self, data: ReportData) -> list[FigureSpec]:
        """One panel for each metric."""
        quantity = self._quantity
        by_metric = {metric: self._estimates(data, metric) for metric in self.metrics}
        first = next(iter(self.series.values()))[0]
        titles = (axis_label(data, metric, first) for metric in self.metrics)
        titles = titles if isinstance(self.y_label, str) else self.y_label
        labels = dict(zip(self.metrics, titles, strict=True))
        several = len(self.metrics) > 1
        is_difference = self.compare_to is not None
        y_range = shared_range(_all_of(by_metric), is_difference) if self.share_y else None
        panels = [
            series_panel(
                quantity,
                estimates,
                self._axis_label(labels[metric], several),
                labels[metric] if several else "",
                self._analytic_values(data),
                y_range,
                is_difference,
            )
            for metric, estimates in by_metric.items()
        ]
        rows = [
            [name, text, *(format_interval(by_metric[m][name][i]) for m in labels)]
            for name in self.series
            for i, text in enumerate(quantity.texts)
        ]
        styles = series_styles(self.series)
        return [
            FigureSpec(
                "",
                self._caption(data, by_metric),
                panels,
                styles if len(styles) > 1 else {},
                quantity.panel_size,
                heading=self.title or " and ".join(labels.values()),
                columns=("series", self.x_label or "x", *labels.values()),
                rows=rows,
            )
        ]

    @property
    def _quantity(self) -> Quantity:
        size = NARROW if len(self.metrics) > 1 else WIDE
        return Quantity(self.x, self.x_label, self.log_x, size)

    def _axis_label(self, label: str, several: bool) -> str:
        """Label of the y axis of the metric with this label."""
        given = self.y_label if isinstance(self.y_label, str) else ""
        if isinstance(self.compare_to, str):
            start = "difference from" if several and not given else f"{given or label} minus"
            return f"{start} {self.compare_to}"
        if self.compare_to and not given:
            return "difference" if several else f"{label} (difference)"
        return given or ("" if several else label)

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
        everything = list(_all_of(by_metric))
        sentences.append(describe_sample(everything, "whiskers"))
        if self.analytic is not None:
            sentences.append(f"Dashed: the analytic value {self.analytic}.")
        if len(self.series) > 1:
            sentences.append(SHIFTED)
        if any(not np.isfinite(estimate.value) for estimate in everything):
            sentences.append("Values that are not finite are not shown.")
        return " ".join(sentences)


def _all_of(by_metric: Mapping[str, Estimates]) -> Iterator[IntervalEstimate]:
    """All estimates of several metrics."""
    for estimates in by_metric.values():
        for each in estimates.values():
            yield from each

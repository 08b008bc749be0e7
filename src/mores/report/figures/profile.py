"""Profile of arms: several metrics of one unit beside each other, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, model_validator

from mores.core.errors import ParameterError
from mores.experiments.scenario.base_models import check_distinct
from mores.experiments.scenario.figure_check import Reading
from mores.experiments.scenario.specification import Scenario
from mores.report.figures.figure import MetricFigure, axis_label, describe_sample
from mores.report.figures.plot_data import ReportData, format_interval
from mores.report.figures.rendering import FigureSpec
from mores.report.figures.series_panel import (
    SHIFTED,
    Quantity,
    series_panel,
    series_styles,
)

SIZE = (6.2, 3.8)  # inches


class Profile(MetricFigure):
    """Several metrics of one unit, side by side, with a line for each arm: mean over replicates,
    with 95 % intervals.

    Such as the share of an answer under four conditions, or the components of a vector.
    """

    metrics: tuple[str, ...] = Field(min_length=1, description="metrics along the x axis")
    x: tuple[str, ...] = Field(
        default=(), description="texts of the metrics on the x axis; default: their names"
    )
    series: Annotated[dict[str, str], Field(min_length=1)] = Field(
        description="arm by the name of its series"
    )
    compare_to: str | None = Field(default=None, description="arm that is subtracted")

    @model_validator(mode="after")
    def _check_lengths(self) -> Profile:
        check_distinct(self.metrics, "{!r} is listed twice", "metrics")
        if self.x and len(self.x) != len(self.metrics):
            message = f"has {len(self.x)} texts for {len(self.metrics)} metrics"
            raise ParameterError("x", message=message, code="wrong_shape")
        return self

    def readings(self, scenario: Scenario) -> Iterator[Reading]:
        """All metrics of every arm, and of that which is subtracted."""
        for index, metric in enumerate(self.metrics):
            for name, arm in self.series.items():
                yield self.reading(metric, arm, ("metrics", index), "series", name)
            if self.compare_to is not None:
                yield self.reading(metric, self.compare_to, ("metrics", index), "compare_to")

    def draw(self, data: ReportData) -> list[FigureSpec]:
        """One panel."""
        estimates = {
            name: [self.estimate(data, metric, arm, self.compare_to) for metric in self.metrics]
            for name, arm in self.series.items()
        }
        first = next(iter(self.series.values()))
        texts = self.x or tuple(axis_label(data, metric, first) for metric in self.metrics)
        quantity = Quantity(texts, self.x_label, False, SIZE)
        y_label = self.y_label or (f"difference from {self.compare_to}" if self.compare_to else "")
        is_difference = self.compare_to is not None
        panel = series_panel(quantity, estimates, y_label, is_difference=is_difference)
        styles = series_styles(self.series)
        sentences = [self.note.strip()] if self.note else []
        minus = f", minus that in the arm {self.compare_to}, paired by replicate"
        text = f"{', '.join(self.metrics)} {self.describe_time(data)}"
        sentences.append(f"{text}{minus if is_difference else ''}.")
        sentences.append(
            describe_sample((e for each in estimates.values() for e in each), "whiskers")
        )
        sentences += [SHIFTED] * (len(styles) > 1)
        return [
            FigureSpec(
                "",
                " ".join(sentences),
                [panel],
                styles if len(styles) > 1 else {},
                quantity.panel_size,
                heading=self.title or y_label or "Profile of arms",
                columns=("series", *texts),
                rows=[[name, *map(format_interval, each)] for name, each in estimates.items()],
            )
        ]

"""Profile of arms: several metrics of one unit beside each other, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field, model_validator

from mores.core.errors import ParameterError
from mores.experiments.scenario.figure_check import MetricRequirement
from mores.experiments.scenario.specification import Scenario
from mores.report.figures.figure import MetricFigure, describe_sample
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
    """Metrics of one unit side by side, one for each x; a series is an arm.

    For a quantity that every arm has under several conditions, each a metric of its own: x names
    the conditions. With `compare_to`, the difference from another arm, paired by replicate.
    """

    x: tuple[str, ...] = Field(min_length=1, description="texts on the x axis, one for each metric")
    y: tuple[str, ...] = Field(min_length=1, description="metrics, one for each x")
    series: dict[str, tuple[str]] = Field(
        min_length=1, description="arm by the name of its series, a list of one"
    )
    compare_to: str | None = Field(default=None, description="arm that is subtracted")

    @model_validator(mode="after")
    def _check_lengths(self) -> Profile:
        if len(self.y) != len(self.x):
            message = f"has {len(self.y)} metrics for {len(self.x)} values of x"
            raise ParameterError("y", message=message, code="wrong_shape")
        if len(set(self.x)) < len(self.x):
            raise ParameterError("x", message="has a text twice", code="duplicate")
        return self

    def required_metrics(self, scenario: Scenario) -> Iterator[MetricRequirement]:
        """All metrics of every arm, and of that which is subtracted."""
        for index, metric in enumerate(self.y):
            for name, (arm,) in self.series.items():
                yield self.requirement(metric, arm, ("y", index), "series", name, 0)
            if self.compare_to is not None:
                yield self.requirement(metric, self.compare_to, ("y", index), "compare_to")

    def draw(self, data: ReportData) -> list[FigureSpec]:
        """One panel."""
        estimates = {
            name: [self.estimate(data, metric, arm, self.compare_to) for metric in self.y]
            for name, (arm,) in self.series.items()
        }
        quantity = Quantity(self.x, self.x_label, False, SIZE)
        y_label = self.y_label
        if self.compare_to is not None:
            start = f"{y_label} minus" if y_label else "difference from"
            y_label = f"{start} {self.compare_to}"
        is_difference = self.compare_to is not None
        panel = series_panel(quantity, estimates, y_label, is_difference=is_difference)
        styles = series_styles(self.series)
        minus = f", minus that in the arm {self.compare_to}, paired by replicate"
        text = f"{', '.join(self.y)} {self.describe_time(data)}{minus if is_difference else ''}."
        everything = [estimate for each in estimates.values() for estimate in each]
        sentences = [self.note.strip()] if self.note else []
        sentences += [text, describe_sample(everything, "whiskers")]
        sentences += [SHIFTED] * (len(styles) > 1)
        return [
            FigureSpec(
                "",
                " ".join(sentences),
                [panel],
                styles if len(styles) > 1 else {},
                quantity.panel_size,
                heading=self.title or y_label or "Profile of arms",
                columns=("series", *self.x),
                rows=[[name, *map(format_interval, each)] for name, each in estimates.items()],
            )
        ]

"""Profile of arms: several metrics side by side, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import Field, model_validator

from mores.analysis.intervals import IntervalEstimate
from mores.core.errors import ParameterError
from mores.experiments.scenario.figure_check import Reading
from mores.experiments.scenario.specification import Scenario
from mores.report.figures.figure import axis_label
from mores.report.figures.plot_data import ReportData
from mores.report.figures.response import Names, Response


class Profile(Response):
    """Metrics of one unit side by side, one for each x; a series is an arm.

    For a quantity that every arm has under several conditions, each a metric of its own: x names
    the conditions. With `compare_to`, the difference from another arm, paired by replicate.
    """

    y: Names = Field(description="metrics, one for each x")  # type: ignore[assignment]

    @model_validator(mode="after")
    def _check_metrics(self) -> Profile:
        if len(self.y) != len(self.x):
            message = f"has {len(self.y)} metrics for {len(self.x)} values of x"
            raise ParameterError("y", message=message, code="wrong_shape")
        return self

    def _check_length(self, arms: Sequence[str], *path: str) -> None:
        if len(arms) != 1:
            message = f"has {len(arms)} arms; a series of a profile has one"
            raise ParameterError(*path, message=message, code="wrong_shape")

    @property
    def num_panels(self) -> int:
        """One panel."""
        return 1

    def panel_labels(self, data: ReportData) -> dict[str, str]:
        """Label of the y axis: `y_label`, or that of the first metric."""
        first = next(iter(self.series.values()))[0]
        return {self.y[0]: self.y_label or axis_label(data, self.y[0], first)}

    def readings(self, scenario: Scenario) -> Iterator[Reading]:
        """Every metric of every arm, and of those that are subtracted."""
        for number, metric in enumerate(self.y):
            for name, (arm,) in self.series.items():
                yield self.reading(metric, arm, ("y", number), "series", name, 0)
                if (reference := self.reference(name, 0)) is not None:
                    path = self._reference_path(name, 0)
                    yield self.reading(metric, reference, ("y", number), *path)

    def _estimates(self, data: ReportData, metric: str) -> dict[str, Sequence[IntervalEstimate]]:
        return {
            name: [self.estimate(data, each, arm, self.reference(name, 0)) for each in self.y]
            for name, (arm,) in self.series.items()
        }

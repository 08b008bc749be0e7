"""Figures that a scenario lists under `figures`: what they read, and how they are drawn."""

from __future__ import annotations

import dataclasses
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import Field

from mores import registry
from mores.analysis.intervals import IntervalEstimate
from mores.core.config import Config
from mores.core.errors import UserError, describe_exception
from mores.experiments.scenario.figure_check import MetricRequirement
from mores.experiments.scenario.specification import Claim, Scenario
from mores.report.figures.plot_data import ReportData, describe_time, metric_label
from mores.report.figures.rendering import FigureSpec

CHARACTERS_PER_INCH = 11  # of axis labels
AXIS_WIDTH = 0.7  # inches, of the axis beside a label


class Figure(Config, ABC):
    """A figure of a scenario, with its parameters.

    `mores check` refuses a figure if the scenario does not record its `required_metrics`.
    """

    title: str = Field(default="", description="heading; default: names of the metrics")
    note: str = Field(default="", description="text at the start of the caption")

    @abstractmethod
    def required_metrics(self, scenario: Scenario) -> Iterable[MetricRequirement]:
        """The metrics of arms that the figure needs."""

    @abstractmethod
    def draw(self, data: ReportData) -> Sequence[FigureSpec]:
        """The figures of the report, from the recorded results.

        The caption states sample size, interval method and units. Names of files and sections are
        set by the caller.
        """


class MetricFigure(Figure):
    """A figure of metrics at one round of a stage."""

    stage: str | None = Field(
        default=None, description="stage, averaged over its episodes; default: the last"
    )
    at_round: int | None = Field(
        default=None, ge=0, description="completed rounds; default: the end of the episode"
    )
    x_label: str = Field(default="", description="label of the x axis; default: its name")
    y_label: str = Field(default="", description="label of the y axis; default: its name")

    def requirement(
        self, metric: str, arm: str, metric_path: tuple[str | int, ...], *arm_path: str | int
    ) -> MetricRequirement:
        """A metric of an arm in the stage and round of the figure."""
        return MetricRequirement(metric, arm, self.stage, self.at_round, metric_path, arm_path)

    def estimate(
        self, data: ReportData, metric: str, arm: str, compare_to: str | None = None
    ) -> IntervalEstimate:
        """Mean with its interval, at the stage and round of the figure."""
        return data.estimate(metric, arm, compare_to, self.stage, self.at_round)

    def describe_time(self, data: ReportData) -> str:
        """Text on round and stage: `after 10 rounds of stage “test”`."""
        fields = {"stage": self.stage, "at_round": self.at_round}
        claim = Claim.model_validate({"statement": "-", "kind": "report", "metric": "-", **fields})
        return describe_time(data.scenario, claim)


def scenario_figures(data: ReportData) -> list[FigureSpec]:
    """The figures that the scenario lists, in its order; they are named `figure_1` and so on.

    A figure that cannot be drawn is a sentence with the reason: the results of the run are the same
    without it.
    """
    specs: list[FigureSpec] = []
    for index, entry in enumerate(data.scenario.figures, 1):
        heading = str(entry.parameters.get("title") or f"Figure {index}")
        try:
            figure = registry.build("figure", entry.kind, entry.parameters, strict=True)
            drawn = list(figure.draw(data))
        except Exception as error:
            reason = str(error) if isinstance(error, UserError) else describe_exception(error)
            message = f"The figure {entry.kind} could not be drawn: {reason}"
            drawn = [FigureSpec("", message, [], heading=heading)]
        for part, spec in enumerate(drawn, 1):
            name = f"figure_{index}" if len(drawn) == 1 else f"figure_{index}_{part}"
            heading = spec.heading or heading
            specs.append(dataclasses.replace(spec, name=name, heading=heading))
    return specs


def axis_label(data: ReportData, metric: str, arm: str) -> str:
    """Label of an axis from the name of a metric: `Mean value: care`."""
    name = metric_label(metric, data.record(arm))
    return name[:1].upper() + name[1:]


def label_axes(axes: Any, x_label: str, y_label: str, size: tuple[float, float]) -> None:
    """Label the axes of a panel of a size in inches, in several lines if a label is long."""
    lengths = (round(CHARACTERS_PER_INCH * (side - AXIS_WIDTH)) for side in size)
    x_text, y_text = (
        textwrap.fill(text, length, break_long_words=False)
        for text, length in zip((x_label, y_label), lengths, strict=True)
    )
    axes.set(xlabel=x_text, ylabel=y_text)


def describe_sample(
    estimates: Iterable[IntervalEstimate], what: str, statistic: str = "mean"
) -> str:
    """Sentence on sample size and interval methods for the caption.

    Args:
        estimates: everything that is shown.
        what: what the intervals are drawn as: `whiskers`.
        statistic: over replicates.
    """
    shown = list(estimates)
    sizes = sorted({estimate.n for estimate in shown})
    n = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    if sizes == [1]:
        return "One replicate: no intervals."
    methods = list(dict.fromkeys(estimate.method for estimate in shown))
    start = f"{statistic[:1].upper()}{statistic[1:]} of n = {n} replicates"
    return f"{start}; {what}: 95 % interval of that {statistic} ({'; '.join(methods)})."

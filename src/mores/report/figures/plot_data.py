"""Data of the report: cells of the arms and their results; formats of numbers and names."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from mores import registry
from mores.analysis.intervals import IntervalEstimate
from mores.core.component_names import split_component
from mores.core.environment import ENVIRONMENT
from mores.experiments.claims.claim_estimates import ClaimData, estimate_claim
from mores.experiments.claims.claim_evaluation import (
    cells_by_point,
    make_claim_data,
    stage_and_round,
)
from mores.experiments.results.cell_result import CellResult
from mores.experiments.scenario.cell import Cell
from mores.experiments.scenario.claim_inputs import claim_arm
from mores.experiments.scenario.specification import Claim, Scenario
from mores.experiments.scenario.stages import Sensitivity
from mores.report.figures.theme import PlotStyle, plot_style

SUPERSCRIPT_DIGITS = str.maketrans("+-0123456789", "⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclasses.dataclass(frozen=True)
class ReportData:
    """Results of a run's arms, at all points of the sweep."""

    scenario: Scenario
    cells: Sequence[Cell]  # of the arms, without draws of uncertain parameters
    records: Mapping[str, CellResult]  # results of the cells, by cell id

    @classmethod
    def from_run(
        cls, scenario: Scenario, cells: Sequence[Cell], records: Mapping[str, CellResult]
    ) -> ReportData:
        """Report data from the cells and results of a run."""
        return cls(scenario, [cell for cell in cells if cell.purpose == "arm"], records)

    @cached_property
    def cells_at_points(self) -> list[dict[str, Cell]]:
        """Cells by arm at each point of the sweep; one point without a sweep."""
        return cells_by_point(self.cells)

    @property
    def points(self) -> list[Mapping[str, Any]]:
        """Points of the sweep; one empty point without a sweep."""
        return [next(iter(cells.values())).point for cells in self.cells_at_points]

    @property
    def arms(self) -> list[str]:
        """Names of the arms, in the scenario's order."""
        return list(self.cells_at_points[0])

    @property
    def treatment_arms(self) -> list[str]:
        """Arms that are compared with the control."""
        return [arm for arm in self.arms if arm != self.scenario.control]

    @property
    def replicates(self) -> int:
        """Number of replicates in every cell."""
        return len(np.unique(self.record(self.arms[0]).replicate))

    def record(self, arm: str) -> CellResult:
        """Result of an arm's first cell; its only cell without a sweep."""
        return self.records[self.cells_at_points[0][arm].id]

    @cached_property
    def uncoupled_roles(self) -> set[str]:
        """Roles whose draws the arms do not share; `environment`: its own, neither."""
        return {role for record in self.records.values() for role in record.uncoupled_roles}

    @property
    def environment_is_uncoupled(self) -> bool:
        """Whether the environment draws numbers that the arms do not share."""
        return ENVIRONMENT in self.uncoupled_roles

    @property
    def shared_draws(self) -> str:
        """What the arms share: random numbers, or a seed alone."""
        return "seed" if self.environment_is_uncoupled else "random numbers"

    @cached_property
    def has_people(self) -> bool:
        """Whether there are people with values in an arm."""
        if self.scenario.population is not None:
            return True
        return any("values" in self.record(arm).trajectory.latent for arm in self.arms)

    @property
    def shared_by_arms(self) -> str:
        """Object of a sentence: what the arms share."""
        if self.environment_is_uncoupled:
            return "the seed"
        return f"people and {self.shared_draws}" if self.has_people else self.shared_draws

    def parameters(self, arm: str) -> dict[str, Any]:
        """Parameters of an arm's first cell by dotted path."""
        cell = self.cells_at_points[0][arm]
        return flatten({"env": cell.env, "population": cell.population, "policies": cell.policies})

    def claim_data(self, claim: Claim) -> list[ClaimData]:
        """Data of a claim at every point of the sweep.

        Raises:
            KeyError, ValueError: the run lacks the metric, the arm or the round.
        """
        arm, data = claim_arm(self.scenario, claim) or "", []
        for cells in self.cells_at_points:
            by_arm = {name: self.records[cell.id] for name, cell in cells.items()}
            data.append(make_claim_data(claim, self.scenario, arm, by_arm))
        return data

    def claim_differences(self, claim: Claim) -> Float[np.ndarray, "point replicate"]:
        """Values of a claim minus those with which it compares, at every point."""
        return np.array([data.differences for data in self.claim_data(claim)])

    def estimate(
        self,
        metric: str,
        arm: str,
        compare_to: str | None = None,
        stage: str | None = None,
        at_round: int | None = None,
    ) -> IntervalEstimate:
        """Mean of a metric over the replicates, with the interval of a claim.

        Exact metrics of policies that are equal in all replicates have an interval of no length.

        Args:
            metric: a metric or component, as in claims.
            arm: its arm.
            compare_to: an arm whose mean is subtracted, paired by replicate.
            stage: averaged over its episodes; default: the last.
            at_round: completed rounds; default: the end of the episode.
        """
        claim = self._quantity(metric, arm, compare_to, stage, at_round)
        found = estimate_claim(claim, self.claim_data(claim)[0])
        values = self.claim_data(claim)[0].differences
        if len(values) > 1 and np.ptp(values) == 0.0 and self._is_exact(metric, arm):
            # An interval for shares of 0 or 1 would treat exact values as outcomes of chance.
            method = f"equal in all {len(values)} replicates"
            return IntervalEstimate(found.value, found.value, found.value, len(values), method)
        return found

    def analytic_value(
        self, name: str, arm: str, stage: str | None = None, at_round: int | None = None
    ) -> float:
        """An analytic value of an arm's environment; the arguments as of `estimate`."""
        chosen, rounds = stage_and_round(
            self.scenario, self._quantity(name, arm, None, stage, at_round)
        )
        value = np.asarray(self.record(arm).stage(chosen.name).analytic_values[name])
        return float(value[rounds] if value.ndim else value)

    def _is_exact(self, metric: str, arm: str) -> bool:
        """Whether a metric is computed from the policies, without sampling their actions."""
        if arm not in self._exact_metrics:
            env = dict(self.cells_at_points[0][arm].env)
            environment = registry.make("environment", env.pop("kind"), env)
            self._exact_metrics[arm] = environment.policy_metric_names
        return split_component(metric)[0] in self._exact_metrics[arm]

    @cached_property
    def _exact_metrics(self) -> dict[str, tuple[str, ...]]:
        """Names of such metrics, by arm."""
        return {}

    def values(
        self,
        metric: str,
        arm: str,
        compare_to: str | None = None,
        stage: str | None = None,
        at_round: int | None = None,
    ) -> Float[np.ndarray, " replicate"]:
        """The values of which `estimate` is the mean."""
        claim = self._quantity(metric, arm, compare_to, stage, at_round)
        return self.claim_data(claim)[0].differences

    def _quantity(self, *values: str | int | None) -> Claim:
        names = ("metric", "arm", "compare_to", "stage", "at_round")
        fields: dict[str, Any] = dict(zip(names, values, strict=True))
        return Claim(statement="-", kind="report", **fields)

    def style(self, arm: str) -> PlotStyle:
        """Line style of an arm, the same in every figure. The control has the last one, gray."""
        if arm == self.scenario.control:
            return plot_style(7)
        index = self.treatment_arms.index(arm)
        return plot_style(index if index < 7 else index + 1)

    def legend(self, arms: Sequence[str]) -> dict[str, PlotStyle]:
        """Styles of arms by name; empty for a single arm."""
        return {arm: self.style(arm) for arm in arms} if len(arms) > 1 else {}

    @cached_property
    def control_record(self) -> CellResult | None:
        """Result of the control; None in a sweep or without another arm."""
        name = self.scenario.control
        is_compared = len(self.arms) > 1 and len(self.points) == 1
        return self.record(name) if name and is_compared else None

    @cached_property
    def drift(self) -> dict[str, Float[np.ndarray, "value replicate round"]]:
        """Mean value of each treatment arm minus that of the control.

        Arms with another number of values than the control are omitted; empty if there is no
        control, or it does not record the metric `mean_value`.
        """
        control = self.control_record
        values = {arm: _mean_values(self.record(arm)) for arm in self.treatment_arms}
        baseline = _mean_values(control) if control else []
        comparable = {arm: x for arm, x in values.items() if len(x) == len(baseline) > 0}
        return {arm: np.subtract(x, baseline) for arm, x in comparable.items()}

    def top_dimensions(self, count: int) -> list[int]:
        """The value dimensions where an arm differs most from the control, in their own order."""
        drift = [np.abs(values[:, :, -1].mean(1)) for values in self.drift.values()]
        largest = np.max([np.where(np.isfinite(d), d, 0.0) for d in drift], axis=0)
        return indices_of_largest(largest, count)


def flatten(config: Any, path: str = "") -> dict[str, Any]:
    """Parameters of a nested mapping by dotted path."""
    if not isinstance(config, Mapping):
        return {path: config}
    prefix = f"{path}." if path else ""
    children = (flatten(child, f"{prefix}{name}") for name, child in config.items())
    return {name: value for child in children for name, value in child.items()}


def indices_of_largest(values: np.ndarray, count: int) -> list[int]:
    """Indices of the largest values, in increasing order."""
    return sorted(np.argsort(-values, kind="stable")[:count].tolist())


def _mean_values(record: CellResult) -> list[Float[np.ndarray, "replicate round"]]:
    """Components of the metric `mean_value`; none if it is not recorded."""
    try:
        names = record.stage().components("mean_value")
    except KeyError:
        names = []
    return [record.by_replicate(name) for name in names]


def value_label(record: CellResult, dimension: int) -> str:
    """Name of a value dimension."""
    names = record.value_names
    return _words(names[dimension]) if dimension < len(names) else f"value {dimension + 1}"


def metric_label(name: str, record: CellResult) -> str:
    """Label of a metric or component."""
    metric, component = split_component(name)
    if component is None:
        return _words(name)
    if metric == "mean_value" and component.isdecimal():
        component = value_label(record, int(component))
    return _words(f"{metric}[{component}]" if component.isdecimal() else f"{metric}: {component}")


def _words(name: str) -> str:
    return name.replace("_", " ")


def describe_metric(scenario: Scenario, estimand: Claim | Sensitivity) -> str:
    """Metric with its arm, reference arm and round."""
    arm = f" in {claim_arm(scenario, estimand)}" if scenario.arms else ""
    reference = f" minus {estimand.compare_to}" if estimand.compare_to else ""
    rounds = stage_and_round(scenario, estimand)[1]
    return f"{estimand.metric}{arm}{reference} after {rounds} rounds"


def describe_time(scenario: Scenario, estimand: Claim | Sensitivity) -> str:
    """Text on round and stage: `after 10 rounds of stage “test”, mean over its 5 episodes`."""
    stage, rounds = stage_and_round(scenario, estimand)
    text = f"after {rounds} round{'s' if rounds != 1 else ''}"
    text += f" of stage “{stage.name}”" if scenario.stages else ""
    return text + (f", mean over its {stage.episodes} episodes" if stage.episodes > 1 else "")


def format_number(x: float | None, digits: int = 4) -> str:
    """Number with significant digits, a minus sign (U+2212), and superscript powers of ten."""
    if x is None or np.isnan(x):
        return "not a number"
    if np.isinf(x):
        return "∞" if x > 0 else "−∞"
    mantissa, _, power = f"{x:.{digits}g}".partition("e")
    text = mantissa.replace("-", "−")
    return f"{text}×10{str(int(power)).translate(SUPERSCRIPT_DIGITS)}" if power else text


def format_range(low: float | None, high: float | None) -> str:
    """Text of a range."""
    return f"{format_number(low)} to {format_number(high)}"


def format_interval(estimate: IntervalEstimate, template: str = "{} ({} to {})") -> str:
    """Estimate and interval, rounded to about a twentieth of the interval's width."""
    value, low, high = estimate.value, estimate.low, estimate.high
    no_spread = bool(estimate.undecided) and value in (low, high)
    if not np.isfinite([low, high]).all() or low == high or no_spread:
        return format_number(value)
    magnitude = max(abs(low), abs(high))
    if not 1e-4 <= magnitude < 1e6 or high - low < 1e-6 * magnitude:
        return template.format(*(format_number(x, 3) for x in (value, low, high)))
    decimals = max(0, int(np.ceil(-np.log10((high - low) / 20.0))))
    return template.format(*(f"{x:z.{decimals}f}".replace("-", "−") for x in (value, low, high)))


def shorten(text: str, max_length: int) -> str:
    """Beginning of a text, with an ellipsis if it is longer."""
    return text if len(text) <= max_length else f"{text[: max_length - 1]}…"

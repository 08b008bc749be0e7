"""The finding of a claim in words: its estimate with the direction, without interval and verdict.

The words of direction follow the sign of the difference. An arm raises or lowers a metric
only if the interval of the difference excludes 0.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from mores.analysis.intervals import IntervalEstimate
from mores.analysis.replicate_statistics import compute_statistic
from mores.core.component_names import split_component
from mores.core.metric_inputs import RETURN
from mores.experiments.claims.trends import PointData, trend_points
from mores.experiments.claims.verdicts import Verdict
from mores.experiments.results.cell_result import CellResult
from mores.experiments.scenario.claim_inputs import claim_arm, metric_compared_with_control
from mores.experiments.scenario.specification import Claim
from mores.report.figures.plot_data import (
    ReportData,
    describe_time,
    format_interval,
    metric_label,
    value_label,
)

STATISTICS = {"sd": "standard deviation", "rms": "root mean square", "median": "median"}
NEGATIVE = "negative, so that a positive relative difference is a fall"


def describe_finding(data: ReportData, verdict: Verdict) -> str:
    """Estimate with its direction, without interval."""
    claim = verdict.claim
    if (claim.slope_in or claim.monotone_in) and claim.relative:
        finding = _describe_relative_trend(data, verdict)
    elif claim.slope_in or claim.monotone_in:
        finding = _describe_trend(data, verdict)
    elif claim.compare_to is None and claim.analytic is None:
        finding = _describe_level(data, verdict)
    elif claim.references is not None:
        finding = _describe_difference_of_changes(data, verdict)
    else:
        finding = _describe_difference(data, verdict)
    return f"{describe_time(data.scenario, claim)}, {finding}"


def _describe_trend(data: ReportData, verdict: Verdict) -> str:
    """Slope in a swept parameter, or the step that decides the verdict."""
    claim, quantity = verdict.claim, describe_quantity(data, verdict)
    sign = int(np.sign(verdict.estimate.value))
    verb = {1: "rises", -1: "falls", 0: "does not change"}[sign]
    note = _zero_note(verdict) if sign else ""
    if claim.slope_in:
        slope = f", with a slope of {_number_text(verdict.estimate)} per unit" if sign else ""
        return f"{quantity} {verb} with {claim.slope_in}{slope}{note}"
    by = f" by {_absolute_text(verdict.estimate)}" if sign else ""
    return f"{quantity} {verb}{by} from one value of {claim.monotone_in} to the next{note}"


def _describe_relative_trend(data: ReportData, verdict: Verdict) -> str:
    """Slope or step of an arm relative to that of another arm or of an analytic value."""
    sign, is_reversed = _direction(data, verdict)
    note = f", which is {NEGATIVE}" if is_reversed else ""
    compared = _compared(verdict, sign, f"that {_reference_text(verdict.claim)}{note}")
    return f"{_trend_noun(data, verdict)} is {compared}"


def _trend_noun(data: ReportData, verdict: Verdict) -> str:
    """Slope or step of the metric in the arm: `the slope of the drift with env.pull in “a”`."""
    claim = verdict.claim
    metric, arm = _metric_text(data, claim), _arm_text(data, verdict)
    if claim.slope_in:
        return f"the slope of {metric} with {claim.slope_in} in {arm}"
    return f"the step of {metric} from one value of {claim.monotone_in} to the next in {arm}"


def _reference_text(claim: Claim) -> str:
    """Where the value is that a claim subtracts: in an arm, or an analytic value."""
    if claim.compare_to is not None:
        return f"in “{claim.compare_to}”"
    return f"of the analytic value {claim.analytic}"


def _describe_level(data: ReportData, verdict: Verdict) -> str:
    """The metric of one arm."""
    metric, arm = _metric_text(data, verdict.claim), _arm_text(data, verdict)
    return f"{metric} in {arm} is {_estimate_text(verdict)}"


def _describe_difference_of_changes(data: ReportData, verdict: Verdict) -> str:
    """The change between two arms, compared with that between two others."""
    claim = verdict.claim
    first, second = (f"“{name}”" for name in claim.references or ())
    metric, arm = _metric_text(data, claim), _arm_text(data, verdict)
    other = f"that from {second} to “{claim.compare_to}”"
    sign, _ = _direction(data, verdict)
    return f"the change of {metric} from {first} to {arm} is {_compared(verdict, sign, other)}"


def _describe_difference(data: ReportData, verdict: Verdict) -> str:
    """The metric of an arm, compared with another arm or an analytic value."""
    claim = verdict.claim
    metric, arm = _metric_text(data, claim), _arm_text(data, verdict)
    sign, is_reversed = _direction(data, verdict)
    if claim.compare_to is not None and sign and _excludes_zero(verdict.estimate):
        verb = "raises" if sign > 0 else "lowers"
        note = f", where it is {NEGATIVE}" if is_reversed else ""
        by = f"by {_estimate_text(verdict)} compared with “{claim.compare_to}”{note}"
        return f"{arm} {verb} {metric} {by}"
    reference = f"that in “{claim.compare_to}”"
    if claim.analytic is not None:
        reference = f"the analytic value {claim.analytic}"
    note = f", which is {NEGATIVE}" if is_reversed else ""
    return f"{metric} in {arm} is {_compared(verdict, sign, f'{reference}{note}')}"


def _direction(data: ReportData, verdict: Verdict) -> tuple[int, bool]:
    """Sign of the difference, and whether it is the reverse of the sign of the estimate.

    A relative difference has the other sign if the reference is negative.
    """
    sign = int(np.sign(verdict.estimate.value))
    if verdict.claim.relative and _has_negative_reference(data, verdict):
        return -sign, True
    return sign, False


def _compared(verdict: Verdict, sign: int, reference: str) -> str:
    if not sign:
        return f"equal to {reference}"
    side = "above" if sign > 0 else "below"
    return f"{_estimate_text(verdict)} {side} {reference}{_zero_note(verdict)}"


def _zero_note(verdict: Verdict) -> str:
    """Note that the direction is uncertain, if there is an interval that includes 0."""
    estimate = verdict.estimate
    if _excludes_zero(estimate) or (math.isinf(estimate.low) and math.isinf(estimate.high)):
        return ""
    what = "range of the replicates" if verdict.claim.checks_every_replicate else "interval"
    return f", but the {what} includes 0"


def describe_quantity(data: ReportData, verdict: Verdict) -> str:
    """The compared quantity as a noun: `rms distance in “a” minus that in “b”`."""
    claim = verdict.claim
    if claim.relative and (claim.slope_in or claim.monotone_in):
        reference = f"relative to that {_reference_text(claim)}"
        return f"{_trend_noun(data, verdict)} {reference}"
    minus = "relative to" if claim.relative else "minus"
    text = f"{_metric_text(data, claim)} in {_arm_text(data, verdict)}"
    if claim.compare_to:
        text += f" {minus} that in “{claim.compare_to}”"
    if claim.analytic:
        text += f" {minus} the analytic value {claim.analytic}"
    return text


def _arm_text(data: ReportData, verdict: Verdict) -> str:
    """The arm in quotes; `the simulation` in a scenario without arms."""
    arm = verdict.arm or claim_arm(data.scenario, verdict.claim)
    return f"“{arm}”" if data.scenario.arms and arm else "the simulation"


def _metric_text(data: ReportData, claim: Claim) -> str:
    """The metric with its article, and its statistic if that is not the mean."""
    compared = metric_compared_with_control(claim.metric)
    if compared is not None:
        name = metric_noun(compared, data.record(data.arms[0]))
        text = f"the distance of {name} from that in the control “{data.scenario.control}”"
    else:
        text = metric_noun(claim.metric, data.record(data.arms[0]))
    if claim.statistic == "mean" or claim.checks_every_replicate:
        return text
    return f"the {STATISTICS[claim.statistic]} over replicates of {text}"


def metric_noun(name: str, record: CellResult) -> str:
    """A metric with its article: `the mean of privacy`, `the agent's return`, `the drift`."""
    metric, component = split_component(name)
    if metric == "mean_value" and component is not None:
        label = value_label(record, int(component)) if component.isdecimal() else component
        return f"the mean of {label.replace('_', ' ')}"
    role = metric.removeprefix(RETURN)
    if role != metric and component is None and not role.startswith("by_"):
        ending = "'" if role.endswith("s") else "'s"
        return f"the {role.replace('_', ' ')}{ending} return"
    return f"the {metric_label(name, record)}"


def _has_negative_reference(data: ReportData, verdict: Verdict) -> bool:
    """Whether a relative difference divides by a negative number: `analysis.intervals.compare`.

    For a claim on a trend, the number is the slope or the step of the reference.
    """
    claim = verdict.claim
    everywhere = zip(data.points, data.claim_data(claim), strict=True)
    points = trend_points(claim, [PointData(point, at_point) for point, at_point in everywhere])
    at = [i for i, each in enumerate(points) if dict(each.point) == dict(verdict.point)]
    comparison = points[at[0] if at else 0].data.comparison
    if not isinstance(comparison, np.ndarray):
        return comparison is not None and comparison < 0.0
    statistic = "mean" if claim.checks_every_replicate else claim.statistic
    return compute_statistic(comparison, statistic) < 0.0


def _estimate_text(verdict: Verdict) -> str:
    """The estimate: a level, or the size of a difference."""
    claim, estimate = verdict.claim, verdict.estimate
    if claim.compare_to is None and claim.analytic is None:
        return _number_text(estimate)
    return (
        f"{_absolute_text(in_percent(estimate))} %" if claim.relative else _absolute_text(estimate)
    )


def _number_text(estimate: IntervalEstimate) -> str:
    return format_interval(estimate, "{}|{}|{}").partition("|")[0]


def _absolute_text(estimate: IntervalEstimate) -> str:
    return _number_text(estimate).removeprefix("−")


def in_percent(estimate: IntervalEstimate) -> IntervalEstimate:
    """A relative difference in percent."""
    value, low, high = (100.0 * x for x in (estimate.value, estimate.low, estimate.high))
    return dataclasses.replace(estimate, value=value, low=low, high=high)


def _excludes_zero(estimate: IntervalEstimate) -> bool:
    """Whether the interval excludes 0. True also for an interval of zero length."""
    return not estimate.low <= 0.0 <= estimate.high or estimate.low == estimate.high

"""The finding of a claim in words: its estimate with the direction, without interval and verdict.

The words of direction are those of the sign of the difference. An arm raises or lowers a metric
only if the interval of the difference excludes 0.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from mores.analysis.intervals import IntervalEstimate
from mores.experiments.claims.verdicts import Verdict
from mores.experiments.scenario.claim_inputs import claim_arm, metric_compared_with_control
from mores.experiments.scenario.specification import Claim
from mores.report.figures.plot_data import ReportData, describe_time, format_interval, metric_label

UNCERTAIN = ", in a direction that is not certain"
STATISTICS = {"sd": "standard deviation", "rms": "root mean square", "median": "median"}


def describe_finding(data: ReportData, verdict: Verdict) -> str:
    """Estimate with its direction, without interval."""
    claim, arm, size = verdict.claim, _arm(data, verdict), _size(verdict)
    if claim.slope_in or claim.monotone_in:
        return _trend(data, verdict)
    metric, time = _metric(data, claim), describe_time(data.scenario, claim)
    if claim.compare_to is None and claim.analytic is None:
        return f"{time}, {metric} in {arm} is {size}"
    is_clear = _excludes_zero(verdict.estimate)
    sign, note = int(np.sign(verdict.estimate.value)), ""
    if claim.relative and _has_negative_reference(data, verdict):
        sign, note = -sign, ", which is negative, so that a positive relative difference is a fall"
    if claim.references is not None:
        first, second = (f"“{name}”" for name in claim.references)
        change = f"{time}, the change of {metric} from {first} to {arm}"
        other = f"that from {second} to “{claim.compare_to}”"
        return f"{change} is {_compared(sign, size, other, is_clear)}"
    if claim.compare_to is not None and sign and is_clear:
        verb = "raises" if sign > 0 else "lowers"
        reference = f"“{claim.compare_to}”{note.replace('which is', 'where it is')}"
        return f"{time}, {arm} {verb} {metric} by {size} compared with {reference}"
    reference = f"that in “{claim.compare_to}”"
    if claim.analytic is not None:
        reference = f"the analytic value {claim.analytic}"
    return f"{time}, {metric} in {arm} is {_compared(sign, size, f'{reference}{note}', is_clear)}"


def _compared(sign: int, size: str, reference: str, is_clear: bool) -> str:
    if not sign:
        return f"equal to {reference}"
    text = f"{size} {'above' if sign > 0 else 'below'} {reference}"
    return text if is_clear else f"{text}{UNCERTAIN}"


def _trend(data: ReportData, verdict: Verdict) -> str:
    """Slope in a swept parameter, or the decisive step."""
    claim, value = verdict.claim, verdict.estimate.value
    quantity, time = describe_quantity(data, verdict), describe_time(data.scenario, claim)
    sign, is_clear = int(np.sign(value)), _excludes_zero(verdict.estimate)
    verb = {1: "rises", -1: "falls", 0: "does not change"}[sign]
    doubt = "" if is_clear or not sign else UNCERTAIN
    if claim.slope_in:
        slope = f", with a slope of {_number(verdict.estimate)} per unit" if sign else ""
        return f"{time}, {quantity} {verb} with {claim.slope_in}{slope}{doubt}"
    by = f" by {_absolute(verdict.estimate)}" if sign else ""
    return f"{time}, {quantity} {verb}{by} from one value of {claim.monotone_in} to the next{doubt}"


def describe_quantity(data: ReportData, verdict: Verdict) -> str:
    """The compared quantity as a noun: `rms distance in “a” minus that in “b”`."""
    claim = verdict.claim
    minus = "relative to" if claim.relative else "minus"
    text = f"{_metric(data, claim)} in {_arm(data, verdict)}"
    if claim.compare_to:
        text += f" {minus} that in “{claim.compare_to}”"
    if claim.analytic:
        text += f" {minus} the analytic value {claim.analytic}"
    return text


def _arm(data: ReportData, verdict: Verdict) -> str:
    """The arm in quotes; `the simulation` in a scenario without arms."""
    arm = verdict.arm or claim_arm(data.scenario, verdict.claim)
    return f"“{arm}”" if data.scenario.arms and arm else "the simulation"


def _metric(data: ReportData, claim: Claim) -> str:
    """The metric with its article, and its statistic if that is not the mean."""
    compared = metric_compared_with_control(claim.metric)
    if compared is not None:
        name = metric_label(compared, data.record(data.arms[0]))
        text = f"the distance of the {name} from that in the control “{data.scenario.control}”"
    else:
        text = f"the {metric_label(claim.metric, data.record(data.arms[0]))}"
    if claim.statistic == "mean" or claim.checks_every_replicate:
        return text
    return f"the {STATISTICS[claim.statistic]} over replicates of {text}"


def _has_negative_reference(data: ReportData, verdict: Verdict) -> bool:
    points = data.claim_data(verdict.claim)
    at = [i for i, point in enumerate(data.points) if dict(point) == dict(verdict.point)]
    comparison = points[at[0] if at else 0].comparison
    return comparison is not None and float(np.mean(comparison)) < 0.0


def _size(verdict: Verdict) -> str:
    """The estimate: a level, or the size of a difference."""
    claim, estimate = verdict.claim, verdict.estimate
    if claim.compare_to is None and claim.analytic is None:
        return _number(estimate)
    return f"{_absolute(in_percent(estimate))} %" if claim.relative else _absolute(estimate)


def _number(estimate: IntervalEstimate) -> str:
    return format_interval(estimate, "{}|{}|{}").partition("|")[0]


def _absolute(estimate: IntervalEstimate) -> str:
    return _number(estimate).removeprefix("−")


def in_percent(estimate: IntervalEstimate) -> IntervalEstimate:
    """A relative difference in percent."""
    value, low, high = (100.0 * x for x in (estimate.value, estimate.low, estimate.high))
    return dataclasses.replace(estimate, value=value, low=low, high=high)


def _excludes_zero(estimate: IntervalEstimate) -> bool:
    return not estimate.low <= 0.0 <= estimate.high or estimate.low == estimate.high

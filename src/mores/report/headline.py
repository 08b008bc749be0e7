"""Headline of the report: one sentence on one claim, with its estimate, interval and verdict.

The claim is that with `headline: true`; else the first that rests on an interval; else the first
with a bound; else the first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from mores.analysis.intervals import IntervalEstimate
from mores.experiments.claims.bounds import bound_range, satisfies_and_violates
from mores.experiments.claims.verdicts import Verdict
from mores.experiments.scenario.specification import Claim
from mores.report.figures.plot_data import (
    ReportData,
    format_interval,
    format_number,
)
from mores.report.figures.value_labels import PointLabels
from mores.report.findings import describe_finding, describe_quantity, in_percent

SAMPLES = {  # of the intervals of claims: one, and several
    "monte_carlo": ("replicate", "replicates"),
    "people": ("resample of the respondents", "resamples of the respondents"),
    "components": ("component of the metric", "components of the metric"),
    "parameters": ("draw of the uncertain parameters", "draws of the uncertain parameters"),
}


def headline_verdict(verdicts: Sequence[Verdict]) -> Verdict | None:
    """The verdict that the headline is about; None without claims."""
    rules = (
        lambda claim: claim.headline,
        lambda claim: claim.bound is not None and not claim.checks_every_replicate,
        lambda claim: claim.bound is not None,
        lambda claim: True,
    )
    for rule in rules:
        for verdict in verdicts:
            if rule(verdict.claim):
                return verdict
    return None


def headline(data: ReportData, verdicts: Sequence[Verdict]) -> str:
    """The sentence; empty without claims."""
    verdict = headline_verdict(verdicts)
    if verdict is None:
        return ""
    index = next(i for i, each in enumerate(verdicts, 1) if each is verdict)
    name = f"claim ({index})" if len(verdicts) > 1 else "the claim"
    if not math.isfinite(verdict.estimate.value):
        finding = (
            f"There is no estimate of {describe_quantity(data, verdict)}: {verdict.estimate.method}"
        )
    else:
        found = f"{describe_finding(data, verdict)}{_point_text(data, verdict)}"
        finding = f"{found} ({_interval_text(verdict)})"
    finding = f"{finding[:1].upper()}{finding[1:]}"
    return f"{finding}; {_verdict_text(verdict, name)}."


def _interval_text(verdict: Verdict) -> str:
    """Interval of the estimate with its level, or why there is none, and the sample size."""
    claim, estimate = verdict.claim, verdict.estimate
    one, several = SAMPLES[claim.interval]
    sample = f"n = {estimate.n} {one if estimate.n == 1 else several}"
    if claim.checks_every_replicate:
        return f"{_replicate_range_text(verdict)}; {sample}"
    if estimate.low == estimate.high:
        return f"{estimate.method}; {sample}"
    num_ends = sum(map(math.isfinite, (estimate.low, estimate.high)))
    if num_ends == 0:
        return f"no interval: {estimate.method}; {sample}"
    if num_ends == 1:
        return f"{_one_sided_text(verdict)}; {sample}"
    return f"{_two_sided_text(verdict)}, {sample}"


def _replicate_range_text(verdict: Verdict) -> str:
    """Smallest to largest replicate, of a claim on every replicate."""
    shown, unit = _shown_estimate(verdict)
    low, high = (format_number(x) for x in (shown.low, shown.high))
    ends = f"{low}{unit}" if low == high else f"{low} to {high}{unit}"
    return f"every replicate: {ends}"


def _one_sided_text(verdict: Verdict) -> str:
    """An interval with one finite end: `95 % interval up to 0.3`."""
    shown, unit = _shown_estimate(verdict)
    has_low = math.isfinite(shown.low)
    side, end = ("from", shown.low) if has_low else ("up to", shown.high)
    return f"{_interval_name(verdict)} {side} {format_number(end)}{unit}"


def _two_sided_text(verdict: Verdict) -> str:
    """An interval with two finite ends: `95 % interval of the difference 0.1 to 0.3`."""
    shown, unit = _shown_estimate(verdict)
    ends = format_interval(shown, "{}|{} to {}").partition("|")[2]
    ends = ends or f"{format_number(shown.low)} to {format_number(shown.high)}"
    return f"{_interval_name(verdict)} {ends}{unit}"


def _shown_estimate(verdict: Verdict) -> tuple[IntervalEstimate, str]:
    """The estimate, and its unit: relative differences are in percent."""
    if verdict.claim.relative:
        return in_percent(verdict.estimate), " %"
    return verdict.estimate, ""


def _interval_name(verdict: Verdict) -> str:
    """Level of the interval and its estimand: `95 % interval of the difference`."""
    level, noun = f"{100 * verdict.level:.6g} % interval", _estimand_noun(verdict.claim)
    return level if noun == "value" else f"{level} of the {noun}"


def _point_text(data: ReportData, verdict: Verdict) -> str:
    """The point of a sweep at which the estimate was taken."""
    if not verdict.point:
        return ""
    point = PointLabels(data.scenario.sweep).describe(verdict.point)
    count = verdict.num_points
    if count == 1:
        return f" at {point}"
    if verdict.claim.bound is None:
        return f" at {point}, the first of {count} points"
    return f" at {point}, the point of {count} that decides the verdict"


def _verdict_text(verdict: Verdict, name: str) -> str:
    """Verdict, what the claim requires and, where the interval does not show it, the reason."""
    claim, estimate = verdict.claim, verdict.estimate
    if claim.bound is None:
        return f"{name} has no bound and is reported only"
    word = {"holds": "holds", "fails": "fails", "undecided": "is undecided"}[verdict.status]
    text = f"{name} {word}: it requires {_bound_text(claim)}"
    if not math.isfinite(estimate.value):
        return text
    inside, outside = satisfies_and_violates(claim, estimate.low, estimate.high)
    expected = "holds" if inside else "fails" if outside or claim.checks_every_replicate else ""
    if verdict.status == expected:
        return text
    if math.isinf(estimate.low) and math.isinf(estimate.high):
        return f"{text}; there is no interval"
    if verdict.status == "undecided" and not (inside or outside or estimate.undecided):
        return f"{text}, and only a part of the interval lies there"
    reason = estimate.undecided or verdict.reason
    return f"{text}; {reason}"


def _bound_text(claim: Claim) -> str:
    """The values of the estimate that the bound allows: `a difference above 0.3`."""
    low, high, is_inside = bound_range(claim)
    factor, unit = (100.0, " %") if claim.relative else (1.0, "")
    first, last = (f"{format_number(factor * end)}{unit}" for end in (low, high))
    noun = f"a {_estimand_noun(claim)}"
    if is_inside:
        return f"{noun} of exactly {first}" if low == high else f"{noun} between {first} and {last}"
    if math.isinf(low) or math.isinf(high):
        return f"{noun} above {last}" if math.isinf(low) else f"{noun} below {first}"
    if low == high:
        return f"{noun} other than {first}"
    return f"{noun} below {first} or above {last}"


def _estimand_noun(claim: Claim) -> str:
    """What the estimate is: a value, a slope, a step or a difference of two of them."""
    if claim.slope_in or claim.monotone_in:
        trend = "slope" if claim.slope_in else "step"
        return f"relative difference of the {trend}s" if claim.relative else trend
    if claim.compare_to is None and claim.analytic is None:
        return "value"
    return "relative difference" if claim.relative else "difference"

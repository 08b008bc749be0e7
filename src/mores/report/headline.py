"""Headline of the report: one sentence on one claim, with its estimate, interval and verdict.

The claim is that with `headline: true`; else the first that rests on an interval; else the first
with a bound; else the first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from mores.experiments.claims.bounds import bound_range, satisfies_and_violates
from mores.experiments.claims.verdicts import Verdict
from mores.experiments.scenario.specification import Claim
from mores.report.figures.plot_data import (
    ReportData,
    format_interval,
    format_number,
    format_value,
)
from mores.report.findings import describe_finding, describe_quantity, in_percent

SAMPLES = {  # of the intervals of claims: one, and several
    "monte_carlo": ("replicate", "replicates"),
    "people": ("resample of the respondents", "resamples of the respondents"),
    "components": ("component of the metric", "components of the metric"),
    "parameters": ("draw of the uncertain parameters", "draws of the uncertain parameters"),
}


def headline_claim(verdicts: Sequence[Verdict]) -> Verdict | None:
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
    verdict = headline_claim(verdicts)
    if verdict is None:
        return ""
    index = next(i for i, each in enumerate(verdicts, 1) if each is verdict)
    name = f"claim ({index})" if len(verdicts) > 1 else "the claim"
    if not math.isfinite(verdict.estimate.value):
        finding = (
            f"There is no estimate of {describe_quantity(data, verdict)}: {verdict.estimate.method}"
        )
    else:
        finding = f"{describe_finding(data, verdict)}{_point(verdict)} ({_interval(verdict)})"
    finding = f"{finding[:1].upper()}{finding[1:]}"
    return f"{finding}; {_verdict(verdict, name)}."


def _interval(verdict: Verdict) -> str:
    """Interval of the estimate, level and sample size."""
    claim, estimate = verdict.claim, verdict.estimate
    one, several = SAMPLES[claim.interval]
    sample = f"n = {estimate.n} {one if estimate.n == 1 else several}"
    percent = claim.relative
    shown = in_percent(estimate) if percent else estimate
    unit = " %" if percent else ""
    if claim.checks_every_replicate:
        low, high = (format_number(x) for x in (shown.low, shown.high))
        ends = f"{low}{unit}" if low == high else f"{low} to {high}{unit}"
        return f"every replicate: {ends}; {sample}"
    if estimate.low == estimate.high:
        return f"{estimate.method}; {sample}"
    level, what = f"{100 * verdict.level:.6g} % interval", ""
    if claim.compare_to or claim.analytic:
        what = " of the relative difference" if percent else " of the difference"
    if math.isinf(estimate.low) and math.isinf(estimate.high):
        return f"no interval: {estimate.method}; {sample}"
    if math.isinf(estimate.low) or math.isinf(estimate.high):
        end = shown.high if math.isinf(estimate.low) else shown.low
        side = "up to" if math.isinf(estimate.low) else "from"
        return f"{level}{what} {side} {format_number(end)}{unit}; {sample}"
    ends = format_interval(shown, "{}|{} to {}").partition("|")[2]
    ends = ends or f"{format_number(shown.low)} to {format_number(shown.high)}"
    return f"{level}{what} {ends}{unit}, {sample}"


def _point(verdict: Verdict) -> str:
    """The point of a sweep at which the estimate was taken."""
    if not verdict.point:
        return ""
    point = ", ".join(f"{path} = {format_value(value)}" for path, value in verdict.point.items())
    several = f", of {verdict.num_points} points the decisive one" if verdict.num_points > 1 else ""
    return f" at {point}{several}"


def _verdict(verdict: Verdict, name: str) -> str:
    """Verdict, what the claim required and, where the interval does not show it, the reason."""
    claim, estimate = verdict.claim, verdict.estimate
    if claim.bound is None:
        return f"{name} has no bound and is reported only"
    word = {"holds": "holds", "fails": "fails", "undecided": "is undecided"}[verdict.status]
    text = f"{name} {word}: it required {_required(claim)}"
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


def _required(claim: Claim) -> str:
    """The values of the estimate that the bound allows: `a difference above 0.3`."""
    low, high, is_inside = bound_range(claim)
    factor, unit = (100.0, " %") if claim.relative else (1.0, "")
    first, last = (f"{format_number(factor * end)}{unit}" for end in (low, high))
    noun = f"a {_noun(claim)}"
    if is_inside:
        return f"{noun} of exactly {first}" if low == high else f"{noun} between {first} and {last}"
    if math.isinf(low) or math.isinf(high):
        return f"{noun} above {last}" if math.isinf(low) else f"{noun} below {first}"
    if low == high:
        return f"{noun} other than {first}"
    return f"{noun} below {first} or above {last}"


def _noun(claim: Claim) -> str:
    """What the estimate is: a value, a difference, a slope or a step."""
    if claim.slope_in or claim.monotone_in:
        return "slope" if claim.slope_in else "step"
    if claim.compare_to is None and claim.analytic is None:
        return "value"
    return "relative difference" if claim.relative else "difference"

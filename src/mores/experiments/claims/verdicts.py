"""Verdicts on claims: the position of an estimate's interval relative to the claim's bound.

| bound | holds if the interval | fails if it |
|---|---|---|
| above x | lies above x, x excluded | lies below x, x included |
| below x | lies below x, x excluded | lies above x, x included |
| within [x, y] | lies in it, ends included | lies outside |
| differs_from x | lies beyond x - s or x + s, s excluded | lies in [x - s, x + s] |

s is the smallest effect of interest. Otherwise the claim is undecided, which does not pass. So are
claims on equal replicates, unless the metric has bounds or no random number was drawn.

The interval is over replicates (`mores.analysis.intervals`), with `interval: people` over resampled
respondents, with `interval: parameters` over draws of uncertain parameters: more replicates do not
shorten the latter two (`mores.analysis.sampling_intervals`).

An exact claim is checked in every replicate instead of by an interval, is never undecided, and
ignores the statistic. A claim whose value is not finite in any replicate fails: more replicates
would not change that.

A learned claim has two estimates: its own, and the same in the ablation, an arm from which the
signal that is learned from was removed. Its verdict is

| own estimate | the same bound in the ablation | learned claim |
|---|---|---|
| holds | fails | holds |
| holds | is undecided, and the arms differ | holds |
| holds | is undecided, and a difference is not certain | is undecided |
| holds | holds | fails: the finding does not vanish |
| fails, is undecided | any | fails, is undecided |

The arms differ if the interval of their difference, paired by replicate, excludes 0; a common
reference cancels. docs/explanation/intervals.md has the rates of true and false verdicts.

A claim that is judged again on more data has intervals of a higher level: see `looks`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from mores.analysis.intervals import IntervalEstimate
from mores.analysis.sampling_intervals import effects_by_replicate, interval_over_draws
from mores.core.errors import UserError
from mores.experiments.claims.bounds import bound_margin, describe_bound, satisfies_and_violates
from mores.experiments.claims.claim_estimates import (
    CONFIDENCE_LEVEL,
    ClaimData,
    Comparison,
    ablation_difference,
    draw_effect,
    estimate_claim,
)
from mores.experiments.claims.looks import FIRST_LOOK, Look, level_at_look
from mores.experiments.claims.persona_audit import PersonaAudit
from mores.experiments.claims.replicates_needed import replicates_needed
from mores.experiments.claims.several_claims import smallest_alpha, smallest_alpha_of_ablation
from mores.experiments.scenario.specification import Claim

VerdictStatus = Literal["holds", "fails", "undecided", "report"]
UNDECIDED_REASONS = {
    "monte_carlo": "more replicates are needed",
    "people": "more respondents are needed",
    "components": "more components, such as questions, are needed",
    "parameters": "it depends on the uncertain parameters",
}
STATUSES_BY_SEVERITY: tuple[VerdictStatus, ...] = ("fails", "undecided", "holds", "report")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The verdict on a claim.

    Attributes:
        claim: the claim.
        estimate: its estimate; over a sweep, at `point`.
        status: holds, fails, undecided, or report for a claim without a bound.
        reason: the reason, in a sentence.
        ablation_estimate: the same estimate in the ablation of a learned claim.
        remark: further facts, such as trainings that stopped early.
        arm: the arm of the claim.
        point: the point of a sweep with the worst verdict and, among these, closest to the bound
            or furthest beyond it; empty over all points.
        at_points: the verdicts at the points of a sweep, in its order.
        alpha: the smallest alpha for which the interval of level 1 - alpha lies within the bound
            and, for a learned claim, the finding vanishes in the ablation; 1 if it does not hold.
            At look k, that of level 1 - alpha / 2^(k - 1).
        changed: how the claim differs from that of an earlier run with the same seed; empty if it
            does not.
        adjusted_alpha: the same, adjusted for all statistical claims of the file (Holm); nan for
            other claims.
        look: how often the claim was judged, on other data each time.
        audit: controls of a persona claim; over a sweep, at `point`.
    """

    claim: Claim
    estimate: IntervalEstimate
    status: VerdictStatus
    reason: str
    ablation_estimate: IntervalEstimate | None = None
    remark: str = ""
    arm: str = ""
    point: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    at_points: Sequence[Verdict] = ()
    alpha: float = 1.0
    adjusted_alpha: float = math.nan
    changed: str = ""
    look: Look = FIRST_LOOK
    audit: PersonaAudit | None = None

    @property
    def level(self) -> float:
        """Level of the interval."""
        return level_at_look(CONFIDENCE_LEVEL, self.look.number)

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest estimate over the points of a sweep; nan if there is none."""
        values = [each.estimate.value for each in self.at_points or [self]]
        values = [value for value in values if not math.isnan(value)] or [math.nan]
        return min(values), max(values)

    @property
    def adjusted_status(self) -> VerdictStatus:
        """The verdict if all statistical claims of the file share a level of 95 %."""
        if self.status == "holds" and self.adjusted_alpha > 1.0 - CONFIDENCE_LEVEL:
            return "undecided"
        return self.status

    @property
    def warning(self) -> str:
        """Why the interval may cover less than its level; empty if nothing is known against it.

        A verdict on a difference of bounded values may rest on the absence of rare outcomes.
        """
        ends = self.estimate.any_shape
        if ends is None or self.status not in ("holds", "fails"):
            return self.estimate.warning
        if any(satisfies_and_violates(self.claim, *ends)):
            return self.estimate.warning
        return (
            f"an outcome that occurred in none of {self.estimate.n} replicates could change the "
            f"verdict: the interval for any values between the bounds is {ends[0]:.3g} to "
            f"{ends[1]:.3g}"
        )

    @property
    def num_points(self) -> int:
        """Number of points of the sweep; 1 without a sweep."""
        return len(self.at_points) or 1


def evaluate_claim(
    claim: Claim,
    values: Float[np.ndarray, " replicate"],
    comparison: Comparison = None,
    ablation: ClaimData | None = None,
    bounds: tuple[float, float] | None = None,
    deterministic: bool = False,
    look: int = 1,
) -> Verdict:
    """The verdict on a claim from its metric, one value per replicate.

    Args:
        claim: the claim.
        values: its metric, in its arm.
        comparison: the same in the arm `compare_to`, or the analytic value, if the claim has one.
        ablation: the data of the ablation, for a learned claim.
        bounds, deterministic: see `ClaimData`.
        look: 1 for the first verdict on the claim, k for the k-th on more data.

    Raises:
        UserError: a comparison is missing, or the claim has none; or see `compare`.
    """
    of_arm = isinstance(comparison, np.ndarray) or (comparison is None and claim.compare_to)
    given = {"compare_to" if of_arm else "analytic": comparison, "ablation": ablation}
    for name, other in given.items():
        if (other is None) != (getattr(claim, name) is None):
            problem = "is missing" if other is None else "is given, and the claim has none"
            message = f"{claim.statement!r}: the comparison {name} {problem}"
            raise UserError(message, code="missing" if other is None else "conflict", path=name)
    data = ClaimData(np.asarray(values), comparison, bounds, deterministic)
    return evaluate_claim_data(claim, data, ablation, look)


def evaluate_claim_data(
    claim: Claim, data: ClaimData, ablation: ClaimData | None, look: int = 1
) -> Verdict:
    """The verdict on a claim from its complete data: see `evaluate_claim`."""
    if claim.checks_every_replicate:
        return _exact_verdict(claim, data.values, data.comparison)
    verdict = _verdict_at_look(claim, functools.partial(estimate_claim, claim, data), look)
    if ablation is None:
        return verdict
    return _learned_verdict(
        verdict,
        functools.partial(estimate_claim, claim, ablation),
        functools.partial(ablation_difference, claim, data, ablation),
        look,
    )


def evaluate_claim_over_draws(
    claim: Claim,
    draws: Sequence[ClaimData],
    ablation_draws: Sequence[ClaimData] = (),
    look: int = 1,
) -> Verdict:
    """The verdict on a claim from its data at several draws of uncertain parameters.

    Args:
        claim: the claim.
        draws: its data at each draw.
        ablation_draws: the data of the ablation, at the same draws, for a learned claim.
        look: see `evaluate_claim`.
    """
    effects = np.array([draw_effect(claim, data) for data in draws])
    verdict = _verdict_at_look(claim, functools.partial(interval_over_draws, effects), look)
    if not ablation_draws:
        return verdict
    ablated = np.array([draw_effect(claim, data) for data in ablation_draws])
    return _learned_verdict(
        verdict,
        functools.partial(interval_over_draws, ablated),
        functools.partial(interval_over_draws, effects - ablated),
        look,
    )


def _verdict_at_look(
    claim: Claim, estimate_at: Callable[[float], IntervalEstimate], look: int
) -> Verdict:
    """The verdict on a claim, and its smallest alpha, from its estimate at a level."""
    level = level_at_look(CONFIDENCE_LEVEL, look)
    verdict = _interval_verdict(claim, estimate_at(level), level)
    if verdict.status == "holds":
        alpha = smallest_alpha(claim, estimate_at, look)
        verdict = dataclasses.replace(verdict, alpha=alpha)
    return verdict


def _learned_verdict(
    verdict: Verdict,
    ablation_at: Callable[[float], IntervalEstimate],
    difference_at: Callable[[float], IntervalEstimate],
    look: int,
) -> Verdict:
    """The verdict on a learned claim, from that on its own estimate.

    `ablation_at` is the estimate in the ablation at a level, `difference_at` that of the own value
    minus the ablation's.
    """
    level = level_at_look(CONFIDENCE_LEVEL, look)
    ablation, difference = ablation_at(level), difference_at(level)
    claim, status, reason = verdict.claim, verdict.status, verdict.reason
    if status == "holds":
        ablated = _interval_verdict(claim, ablation, level)
        words = _interval_words(level)  # once in the sentence
        text = f"in the ablation {claim.ablation}, {ablated.reason.removeprefix(words)}"
        differ = f"their difference, {_format_interval(difference, level).removeprefix(words)},"
        if math.isnan(ablation.low):
            status, reason = "fails", text
        elif ablated.status == "holds":
            status, reason = "fails", f"it does not vanish: {text}"
        elif ablated.status == "fails":
            reason = f"{reason}; {text}"
        elif not difference.undecided and (difference.low > 0.0 or difference.high < 0.0):
            reason = f"{reason}; {text}, but {differ} excludes 0"
        else:
            reason = f"{reason}, but it may not vanish: {text}, and {differ} includes 0"
            status = "undecided"
    alpha = 1.0
    if status == "holds":
        vanishes = smallest_alpha_of_ablation(claim, ablation_at, difference_at, look)
        alpha = max(verdict.alpha, vanishes)
    return dataclasses.replace(
        verdict, status=status, reason=reason, ablation_estimate=ablation, alpha=alpha
    )


def audited(verdict: Verdict, audit: PersonaAudit | None) -> Verdict:
    """The verdict on a persona claim: undecided, whatever its interval, if its audit fails."""
    verdict = dataclasses.replace(verdict, audit=audit)
    if audit is None or not audit.problem:
        return verdict
    reason = f"{audit.problem}; by itself, {verdict.reason}"
    return dataclasses.replace(verdict, status="undecided", reason=reason, alpha=1.0)


def _interval_verdict(
    claim: Claim, estimate: IntervalEstimate, level: float = CONFIDENCE_LEVEL
) -> Verdict:
    interval = _format_interval(estimate, level)

    def verdict(status: VerdictStatus, reason: str) -> Verdict:
        if claim.interval == "components":  # the sample of the interval
            reason = reason.replace("replicates", "components")
        return Verdict(claim, estimate, status, reason)

    lacking = f"there is no estimate: {estimate.method}" if math.isnan(estimate.low) else ""
    if claim.bound is None:
        return verdict("report", f"reported without a bound: {lacking or interval}")
    if lacking:
        return verdict("fails", lacking)
    if estimate.undecided:
        return verdict("undecided", f"{estimate.undecided}: {interval}")
    if estimate.confidence < level:
        return verdict("undecided", f"{estimate.n} replicates are too few: {estimate.method}")
    satisfies, violates = satisfies_and_violates(claim, estimate.low, estimate.high)
    where = describe_bound(claim)
    if satisfies:
        return verdict("holds", f"{interval} lies {where}")
    if violates:
        return verdict("fails", f"{interval} does not lie {where}")
    if math.isinf(estimate.low) and math.isinf(estimate.high):
        return verdict("undecided", f"there is no interval: {estimate.method}")
    reason = UNDECIDED_REASONS[claim.interval]
    if needed := replicates_needed(claim, estimate):
        reason += f" (about {needed:,} at this estimate)"
    return verdict("undecided", f"{interval} lies only partly {where}: {reason}")


def combine_verdicts(claim: Claim, verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict over the points of a sweep: the claim must hold at every point.

    It fails if it fails at any point. The point that decides has the worst verdict and, among
    those, the value nearest to the bound or furthest beyond it; the first, if several do.

    To hold everywhere needs no correction for the number of points (Berger 1982, Technometrics
    24, 295). To fail does: with many points a true claim that is close to its bound fails at one
    of them by chance, in up to 2.5 % of the points.

    Raises:
        UserError: there are no points.
    """
    if not verdicts:
        message = f"{claim.statement!r}: there is no point to evaluate it at"
        raise UserError(message, code="missing", path="verdicts")
    if claim.bound is None:
        first, lacking = verdicts[0], [v for v in verdicts if math.isnan(v.estimate.value)]
        low, high = Verdict(claim, first.estimate, "report", "", at_points=verdicts).range
        reason = f"from {low:.6g} to {high:.6g} over {len(verdicts)} points"
        if lacking:
            reason = f"there is no estimate at {len(lacking)} of {len(verdicts)} points; at the "
            reason += f"first of these, {lacking[0].estimate.method}"
        return Verdict(
            claim, first.estimate, "report", reason, point=first.point, at_points=verdicts
        )
    status: VerdictStatus = next(
        s for s in STATUSES_BY_SEVERITY if any(v.status == s for v in verdicts)
    )
    candidates = [v for v in verdicts if v.status == status]
    decisive = min(candidates, key=lambda v: bound_margin(claim, v.estimate.value))
    verb = {"holds": "holds", "fails": "fails", "undecided": "is undecided"}[status]
    which = "clearest" if status == "fails" else "closest to the bound"
    reason = f"{verb} at {len(candidates)} of {len(verdicts)} points; {which}: {decisive.reason}"
    alpha = max(verdict.alpha for verdict in verdicts)
    return dataclasses.replace(decisive, reason=reason, remark="", at_points=verdicts, alpha=alpha)


def _exact_verdict(claim: Claim, values: np.ndarray, reference: Comparison) -> Verdict:
    """The verdict on an exact claim, replicate by replicate; its interval is the range of all."""
    if isinstance(reference, np.ndarray) and reference.shape != values.shape:
        message = f"{claim.statement!r}: {values.size} values, and {reference.size} to compare with"
        raise UserError(message, code="wrong_shape", path="compare_to")
    values = effects_by_replicate(values, reference, claim.relative)
    n, num_not_finite = len(values), int((~np.isfinite(values)).sum())
    if num_not_finite:
        estimate = IntervalEstimate.undefined(n, f"{num_not_finite} of {n} replicates not finite")
        return Verdict(claim, estimate, "fails", f"there is no estimate: {estimate.method}")
    low, high = float(values.min()), float(values.max())
    value = min(max(float(values.mean()), low), high)
    estimate = IntervalEstimate(value, low, high, n, "smallest to largest replicate", 1.0)
    inside, where = satisfies_and_violates(claim, values, values)[0], describe_bound(claim)
    if inside.all():
        reason = f"all {n} replicates lie {where}: {low:.6g} to {high:.6g}"
        return Verdict(claim, estimate, "holds", reason)
    furthest = min(values, key=lambda x: bound_margin(claim, float(x)))
    reason = f"{n - int(inside.sum())} of {n} replicates do not lie {where}: one has {furthest:.6g}"
    return Verdict(claim, estimate, "fails", reason)


def _format_interval(estimate: IntervalEstimate, level: float) -> str:
    if estimate.low == estimate.high:
        return f"{estimate.value:.6g} ({estimate.method})"
    if math.isinf(estimate.low) and math.isinf(estimate.high):
        return f"without an interval: {estimate.method}"
    return f"{_interval_words(level)}{estimate.low:.6g} to {estimate.high:.6g}"


def _interval_words(level: float) -> str:
    return f"the {100 * level:.6g} % interval "

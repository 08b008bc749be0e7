"""Whether a claim holds: where the interval of its figure lies against its bound.

| bound | holds where the interval | fails where it |
|---|---|---|
| above x | lies above x, x excluded | lies below x, x included |
| below x | lies below x, x excluded | lies above x, x included |
| within [x, y] | lies in it, ends included | lies outside |
| differs_from x | lies beyond x - s or x + s, s excluded | lies in [x - s, x + s] |

s is the smallest effect of interest. Anything else is undecided, which does not pass. It follows
that of a figure without spread each bound holds or fails: nothing is above itself.

The interval is over replicates (`mores.analysis.intervals`); with `interval: people` over the
choice of respondents (`mores.analysis.respondent_intervals`), with `interval: parameters` over draws of uncertain
parameters (`mores.analysis.parameter_intervals`): more replicates do not make these two shorter.

An exact claim asks for every replicate instead of an interval, and is never undecided. It has no
use for the statistic. A claim about a figure that is not finite, in any replicate, fails: more
replicates would not mend it.

A learned claim has two figures: its own, and the same in the ablation, an arm from which what is
learned from was taken. It is

| its own figure | in the ablation the same bound | and it |
|---|---|---|
| holds | fails | holds |
| holds | is undecided, and the arms differ | holds |
| holds | is undecided, and the arms do not differ for sure | is undecided |
| holds | holds | fails: the finding does not vanish |
| fails, is undecided | whatever it does | fails, is undecided |

The arms differ where the interval of one less the other, paired by replicate, is on one side of 0;
what both are taken against falls out of that. Without it, an interval that is too long to hold in
the ablation would count as a finding that is gone. Share of 4,000 experiments in which "above 0"
was learned, 20 trainings with normal figures each, by the effect and the correlation of the arms:

| effect, in units of the sd | correlation | in both arms: by the rule, without | in one alone |
|---|---|---|---|
| .465, found in half of the experiments | 0.0 | .019 .243 | .235 .487 |
| | 0.5 | .021 .177 | .330 .479 |
| | 0.9 | .010 .080 | .470 .470 |
| .930 | 0.0 | .005 .024 | .782 .945 |
| | 0.5 | .004 .022 | .936 .952 |
| | 0.9 | .003 .011 | .959 .959 |

Where two arms do not differ, "differs from 0" should hold in 5 % of experiments, and "above 0" in
2.5 %. Share of 2,000 experiments in which `evaluate_claim` had it hold, of n replicates each, arms with
correlation 0.5 (relative means and medians of a normal figure: around 5):

| figure, n | less: mean, median, rms, sd | relative: mean, median, rms, sd |
|---|---|---|
| normal, 10 | .057 .042 .026 .021 | .057 .042 .028 .017 |
| normal, 20 | .040 .036 .040 .031 | .040 .036 .043 .034 |
| normal, 40 | .041 .045 .046 .043 | .041 .045 .048 .045 |
| normal, 100 | .047 .053 .049 .049 | .047 .053 .051 .050 |
| exponential, 10 | .037 .035 .017 .031 | .037 .024 .012 .026 |
| exponential, 20 | .040 .035 .026 .041 | .040 .035 .024 .038 |
| exponential, 40 | .040 .042 .033 .039 | .040 .041 .034 .041 |
| exponential, 100 | .050 .049 .041 .046 | .050 .049 .042 .049 |

The rates have a standard error of .005. With few replicates all but differences of means are found
less often than allowed, and none more often. That is said of arms that do not differ: intervals of
one skewed figure, or of skewed arms that differ, may cover too little, as `intervals` says.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from mores.analysis.intervals import IntervalEstimate
from mores.analysis.parameter_intervals import interval_over_draws
from mores.core.errors import UserError
from mores.experiments.claims.bounds import (
    bound_margin,
    describe_bound,
    satisfies_bound,
    violates_bound,
)
from mores.experiments.claims.claim_estimates import (
    CONFIDENCE_LEVEL,
    ClaimData,
    ablation_difference,
    draw_effect,
    estimate_claim,
)
from mores.experiments.scenario.specification import Claim

VerdictStatus = Literal["holds", "fails", "undecided", "report"]
UNDECIDED_REASONS = {
    "monte_carlo": "it takes more replicates",
    "people": "it takes more respondents",
    "parameters": "it depends on what is not known",
}
STATUSES_BY_SEVERITY: tuple[VerdictStatus, ...] = ("fails", "undecided", "holds", "report")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What became of a claim.

    Attributes:
        claim: the claim.
        estimate: its figure; over a sweep, that of the point that decided.
        status: holds, fails, undecided, or report where there is nothing to decide.
        reason: why, in a sentence.
        num_points: points of a sweep that it speaks for.
        ablation_estimate: the same figure in the ablation of a learned claim.
        remark: what else there is to know, such as trainings that had stopped.
    """

    claim: Claim
    estimate: IntervalEstimate
    status: VerdictStatus
    reason: str
    num_points: int = 1
    ablation_estimate: IntervalEstimate | None = None
    remark: str = ""


def evaluate_claim(
    claim: Claim,
    values: Float[np.ndarray, " replicate"],
    reference: Float[np.ndarray, " replicate"] | None = None,
    analytic_value: float | None = None,
    ablation: ClaimData | None = None,
) -> Verdict:
    """Hold a claim against its measure, one figure a replicate.

    Args:
        claim: the claim.
        values: its measure, in its arm.
        reference: the same in the arm that it is `against`, where there is one.
        analytic_value: the value of its prediction, where there is one.
        ablation: all of that in the ablation, for a learned claim.

    Raises:
        UserError: what the claim compares with is missing, or not the claim's; or see `compare`.
    """
    figures = ClaimData(np.asarray(values), reference, analytic_value)
    for given, name in (*_comparison_fields(figures), (ablation, "ablation")):
        if (given is None) != (getattr(claim, name) is None):
            wrong = "is missing" if given is None else "is not the claim's"
            message = f"{claim.statement!r}: what it is compared with ({name}) {wrong}"
            raise UserError(message, code="missing" if given is None else "conflict", path=name)
    if claim.kind == "exact":
        other = analytic_value if reference is None else reference
        return _exact_verdict(claim, np.asarray(values, dtype=np.float64), other)
    found = _interval_verdict(claim, estimate_claim(claim, figures))
    if ablation is None:
        return found
    return _learned_verdict(
        found, estimate_claim(claim, ablation), ablation_difference(claim, figures, ablation)
    )


def evaluate_claim_over_draws(
    claim: Claim, draws: Sequence[ClaimData], ablation_draws: Sequence[ClaimData] = ()
) -> Verdict:
    """Hold a claim against its figures at several draws of uncertain parameters.

    Args:
        claim: the claim.
        draws: its figures at each.
        ablation_draws: those in the ablation, at the same draws, for a learned claim.
    """
    effects = np.array([draw_effect(claim, figures) for figures in draws])
    found = _interval_verdict(claim, interval_over_draws(effects, CONFIDENCE_LEVEL))
    if not ablation_draws:
        return found
    there = np.array([draw_effect(claim, figures) for figures in ablation_draws])
    return _learned_verdict(
        found,
        interval_over_draws(there, CONFIDENCE_LEVEL),
        interval_over_draws(effects - there, CONFIDENCE_LEVEL),
    )


def _comparison_fields(data: ClaimData) -> tuple[tuple[Any, str], ...]:
    return (data.reference, "compare_to"), (data.analytic_value, "analytic")


def _learned_verdict(
    verdict: Verdict, ablation: IntervalEstimate, difference: IntervalEstimate
) -> Verdict:
    """The verdict on a learned claim.

    Args:
        verdict: on its own figure.
        ablation: the same figure in the ablation.
        difference: the one less the other.
    """
    claim = verdict.claim
    verdict = dataclasses.replace(verdict, ablation_estimate=ablation)
    if verdict.status != "holds":
        return verdict
    ablated = _interval_verdict(claim, ablation)
    said = f"in the ablation {claim.ablation}, {ablated.reason}"
    if ablated.status == "holds" or math.isnan(ablation.low):
        reason = said if math.isnan(ablation.low) else f"it does not vanish: {said}"
        return dataclasses.replace(verdict, status="fails", reason=reason)
    if ablated.status == "fails":
        return dataclasses.replace(verdict, reason=f"{verdict.reason}; {said}")
    differ = f"the difference between the two, {_format_interval(difference)},"
    if difference.low > 0.0 or difference.high < 0.0:
        reason = f"{verdict.reason}; {said}, but {differ} leaves out 0"
        return dataclasses.replace(verdict, reason=reason)
    reason = f"{verdict.reason}, but it may not vanish: {said}, and {differ} does not leave out 0"
    return dataclasses.replace(verdict, status="undecided", reason=reason)


def _interval_verdict(claim: Claim, estimate: IntervalEstimate) -> Verdict:
    """The verdict on an estimate with its interval."""
    if claim.bound is None:
        return Verdict(
            claim, estimate, "report", f"a figure without a verdict: {_format_interval(estimate)}"
        )
    if math.isnan(estimate.low):
        return Verdict(claim, estimate, "fails", f"there is no figure: {estimate.method}")
    where, low, high = describe_bound(claim), estimate.low, estimate.high
    if estimate.confidence < CONFIDENCE_LEVEL:
        reason = f"{estimate.n} replicates are too few: {estimate.method}"
        return Verdict(claim, estimate, "undecided", reason)
    if satisfies_bound(claim, low, high):
        return Verdict(claim, estimate, "holds", f"{_format_interval(estimate)} lies {where}")
    if violates_bound(claim, low, high):
        return Verdict(
            claim, estimate, "fails", f"{_format_interval(estimate)} does not lie {where}"
        )
    if math.isinf(low) and math.isinf(high):
        return Verdict(claim, estimate, "undecided", f"there is no interval: {estimate.method}")
    reason = f"{_format_interval(estimate)} lies only partly {where}: {UNDECIDED_REASONS[claim.interval]}"
    return Verdict(claim, estimate, "undecided", reason)


def combine_verdicts(claim: Claim, verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict over the points of a sweep: the claim must hold at every one.

    It fails if it fails anywhere. Shown is the point whose figure is nearest to the bound, or
    furthest beyond it, among those with the worst verdict; the first of them, if several are.

    To hold everywhere needs no correction for the number of points (Berger 1982, Technometrics
    24, 295). To fail does: with many points a true claim that is close to its bound fails at one
    of them by chance, in up to 2.5 % of the points.

    Raises:
        UserError: there are no points.
    """
    if not verdicts:
        message = f"{claim.statement!r}: there is no point to judge it at"
        raise UserError(message, code="missing", path="verdicts")
    if claim.bound is None:
        values = np.array([v.estimate.value for v in verdicts])
        reason = f"from {values.min():.6g} to {values.max():.6g} over {len(verdicts)} points"
        return Verdict(claim, verdicts[0].estimate, "report", reason, len(verdicts))
    word: VerdictStatus = next(
        w for w in STATUSES_BY_SEVERITY if any(v.status == w for v in verdicts)
    )
    decided = [v for v in verdicts if v.status == word]
    shown = min(decided, key=lambda v: bound_margin(claim, v.estimate.value))
    says = {"holds": "holds", "fails": "fails", "undecided": "is undecided"}[word]
    which = "clearest" if word == "fails" else "closest call"
    reason = f"{says} at {len(decided)} of {len(verdicts)} points; {which}: {shown.reason}"
    return Verdict(claim, shown.estimate, word, reason, len(verdicts), shown.ablation_estimate)


def _exact_verdict(
    claim: Claim, values: np.ndarray, reference: np.ndarray | float | None
) -> Verdict:
    """Every replicate by itself; the interval shown is the range they span."""
    if isinstance(reference, np.ndarray) and reference.shape != values.shape:
        message = f"{claim.statement!r}: {values.size} values against {reference.size}"
        raise UserError(message, code="wrong_shape", path="compare_to")
    if reference is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            values = values - reference
            values = values / reference if claim.relative else values
    n, bad = len(values), int((~np.isfinite(values)).sum())
    if bad:
        nothing = IntervalEstimate(
            math.nan, math.nan, math.nan, n, f"{bad} of {n} not finite", math.nan
        )
        return Verdict(claim, nothing, "fails", f"there is no figure: {nothing.method}")
    low, high = float(values.min()), float(values.max())
    value = min(max(float(values.mean()), low), high)
    found = IntervalEstimate(value, low, high, n, "smallest to largest replicate", 1.0)
    inside, where = np.asarray(satisfies_bound(claim, values, values)), describe_bound(claim)
    if inside.all():
        reason = f"all {n} replicates lie {where}: {low:.6g} to {high:.6g}"
        return Verdict(claim, found, "holds", reason)
    furthest = min(values, key=lambda x: bound_margin(claim, float(x)))
    reason = f"{n - int(inside.sum())} of {n} replicates do not lie {where}: one has {furthest:.6g}"
    return Verdict(claim, found, "fails", reason)


def _format_interval(estimate: IntervalEstimate) -> str:
    if estimate.low == estimate.high:
        return f"{estimate.value:.6g} ({estimate.method})"
    if math.isinf(estimate.low) and math.isinf(estimate.high):
        return f"without an interval: {estimate.method}"
    return f"the {100 * CONFIDENCE_LEVEL:.0f} % interval {estimate.low:.6g} to {estimate.high:.6g}"

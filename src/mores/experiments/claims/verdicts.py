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
2.5 %. Share of 2,000 experiments in which `judge` had it hold, of n replicates each, arms with
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

from mores.analysis.intervals import Estimate
from mores.analysis.parameter_intervals import over_draws
from mores.core.errors import UserError
from mores.experiments.claims.bounds import depth, keeps, misses, region
from mores.experiments.claims.claim_estimates import LEVEL, Figures, apart, effect, estimated
from mores.experiments.scenario.specification import Claim

Word = Literal["holds", "fails", "undecided", "report"]
LACKS = {
    "monte_carlo": "it takes more replicates",
    "people": "it takes more respondents",
    "parameters": "it depends on what is not known",
}
WORST_FIRST: tuple[Word, ...] = ("fails", "undecided", "holds", "report")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What became of a claim.

    Attributes:
        claim: the claim.
        estimate: its figure; over a sweep, that of the point that decided.
        verdict: holds, fails, undecided, or report where there is nothing to decide.
        reason: why, in a sentence.
        n_points: points of a sweep that it speaks for.
        ablated: the same figure in the ablation of a learned claim.
        remark: what else there is to know, such as trainings that had stopped.
    """

    claim: Claim
    estimate: Estimate
    verdict: Word
    reason: str
    n_points: int = 1
    ablated: Estimate | None = None
    remark: str = ""


def judge(
    claim: Claim,
    values: Float[np.ndarray, " replicate"],
    reference: Float[np.ndarray, " replicate"] | None = None,
    prediction: float | None = None,
    ablated: Figures | None = None,
) -> Verdict:
    """Hold a claim against its measure, one figure a replicate.

    Args:
        claim: the claim.
        values: its measure, in its arm.
        reference: the same in the arm that it is `against`, where there is one.
        prediction: the value of its prediction, where there is one.
        ablated: all of that in the ablation, for a learned claim.

    Raises:
        UserError: what the claim compares with is missing, or not the claim's; or see `compare`.
    """
    figures = Figures(np.asarray(values), reference, prediction)
    for given, name in (*_named(figures), (ablated, "ablation")):
        if (given is None) != (getattr(claim, name) is None):
            wrong = "is missing" if given is None else "is not the claim's"
            message = f"{claim.says!r}: what it is compared with ({name}) {wrong}"
            raise UserError(message, code="missing" if given is None else "conflict", path=name)
    if claim.kind == "exact":
        other = prediction if reference is None else reference
        return _judge_exactly(claim, np.asarray(values, dtype=np.float64), other)
    found = _held(claim, estimated(claim, figures))
    if ablated is None:
        return found
    return _vanishing(found, estimated(claim, ablated), apart(claim, figures, ablated))


def judge_draws(claim: Claim, draws: Sequence[Figures], ablated: Sequence[Figures] = ()) -> Verdict:
    """Hold a claim against its figures at several draws of uncertain parameters.

    Args:
        claim: the claim.
        draws: its figures at each.
        ablated: those in the ablation, at the same draws, for a learned claim.
    """
    effects = np.array([effect(claim, figures) for figures in draws])
    found = _held(claim, over_draws(effects, LEVEL))
    if not ablated:
        return found
    there = np.array([effect(claim, figures) for figures in ablated])
    return _vanishing(found, over_draws(there, LEVEL), over_draws(effects - there, LEVEL))


def _named(figures: Figures) -> tuple[tuple[Any, str], ...]:
    return (figures.reference, "against"), (figures.prediction, "prediction")


def _vanishing(found: Verdict, there: Estimate, gap: Estimate) -> Verdict:
    """The verdict on a learned claim.

    Args:
        found: on its own figure.
        there: the same figure in the ablation.
        gap: the one less the other.
    """
    claim = found.claim
    found = dataclasses.replace(found, ablated=there)
    if found.verdict != "holds":
        return found
    ablated = _held(claim, there)
    said = f"in the ablation {claim.ablation}, {ablated.reason}"
    if ablated.verdict == "holds" or math.isnan(there.low):
        reason = said if math.isnan(there.low) else f"it does not vanish: {said}"
        return dataclasses.replace(found, verdict="fails", reason=reason)
    if ablated.verdict == "fails":
        return dataclasses.replace(found, reason=f"{found.reason}; {said}")
    differ = f"the difference between the two, {_interval(gap)},"
    if gap.low > 0.0 or gap.high < 0.0:
        reason = f"{found.reason}; {said}, but {differ} leaves out 0"
        return dataclasses.replace(found, reason=reason)
    reason = f"{found.reason}, but it may not vanish: {said}, and {differ} does not leave out 0"
    return dataclasses.replace(found, verdict="undecided", reason=reason)


def _held(claim: Claim, found: Estimate) -> Verdict:
    """The verdict on an estimate with its interval."""
    if claim.bound is None:
        return Verdict(claim, found, "report", f"a figure without a verdict: {_interval(found)}")
    if math.isnan(found.low):
        return Verdict(claim, found, "fails", f"there is no figure: {found.method}")
    where, low, high = region(claim), found.low, found.high
    if found.confidence < LEVEL:
        reason = f"{found.n} replicates are too few: {found.method}"
        return Verdict(claim, found, "undecided", reason)
    if keeps(claim, low, high):
        return Verdict(claim, found, "holds", f"{_interval(found)} lies {where}")
    if misses(claim, low, high):
        return Verdict(claim, found, "fails", f"{_interval(found)} does not lie {where}")
    if math.isinf(low) and math.isinf(high):
        return Verdict(claim, found, "undecided", f"there is no interval: {found.method}")
    reason = f"{_interval(found)} lies only partly {where}: {LACKS[claim.interval]}"
    return Verdict(claim, found, "undecided", reason)


def over_points(claim: Claim, verdicts: Sequence[Verdict]) -> Verdict:
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
        message = f"{claim.says!r}: there is no point to judge it at"
        raise UserError(message, code="missing", path="verdicts")
    if claim.bound is None:
        values = np.array([v.estimate.value for v in verdicts])
        reason = f"from {values.min():.6g} to {values.max():.6g} over {len(verdicts)} points"
        return Verdict(claim, verdicts[0].estimate, "report", reason, len(verdicts))
    word: Word = next(w for w in WORST_FIRST if any(v.verdict == w for v in verdicts))
    decided = [v for v in verdicts if v.verdict == word]
    shown = min(decided, key=lambda v: depth(claim, v.estimate.value))
    says = {"holds": "holds", "fails": "fails", "undecided": "is undecided"}[word]
    which = "clearest" if word == "fails" else "closest call"
    reason = f"{says} at {len(decided)} of {len(verdicts)} points; {which}: {shown.reason}"
    return Verdict(claim, shown.estimate, word, reason, len(verdicts), shown.ablated)


def _judge_exactly(claim: Claim, values: np.ndarray, other: np.ndarray | float | None) -> Verdict:
    """Every replicate by itself; the interval shown is the range they span."""
    if isinstance(other, np.ndarray) and other.shape != values.shape:
        message = f"{claim.says!r}: {values.size} values against {other.size}"
        raise UserError(message, code="wrong_shape", path="against")
    if other is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            values = values - other
            values = values / other if claim.relative else values
    n, bad = len(values), int((~np.isfinite(values)).sum())
    if bad:
        nothing = Estimate(math.nan, math.nan, math.nan, n, f"{bad} of {n} not finite", math.nan)
        return Verdict(claim, nothing, "fails", f"there is no figure: {nothing.method}")
    low, high = float(values.min()), float(values.max())
    value = min(max(float(values.mean()), low), high)
    found = Estimate(value, low, high, n, "smallest to largest replicate", 1.0)
    inside, where = np.asarray(keeps(claim, values, values)), region(claim)
    if inside.all():
        reason = f"all {n} replicates lie {where}: {low:.6g} to {high:.6g}"
        return Verdict(claim, found, "holds", reason)
    furthest = min(values, key=lambda x: depth(claim, float(x)))
    reason = f"{n - int(inside.sum())} of {n} replicates do not lie {where}: one has {furthest:.6g}"
    return Verdict(claim, found, "fails", reason)


def _interval(found: Estimate) -> str:
    if found.low == found.high:
        return f"{found.value:.6g} ({found.method})"
    if math.isinf(found.low) and math.isinf(found.high):
        return f"without an interval: {found.method}"
    return f"the {100 * LEVEL:.0f} % interval {found.low:.6g} to {found.high:.6g}"

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
choice of respondents (`mores.analysis.people`), with `interval: parameters` over draws of uncertain
parameters (`mores.analysis.parameters`): more replicates do not make these two shorter.

An exact claim asks for every replicate instead of an interval, and is never undecided. It has no
use for the statistic. A claim about a figure that is not finite, in any replicate, fails: more
replicates would not mend it.

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
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from mores.analysis.intervals import Estimate, compare, estimate
from mores.analysis.parameters import over_draws
from mores.analysis.people import over_resamples
from mores.errors import UserError
from mores.scenario.model import Bound, Claim

LEVEL = 0.95

Ends = float | np.ndarray

Word = Literal["holds", "fails", "undecided", "report"]
LACKS = {
    "monte_carlo": "it takes more replicates",
    "people": "it takes more respondents",
    "parameters": "it depends on what is not known",
}
WORST_FIRST: tuple[Word, ...] = ("fails", "undecided", "holds", "report")


class Figures(NamedTuple):
    """What a claim looks at.

    Attributes:
        values: its measure in its arm, one figure a replicate.
        reference: the same in the arm that it is against, where there is one.
        prediction: the value of its prediction, where there is one.
    """

    values: Float[np.ndarray, " replicate"]
    reference: Float[np.ndarray, " replicate"] | None = None
    prediction: float | None = None


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What became of a claim.

    Attributes:
        claim: the claim.
        estimate: its figure; over a sweep, that of the point that decided.
        verdict: holds, fails, undecided, or report where there is nothing to decide.
        reason: why, in a sentence.
        n_points: points of a sweep that it speaks for.
    """

    claim: Claim
    estimate: Estimate
    verdict: Word
    reason: str
    n_points: int = 1


def judge(
    claim: Claim,
    values: Float[np.ndarray, " replicate"],
    reference: Float[np.ndarray, " replicate"] | None = None,
    prediction: float | None = None,
) -> Verdict:
    """Hold a claim against its measure, one figure a replicate.

    Args:
        claim: the claim.
        values: its measure, in its arm.
        reference: the same in the arm that it is `against`, where there is one.
        prediction: the value of its prediction, where there is one.

    Raises:
        UserError: what the claim compares with is missing, or not the claim's; or see `compare`.
    """
    for given, name in ((reference, "against"), (prediction, "prediction")):
        if (given is None) != (getattr(claim, name) is None):
            wrong = "is missing" if given is None else "is not the claim's"
            raise UserError(f"{claim.says!r}: what it is compared with ({name}) {wrong}")
    other = prediction if reference is None else reference
    if claim.kind == "exact":
        return _judge_exactly(claim, np.asarray(values, dtype=np.float64), other)
    if claim.interval == "people":
        found = over_resamples(values, other, claim.relative, LEVEL)
    elif other is None:
        found = estimate(values, claim.statistic, LEVEL)
    else:
        found = compare(values, other, claim.statistic, claim.relative, LEVEL)
    return _held(claim, found)


def judge_draws(claim: Claim, draws: Sequence[Figures]) -> Verdict:
    """Hold a claim against its figures at several draws of uncertain parameters."""
    effects = []
    for values, reference, prediction in draws:
        other = prediction if reference is None else reference
        effect = float(values.mean())
        if other is not None:
            base = float(np.mean(other))
            effect -= base
            if claim.relative:
                effect = effect / base if base else math.nan
        effects.append(effect)
    return _held(claim, over_draws(effects, LEVEL))


def _held(claim: Claim, found: Estimate) -> Verdict:
    """The verdict on an estimate with its interval."""
    if claim.bound is None:
        return Verdict(claim, found, "report", f"a figure without a verdict: {_interval(found)}")
    if math.isnan(found.low):
        return Verdict(claim, found, "fails", f"there is no figure: {found.method}")
    where, low, high = _region(claim), found.low, found.high
    if found.confidence < LEVEL:
        reason = f"{found.n} replicates are too few: {found.method}"
        return Verdict(claim, found, "undecided", reason)
    if _inside(claim, low, high):
        return Verdict(claim, found, "holds", f"{_interval(found)} lies {where}")
    if _outside(claim, low, high):
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
        raise UserError(f"{claim.says!r}: there is no point to judge it at")
    if claim.bound is None:
        values = np.array([v.estimate.value for v in verdicts])
        reason = f"from {values.min():.6g} to {values.max():.6g} over {len(verdicts)} points"
        return Verdict(claim, verdicts[0].estimate, "report", reason, len(verdicts))
    word: Word = next(w for w in WORST_FIRST if any(v.verdict == w for v in verdicts))
    decided = [v for v in verdicts if v.verdict == word]
    shown = min(decided, key=lambda v: _depth(claim, v.estimate.value))
    says = {"holds": "holds", "fails": "fails", "undecided": "is undecided"}[word]
    which = "clearest" if word == "fails" else "closest call"
    reason = f"{says} at {len(decided)} of {len(verdicts)} points; {which}: {shown.reason}"
    return Verdict(claim, shown.estimate, word, reason, len(verdicts))


def _judge_exactly(claim: Claim, values: np.ndarray, other: np.ndarray | float | None) -> Verdict:
    """Every replicate by itself; the interval shown is the range they span."""
    if isinstance(other, np.ndarray) and other.shape != values.shape:
        raise UserError(f"{claim.says!r}: {values.size} values against {other.size}")
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
    inside, where = np.asarray(_inside(claim, values, values)), _region(claim)
    if inside.all():
        reason = f"all {n} replicates lie {where}: {low:.6g} to {high:.6g}"
        return Verdict(claim, found, "holds", reason)
    furthest = min(values, key=lambda x: _depth(claim, float(x)))
    reason = f"{n - int(inside.sum())} of {n} replicates do not lie {where}: one has {furthest:.6g}"
    return Verdict(claim, found, "fails", reason)


# Below, a bound is one of its four kinds, and `low` and `high` may be arrays.


def _inside(claim: Claim, low: Ends, high: Ends) -> Any:
    """All of the interval keeps the bound."""
    bound, slack = _bound(claim), claim.smallest_effect
    if bound.above is not None:
        return low > bound.above
    if bound.below is not None:
        return high < bound.below
    if bound.within is not None:
        return (low >= bound.within[0]) & (high <= bound.within[1])
    assert bound.differs_from is not None
    return (low > bound.differs_from + slack) | (high < bound.differs_from - slack)


def _outside(claim: Claim, low: Ends, high: Ends) -> Any:
    """Nothing of the interval keeps the bound."""
    bound, slack = _bound(claim), claim.smallest_effect
    if bound.above is not None:
        return high <= bound.above
    if bound.below is not None:
        return low >= bound.below
    if bound.within is not None:
        return (high < bound.within[0]) | (low > bound.within[1])
    assert bound.differs_from is not None
    return (low >= bound.differs_from - slack) & (high <= bound.differs_from + slack)


def _depth(claim: Claim, value: float) -> float:
    """How far inside the bound a value lies; less than zero outside, least where there is none."""
    bound = _bound(claim)
    if math.isnan(value):
        return -math.inf
    if bound.above is not None:
        return value - bound.above
    if bound.below is not None:
        return bound.below - value
    if bound.within is not None:
        return min(value - bound.within[0], bound.within[1] - value)
    assert bound.differs_from is not None
    return abs(value - bound.differs_from) - claim.smallest_effect


def _region(claim: Claim) -> str:
    bound, slack = _bound(claim), claim.smallest_effect
    if bound.above is not None:
        return f"above {bound.above:.6g}"
    if bound.below is not None:
        return f"below {bound.below:.6g}"
    if bound.within is not None:
        return f"between {bound.within[0]:.6g} and {bound.within[1]:.6g}"
    assert bound.differs_from is not None
    return (f"more than {slack:.6g} " if slack else "") + f"away from {bound.differs_from:.6g}"


def _bound(claim: Claim) -> Bound:
    assert claim.bound is not None, "only a report has none"
    return claim.bound


def _interval(found: Estimate) -> str:
    if found.low == found.high:
        return f"{found.value:.6g} ({found.method})"
    return f"the {100 * LEVEL:.0f} % interval {found.low:.6g} to {found.high:.6g}"

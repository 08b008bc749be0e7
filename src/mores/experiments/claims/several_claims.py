"""Several claims of a file: the chance that one holds although false, and Holm's adjustment.

A false claim at the edge of its bound holds in up to 2.5 % of experiments, with `differs_from` in
up to 5 %. Of m independent claims on one side at least one then holds by chance with probability up
to 1 - .975^m, .40 for 20. Holm's adjustment orders the claims by the smallest alpha at which each
holds, and asks alpha / m of the first, alpha / (m - 1) of the second, ...: at most 5 % of
experiments then have any false claim that holds, of claims on one side at most 2.5 % (Holm 1979,
Scand. J. Stat. 6, 65). The alpha of a claim that is judged again on more data is that of all its
looks (`mores.experiments.claims.looks`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from mores.analysis.intervals import IntervalEstimate
from mores.experiments.claims.bounds import satisfies_and_violates
from mores.experiments.claims.looks import level_at_look
from mores.experiments.scenario.specification import Claim

STATISTICAL_KINDS = ("statistical", "learned", "persona")
SMALLEST_ALPHA = 2e-4  # the finest quantile of 9,999 resamples
STEPS = 20  # of the bisection


def is_statistical(claim: Claim) -> bool:
    """Whether a claim has a bound and may hold by chance."""
    return claim.kind in STATISTICAL_KINDS and claim.bound is not None


def false_hold_rate(claim: Claim, num_looks: int = 1) -> float:
    """Largest probability that a false claim holds at one of its looks, if the intervals cover.

    Args:
        claim: the claim.
        num_looks: how often it was judged, on other data each time; look k has half the rate of
            look k - 1.
    """
    two_sided = claim.bound is not None and claim.bound.differs_from is not None
    return (0.05 if two_sided else 0.025) * (2.0 - 2.0 ** (1 - num_looks))


def chance_of_luck(rates: Sequence[float]) -> float:
    """Largest probability that at least one of several false, independent claims holds.

    Args:
        rates: that of each claim, see `false_hold_rate`.
    """
    return 1.0 - math.prod(1.0 - rate for rate in rates)


def describe_several(claims: Sequence[tuple[Claim, str, int]]) -> str:
    """Sentence on the statistical claims of a file; empty for less than two.

    Args:
        claims: each claim with its adjusted verdict and its number of looks.
    """
    statistical = [each for each in claims if is_statistical(each[0])]
    if len(statistical) < 2:
        return ""
    adjusted = [status for _, status, _ in statistical]
    rates = [false_hold_rate(claim, num_looks) for claim, _, num_looks in statistical]
    chance, holds = chance_of_luck(rates), adjusted.count("holds")
    each = " or ".join(f"{100 * rate:.3g} %" for rate in sorted({*rates}))
    return (
        f"{len(adjusted)} claims rest on intervals: if none were true, at least one of them would "
        f"hold by chance in up to {100 * chance:.0f} % of experiments ({each} each, if they are "
        f"independent). Adjusted for their number (Holm), {holds} of {len(adjusted)} "
        f"{'holds' if holds == 1 else 'hold'}."
    )


def smallest_alpha(
    claim: Claim, interval_at: Callable[[float], IntervalEstimate], look: int = 1
) -> float:
    """The smallest alpha at which a claim holds, that holds at .05.

    Args:
        claim: the claim.
        interval_at: its estimate with the interval of a level.
        look: number of the look. At look k, an alpha stands for intervals of level
            1 - alpha / 2^(k - 1), so that claims at different looks can be compared.
    """

    def holds(alpha: float) -> bool:
        level = level_at_look(1.0 - alpha, look)
        interval = interval_at(level)
        within = satisfies_and_violates(claim, interval.low, interval.high)[0]
        return bool(within) and interval.confidence >= level

    return _smallest(holds)


def smallest_alpha_of_ablation(
    claim: Claim,
    ablation_at: Callable[[float], IntervalEstimate],
    difference_at: Callable[[float], IntervalEstimate],
    look: int = 1,
) -> float:
    """The smallest alpha at which a learned finding vanishes in its ablation; 1 if not at .05.

    It vanishes if the ablation fails the bound, or if its difference from the claim's arm
    excludes 0.

    Args:
        claim: the claim.
        ablation_at: the estimate in the ablation with the interval of a level.
        difference_at: that of the difference.
        look: number of the look: see `smallest_alpha`.
    """

    def vanishes(alpha: float) -> bool:
        level = level_at_look(1.0 - alpha, look)
        ablation = ablation_at(level)
        fails = satisfies_and_violates(claim, ablation.low, ablation.high)[1]
        if fails and not ablation.undecided:
            return True
        difference = difference_at(level)
        return not difference.undecided and (difference.low > 0.0 or difference.high < 0.0)

    return _smallest(vanishes)


def _smallest(condition: Callable[[float], bool]) -> float:
    """The smallest alpha up to .05 for which a condition is true; 1 if there is none."""
    low, high = SMALLEST_ALPHA, 0.05
    if not condition(high):
        return 1.0
    if condition(low):
        return low
    for _ in range(STEPS):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if condition(middle) else (middle, high)
    return high


def holm_adjusted(alphas: Sequence[float]) -> list[float]:
    """Adjusted alphas, in the order given."""
    order = sorted(range(len(alphas)), key=lambda index: alphas[index])
    adjusted, largest = [1.0] * len(alphas), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(alphas) - rank) * alphas[index]))
        adjusted[index] = largest
    return adjusted

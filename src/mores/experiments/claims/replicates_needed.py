"""A rough number of replicates that would decide an undecided claim on a mean."""

from __future__ import annotations

import math

from mores.analysis.intervals import IntervalEstimate
from mores.experiments.claims.bounds import bound_range
from mores.experiments.scenario.specification import Claim

MAX_REPLICATES = 10_000  # a larger number says only that the estimate is close to the bound
DIGITS = 2  # significant digits of the number, which is rounded up


def replicates_needed(claim: Claim, estimate: IntervalEstimate) -> int | None:
    """Replicates in all with which the interval would end at the bound, if the estimate stays.

    The length of an interval of a mean falls with the root of their number n: it needs
    n (h / d)^2, with h the distance of the estimate from the end of the interval, and d that from
    the end of the bound between them.

    Returns:
        The number, rounded up to two digits. None for other statistics and other samples than the
        replicates, for an estimate at the bound, and for more than 10,000 replicates.
    """
    if claim.statistic != "mean" or claim.interval != "monte_carlo":
        return None
    if not all(map(math.isfinite, (estimate.low, estimate.value, estimate.high))):
        return None
    ratio = 1.0
    for bound in bound_range(claim)[:2]:
        if not estimate.low <= bound <= estimate.high:
            continue
        distance = abs(bound - estimate.value)
        if distance == 0.0:
            return None
        end = estimate.high if bound > estimate.value else estimate.low
        ratio = max(ratio, abs(end - estimate.value) / distance)
    if ratio > math.sqrt(MAX_REPLICATES / estimate.n):
        return None
    needed = max(estimate.n * ratio**2, estimate.n + 1)
    step = 10 ** max(0, math.floor(math.log10(needed)) + 1 - DIGITS)
    return step * math.ceil(needed / step)

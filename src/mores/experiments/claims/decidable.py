"""Claims that cannot hold at the scenario's number of replicates, by the rules of their intervals.

One replicate has no interval. Below `MIN_REPLICATES` the interval of values of unknown shape and
without bounds supports no verdict. Judged are claims with an interval over replicates of the metric
itself or of its difference between two arms; the rules of all others need the data: slopes, ratios,
differences in differences, metrics with bounds, and the median of one arm.

Replicates that draw no random number are equal for certain, which is known after the run only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from mores.analysis.intervals import estimate
from mores.analysis.mean_intervals import MIN_REPLICATES, too_few
from mores.experiments.scenario.cell import BuiltCell
from mores.experiments.scenario.metric_check import may_have_bounds
from mores.experiments.scenario.specification import Claim, Scenario


def undecidable_claims(scenario: Scenario, cells: Sequence[BuiltCell]) -> Iterator[str]:
    """A sentence for each claim that cannot hold with so few replicates."""
    for index, claim in enumerate(scenario.claims):
        bounded = may_have_bounds(scenario, claim.metric, cells)
        if reason := undecided_reason(claim, scenario.replicates, bounded):
            yield f"claims.{index} cannot hold, unless no random number is drawn: {reason}"


def undecided_reason(claim: Claim, replicates: int, bounded: bool) -> str:
    """Why a claim cannot hold with so many replicates; empty if it may.

    Args:
        claim: the claim.
        replicates: their number.
        bounded: whether its metric may have bounds.
    """
    derived = (claim.slope_in, claim.monotone_in, claim.references, claim.relative or None)
    over_replicates = claim.interval in ("monte_carlo", "people")
    if claim.bound is None or claim.checks_every_replicate or not over_replicates:
        return ""
    if any(each is not None for each in derived):
        return ""
    if replicates == 1:
        return estimate(np.zeros(1)).method
    of_one_median = claim.statistic == "median" and claim.compare_to is None
    return "" if bounded or of_one_median or replicates >= MIN_REPLICATES else too_few(replicates)

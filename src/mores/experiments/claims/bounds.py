"""Position of an interval relative to a claim's bound: inside, outside, margin."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mores.experiments.scenario.specification import Claim

Endpoint = float | np.ndarray


def bound_range(claim: Claim) -> tuple[float, float, bool]:
    """Ends of a closed range, and whether the bound is that range or all numbers outside it."""
    bound, slack = claim.bound, claim.smallest_effect
    assert bound is not None, "only a report has no bound"
    if bound.within is not None:
        return *bound.within, True
    if bound.above is not None:
        return -math.inf, bound.above, False
    if bound.below is not None:
        return bound.below, math.inf, False
    assert bound.differs_from is not None
    return bound.differs_from - slack, bound.differs_from + slack, False


def satisfies_and_violates(claim: Claim, low: Endpoint, high: Endpoint) -> tuple[Any, Any]:
    """Whether whole intervals satisfy the bound, and whether they violate it."""
    first, last, is_inside = bound_range(claim)
    inside = (low >= first) & (high <= last)
    outside = (low > last) | (high < first)
    return (inside, outside) if is_inside else (outside, inside)


def bound_margin(claim: Claim, value: float) -> float:
    """Distance of a value to the bound: positive inside, negative outside, -inf for NaN."""
    first, last, is_inside = bound_range(claim)
    if math.isnan(value):
        return -math.inf
    margin = min(value - first, last - value)
    return margin if is_inside else -margin


def describe_bound(claim: Claim) -> str:
    """The region that satisfies the bound, in words."""
    low, high, is_inside = bound_range(claim)
    if is_inside:
        return f"between {low:.6g} and {high:.6g}"
    if math.isinf(low):
        return f"above {high:.6g}"
    if math.isinf(high):
        return f"below {low:.6g}"
    center, slack = (low + high) / 2, claim.smallest_effect
    return (f"more than {slack:.6g} " if slack else "") + f"away from {center:.6g}"

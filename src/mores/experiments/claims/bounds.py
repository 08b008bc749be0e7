"""Position of an interval relative to a claim's bound: inside, outside, margin.

A bound is one of four kinds. The ends of intervals may be arrays.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mores.experiments.scenario.specification import Bound, Claim

Endpoint = float | np.ndarray


def satisfies_bound(claim: Claim, low: Endpoint, high: Endpoint) -> Any:
    """Whether the whole interval satisfies the bound."""
    bound, slack = require_bound(claim), claim.smallest_effect
    if bound.above is not None:
        return low > bound.above
    if bound.below is not None:
        return high < bound.below
    if bound.within is not None:
        return (low >= bound.within[0]) & (high <= bound.within[1])
    assert bound.differs_from is not None
    return (low > bound.differs_from + slack) | (high < bound.differs_from - slack)


def violates_bound(claim: Claim, low: Endpoint, high: Endpoint) -> Any:
    """Whether the whole interval violates the bound."""
    bound, slack = require_bound(claim), claim.smallest_effect
    if bound.above is not None:
        return high <= bound.above
    if bound.below is not None:
        return low >= bound.below
    if bound.within is not None:
        return (high < bound.within[0]) | (low > bound.within[1])
    assert bound.differs_from is not None
    return (low >= bound.differs_from - slack) & (high <= bound.differs_from + slack)


def bound_margin(claim: Claim, value: float) -> float:
    """Distance of a value to the bound: positive inside, negative outside, -inf for NaN."""
    bound = require_bound(claim)
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


def describe_bound(claim: Claim) -> str:
    """The region that satisfies the bound, in words."""
    bound, slack = require_bound(claim), claim.smallest_effect
    if bound.above is not None:
        return f"above {bound.above:.6g}"
    if bound.below is not None:
        return f"below {bound.below:.6g}"
    if bound.within is not None:
        return f"between {bound.within[0]:.6g} and {bound.within[1]:.6g}"
    assert bound.differs_from is not None
    return (f"more than {slack:.6g} " if slack else "") + f"away from {bound.differs_from:.6g}"


def require_bound(claim: Claim) -> Bound:
    """The bound of a claim that has one."""
    assert claim.bound is not None, "only a report has no bound"
    return claim.bound

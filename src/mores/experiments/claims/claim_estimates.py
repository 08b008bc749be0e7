"""The data of a claim, one value per replicate, and its estimate with an interval."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mores.analysis.intervals import IntervalEstimate, compare, estimate
from mores.analysis.sampling_intervals import interval_over_resamples
from mores.experiments.scenario.specification import Claim

CONFIDENCE_LEVEL = 0.95

Comparison = Float[np.ndarray, " replicate"] | float | None


class ClaimData(NamedTuple):
    """The data of a claim.

    Attributes:
        values: its metric in its arm, one value per replicate.
        comparison: what is subtracted: the same in the arm `compare_to`, or the analytic value.
    """

    values: Float[np.ndarray, " replicate"]
    comparison: Comparison = None


def estimate_claim(claim: Claim, data: ClaimData) -> IntervalEstimate:
    """The estimate of a claim in one arm, with its interval."""
    values, comparison = data
    if claim.interval == "people":
        return interval_over_resamples(values, comparison, claim.relative, CONFIDENCE_LEVEL)
    if comparison is None:
        return estimate(values, claim.statistic, CONFIDENCE_LEVEL)
    return compare(values, comparison, claim.statistic, claim.relative, CONFIDENCE_LEVEL)


def draw_effect(claim: Claim, data: ClaimData) -> float:
    """The effect at one draw of uncertain parameters: a mean over its replicates."""
    effect = float(data.values.mean())
    if data.comparison is None:
        return effect
    base = float(np.mean(data.comparison))
    if not claim.relative:
        return effect - base
    return (effect - base) / base if base else math.nan


def ablation_difference(
    claim: Claim, data: ClaimData, ablation_data: ClaimData
) -> IntervalEstimate:
    """The claim's effect minus its effect in the ablation; only the sign is used.

    A common reference arm cancels. Analytic values may differ between the arms, and their
    difference is subtracted.
    """
    (values, law), (ablated, ablated_law), offset = data, ablation_data, 0.0
    if isinstance(law, float) and isinstance(ablated_law, float):
        if not claim.relative:
            offset = law - ablated_law
        elif law and ablated_law:
            values, ablated = values / abs(law), ablated / abs(ablated_law)
            # relative to numbers of different sign: not comparable
            offset = math.nan if law * ablated_law < 0 else 0.0
    absolute = claim.model_copy(update={"relative": False})
    interval = estimate_claim(absolute, ClaimData(values, ablated))
    return dataclasses.replace(interval, low=interval.low - offset, high=interval.high - offset)

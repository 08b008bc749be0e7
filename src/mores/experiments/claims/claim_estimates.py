"""What a claim looks at, one figure a replicate, and the estimate that it makes."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mores.analysis.intervals import IntervalEstimate, compare, estimate
from mores.analysis.respondent_intervals import interval_over_resamples
from mores.experiments.scenario.specification import Claim

CONFIDENCE_LEVEL = 0.95


class ClaimData(NamedTuple):
    """What a claim looks at.

    Attributes:
        values: its measure in its arm, one figure a replicate.
        reference: the same in the arm that it is against, where there is one.
        analytic_value: the value of its prediction, where there is one.
    """

    values: Float[np.ndarray, " replicate"]
    reference: Float[np.ndarray, " replicate"] | None = None
    analytic_value: float | None = None


def _comparison_value(data: ClaimData) -> np.ndarray | float | None:
    """What is taken off."""
    return data.analytic_value if data.reference is None else data.reference


def estimate_claim(claim: Claim, data: ClaimData) -> IntervalEstimate:
    """The figure of a claim in one arm, with its interval."""
    values, other = data.values, _comparison_value(data)
    if claim.interval == "people":
        return interval_over_resamples(values, other, claim.relative, CONFIDENCE_LEVEL)
    if other is None:
        return estimate(values, claim.statistic, CONFIDENCE_LEVEL)
    return compare(values, other, claim.statistic, claim.relative, CONFIDENCE_LEVEL)


def draw_effect(claim: Claim, data: ClaimData) -> float:
    """The figure at a draw of uncertain parameters: a mean over its replicates."""
    effect, other = float(data.values.mean()), _comparison_value(data)
    if other is None:
        return effect
    base = float(np.mean(other))
    if not claim.relative:
        return effect - base
    return (effect - base) / base if base else math.nan


def ablation_difference(
    claim: Claim, data: ClaimData, ablation_data: ClaimData
) -> IntervalEstimate:
    """How much larger a claim's figure is than in the ablation: its sign is what matters.

    What both are taken against is the same and falls out; of predictions, which an environment
    makes for each arm, the difference is left.
    """
    values, ablated = data.values, ablation_data.values
    if claim.relative and data.analytic_value and ablation_data.analytic_value:
        values, ablated = (
            values / abs(data.analytic_value),
            ablated / abs(ablation_data.analytic_value),
        )
    if claim.interval == "people":
        found = interval_over_resamples(values, ablated, False, CONFIDENCE_LEVEL)
    else:
        found = compare(values, ablated, claim.statistic, False, CONFIDENCE_LEVEL)
    off = 0.0
    if not claim.relative:
        off = (data.analytic_value or 0.0) - (ablation_data.analytic_value or 0.0)
    elif (
        data.analytic_value
        and ablation_data.analytic_value
        and data.analytic_value * ablation_data.analytic_value < 0
    ):
        off = math.nan  # relative to numbers of different sign: not to be compared
    return dataclasses.replace(found, low=found.low - off, high=found.high - off)

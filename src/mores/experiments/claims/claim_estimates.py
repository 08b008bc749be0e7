"""The data of a claim, one value per replicate, and its estimate with an interval."""

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
    """The data of a claim.

    Attributes:
        values: its metric in its arm, one value per replicate.
        reference: the same in the arm `compare_to`, if there is one.
        analytic_value: the analytic value to compare with, if there is one.
    """

    values: Float[np.ndarray, " replicate"]
    reference: Float[np.ndarray, " replicate"] | None = None
    analytic_value: float | None = None


def _comparison_value(data: ClaimData) -> np.ndarray | float | None:
    """The value to subtract."""
    return data.analytic_value if data.reference is None else data.reference


def estimate_claim(claim: Claim, data: ClaimData) -> IntervalEstimate:
    """The estimate of a claim in one arm, with its interval."""
    values, comparison = data.values, _comparison_value(data)
    if claim.interval == "people":
        return interval_over_resamples(values, comparison, claim.relative, CONFIDENCE_LEVEL)
    if comparison is None:
        return estimate(values, claim.statistic, CONFIDENCE_LEVEL)
    return compare(values, comparison, claim.statistic, claim.relative, CONFIDENCE_LEVEL)


def draw_effect(claim: Claim, data: ClaimData) -> float:
    """The effect at one draw of uncertain parameters: a mean over its replicates."""
    effect, comparison = float(data.values.mean()), _comparison_value(data)
    if comparison is None:
        return effect
    base = float(np.mean(comparison))
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
    values, ablated = data.values, ablation_data.values
    if claim.relative and data.analytic_value and ablation_data.analytic_value:
        values, ablated = (
            values / abs(data.analytic_value),
            ablated / abs(ablation_data.analytic_value),
        )
    if claim.interval == "people":
        interval = interval_over_resamples(values, ablated, False, CONFIDENCE_LEVEL)
    else:
        interval = compare(values, ablated, claim.statistic, False, CONFIDENCE_LEVEL)
    offset = 0.0
    if not claim.relative:
        offset = (data.analytic_value or 0.0) - (ablation_data.analytic_value or 0.0)
    elif (
        data.analytic_value
        and ablation_data.analytic_value
        and data.analytic_value * ablation_data.analytic_value < 0
    ):
        offset = math.nan  # relative to numbers of different sign: not comparable
    return dataclasses.replace(interval, low=interval.low - offset, high=interval.high - offset)

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
TOLERANCE_IN_ULPS = 32  # float32 rounding by which equal arms may differ after many operations

Comparison = Float[np.ndarray, " replicate"] | float | None


class ClaimData(NamedTuple):
    """The data of a claim.

    Attributes:
        values: its metric in its arm, one value per replicate.
        comparison: what is subtracted: the same in the arm `compare_to`, or the analytic value.
        bounds: smallest and largest possible value of the metric, if it declares both.
        deterministic: no random number was drawn in any of the arms.
        is_difference: the values are differences between points of a sweep.
    """

    values: Float[np.ndarray, " replicate"]
    comparison: Comparison = None
    bounds: tuple[float, float] | None = None
    deterministic: bool = False
    is_difference: bool = False

    @property
    def differences(self) -> Float[np.ndarray, " replicate"]:
        """The values minus what they are compared with."""
        return self.values if self.comparison is None else self.values - self.comparison


def estimate_claim(
    claim: Claim, data: ClaimData, level: float = CONFIDENCE_LEVEL
) -> IntervalEstimate:
    """The estimate of a claim in one arm, with its interval."""
    values, comparison, bounds, deterministic, is_difference = data
    if claim.interval == "people":
        return interval_over_resamples(values, comparison, claim.relative, level, deterministic)
    if comparison is None:
        return estimate(values, claim.statistic, level, bounds, deterministic, is_difference)
    statistic, relative = claim.statistic, claim.relative
    return compare(
        values, comparison, statistic, relative, level, bounds, deterministic, is_difference
    )


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
    claim: Claim, data: ClaimData, ablation_data: ClaimData, level: float = CONFIDENCE_LEVEL
) -> IntervalEstimate:
    """The claim's effect minus its effect in the ablation; only the sign is used.

    A common reference arm cancels. Analytic values may differ between the arms, and their
    difference is subtracted.
    """
    (values, law, bounds, *_), (ablated, ablated_law, *_), offset = data, ablation_data, 0.0
    if isinstance(law, float) and isinstance(ablated_law, float):
        if not claim.relative:
            offset = law - ablated_law
        elif law and ablated_law:
            values, ablated = values / abs(law), ablated / abs(ablated_law)
            # relative to numbers of different sign: not comparable
            offset = math.nan if law * ablated_law < 0 else 0.0
    absolute = claim.model_copy(update={"relative": False})
    deterministic = data.deterministic and ablation_data.deterministic
    bounds = None if claim.relative else bounds
    interval = estimate_claim(absolute, ClaimData(values, ablated, bounds, deterministic), level)
    return dataclasses.replace(interval, low=interval.low - offset, high=interval.high - offset)


def without_rounding_differences(
    reference: Float[np.ndarray, " replicate"], values: Float[np.ndarray, " replicate"]
) -> Float[np.ndarray, " replicate"]:
    """The reference, replaced by `values` wherever the two differ only by float32 rounding.

    Arms that are equal in exact arithmetic may differ systematically in the last bits; with enough
    replicates such a difference would become significant. Numbers that are not finite have no size
    to which rounding is relative: the reference is then unchanged, and there is no estimate.
    """
    if not (np.isfinite(values).all() and np.isfinite(reference).all()):
        return reference
    size = np.maximum(np.abs(values), np.abs(reference)).max()
    tolerance = TOLERANCE_IN_ULPS * np.finfo(np.float32).eps * size
    differences = values - reference
    if np.ptp(differences) <= tolerance:  # the same difference in every replicate
        return values - np.median(differences) * (np.abs(np.median(differences)) > tolerance)
    return np.where(np.abs(differences) <= tolerance, values, reference)

"""What a claim looks at, one figure a replicate, and the estimate that it makes."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mores.analysis.intervals import Estimate, compare, estimate
from mores.analysis.respondent_intervals import over_resamples
from mores.experiments.scenario.specification import Claim

LEVEL = 0.95


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


def _other(figures: Figures) -> np.ndarray | float | None:
    """What is taken off."""
    return figures.prediction if figures.reference is None else figures.reference


def estimated(claim: Claim, figures: Figures) -> Estimate:
    """The figure of a claim in one arm, with its interval."""
    values, other = figures.values, _other(figures)
    if claim.interval == "people":
        return over_resamples(values, other, claim.relative, LEVEL)
    if other is None:
        return estimate(values, claim.statistic, LEVEL)
    return compare(values, other, claim.statistic, claim.relative, LEVEL)


def effect(claim: Claim, figures: Figures) -> float:
    """The figure at a draw of uncertain parameters: a mean over its replicates."""
    effect, other = float(figures.values.mean()), _other(figures)
    if other is None:
        return effect
    base = float(np.mean(other))
    if not claim.relative:
        return effect - base
    return (effect - base) / base if base else math.nan


def apart(claim: Claim, here: Figures, there: Figures) -> Estimate:
    """How much larger a claim's figure is than in the ablation: its sign is what matters.

    What both are taken against is the same and falls out; of predictions, which an environment
    makes for each arm, the difference is left.
    """
    values, ablated = here.values, there.values
    if claim.relative and here.prediction and there.prediction:
        values, ablated = values / abs(here.prediction), ablated / abs(there.prediction)
    if claim.interval == "people":
        found = over_resamples(values, ablated, False, LEVEL)
    else:
        found = compare(values, ablated, claim.statistic, False, LEVEL)
    off = 0.0
    if not claim.relative:
        off = (here.prediction or 0.0) - (there.prediction or 0.0)
    elif here.prediction and there.prediction and here.prediction * there.prediction < 0:
        off = math.nan  # relative to numbers of different sign: not to be compared
    return dataclasses.replace(found, low=found.low - off, high=found.high - off)

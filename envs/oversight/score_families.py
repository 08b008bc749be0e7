"""Distributions of a monitor's suspicion score: honest work at 0, an attack shifted by d.

`normal` is signal detection theory with equal variances. `logistic` makes the logit of the true
positive rate linear in the logit of the false positive rate, with slope 1. Both have a monotone
likelihood ratio: the audit of the highest scores is the most powerful one against every level of
attack at the same time (Neyman-Pearson lemma), so thresholds are optimal.

A family of your own is an entry of `SCORE_FAMILIES`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy import special
from torch import Tensor

from mores.core.errors import ParameterError, did_you_mean


@dataclasses.dataclass(frozen=True)
class ScoreFamily:
    """Distribution F of the score of honest work, symmetric or not, with a density.

    Attributes:
        upper_tail: `1 - F(x)`, of arrays.
        upper_quantile: x with `1 - F(x) = p`; infinite at p = 0 and p = 1.
        density: derivative of F.
        from_uniform: quantile F^-1 of a tensor of numbers in (0, 1): draws scores.
        is_normal: whether F is the standard normal distribution, whose sums are normal.
    """

    upper_tail: Callable[[Any], Any]
    upper_quantile: Callable[[Any], Any]
    density: Callable[[Any], Any]
    from_uniform: Callable[[Tensor], Tensor]
    is_normal: bool = False


SCORE_FAMILIES: dict[str, ScoreFamily] = {
    "normal": ScoreFamily(
        upper_tail=lambda x: special.ndtr(-x),
        upper_quantile=lambda p: -special.ndtri(p),
        density=lambda x: np.exp(-np.square(x) / 2) / math.sqrt(2 * math.pi),
        from_uniform=torch.special.ndtri,
        is_normal=True,
    ),
    "logistic": ScoreFamily(
        upper_tail=lambda x: special.expit(-x),
        upper_quantile=lambda p: -special.logit(p),
        density=lambda x: special.expit(x) * special.expit(-x),
        from_uniform=torch.logit,
    ),
}


def score_family(name: str) -> ScoreFamily:
    """Family of that name.

    Raises:
        ParameterError: unknown name.
    """
    if name not in SCORE_FAMILIES:
        raise ParameterError(
            message=f"unknown score family {name!r}{did_you_mean(name, SCORE_FAMILIES)}",
            code="unknown_name",
        )
    return SCORE_FAMILIES[name]

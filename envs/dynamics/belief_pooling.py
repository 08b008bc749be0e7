"""Pooling beliefs that already contain one's own evidence: the precision recursion, and its limits.

Qiu, He, Chugh and Kleiman-Weiner 2025 (arXiv 2506.06166). With W the trust matrix, p the precision
of private evidence with mean m, q that of the aggregate belief nu:

    q' = p' + W q        nu' q' = m' p' + W (nu q)

q overflows float32 within some 130 rounds at spectral radius 2. It is kept as a number of order
one and an exponent, and rescaled by powers of two, which loses nothing.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Beliefs:
    """Aggregate beliefs of everybody in a world, with their precision.

    Attributes:
        mean: nu.
        scaled_precision: the precision q, divided by `2 ** exponent`; the largest is in [1/2, 1).
        log2_scale: how often q was halved, net.
        inverse_scale: `2 ** -exponent`; it falls to 0 once private evidence no longer counts beside q.
    """

    mean: Float[Tensor, "world agent"]
    scaled_precision: Float[Tensor, "world agent"]
    log2_scale: Float[Tensor, " world"]
    inverse_scale: Float[Tensor, " world"]

    @property
    def log10_precision(self) -> Float[Tensor, "world agent"]:
        """log10 q, which does not overflow."""
        return torch.log10(self.scaled_precision) + (self.log2_scale * math.log10(2.0))[:, None]


def update_beliefs(
    beliefs: Beliefs,
    mean_evidence: Float[Tensor, "world agent"],
    evidence_precision: Float[Tensor, " world"],
    received_precision: Float[Tensor, "world agent"],
    received_moment: Float[Tensor, "world agent"],
) -> Beliefs:
    """One round of the recursion.

    Args:
        beliefs: those before.
        mean_evidence: mean of all private evidence, the newest included.
        evidence_precision: its precision, in units of q (not yet divided by the exponent).
        received_precision: `W q` in the units of `beliefs.scaled_precision`.
        received_moment: `W (nu q)` likewise.
    """
    own = (evidence_precision * beliefs.inverse_scale)[:, None]
    weight = own + received_precision
    mean = (mean_evidence * own + received_moment) / weight
    heaviest = weight.amax(1)
    halving = torch.frexp(heaviest).mantissa / heaviest  # a power of two, exactly
    return Beliefs(
        mean=mean,
        scaled_precision=weight * halving[:, None],
        log2_scale=beliefs.log2_scale - torch.log2(halving).round(),
        inverse_scale=beliefs.inverse_scale * halving,
    )


def belief_error_std(
    rounds: int,
    own_side_size: int,
    other_side_size: int,
    trust: float,
    loop_gain: float,
    evidence_noise_std: float,
) -> Float[np.ndarray, " round"]:
    """Standard deviation of a belief's error after 0 ... `rounds` rounds of honest reports.

    Two sides trust each other and not themselves (people and assistants; a star). A belief is a
    weighted mean of all evidence: evidence k rounds old counts with the believer's row of
    `I + W + ... + W^k`. By symmetry that row holds three numbers: for the believer, for another
    of its side, for one of the other side. In float64 logarithms, no prior. Derived for mores.

    Args:
        rounds: how many.
        own_side_size: number of those on the believer's side, the believer included.
        other_side_size: number of those on the other side.
        trust: of the believer in each of the other side.
        loop_gain: by how much precision grows in two rounds: product of both sizes and both trusts.
        evidence_noise_std: standard deviation of one observation.
    """
    age = np.arange(rounds)
    with np.errstate(divide="ignore"):
        log_gain, log_trust = np.log(loop_gain), np.log(trust)
        twos = age // 2
        walked = np.where(twos > 0, twos * log_gain if loop_gain else -np.inf, 0.0)
        own = np.where(age % 2 == 0, walked - np.log(own_side_size), -np.inf)
        itself, fellow = own.copy(), own.copy()
        itself[:1], fellow[:1] = 0.0, -np.inf
        other = np.where(age % 2 == 1, walked + log_trust, -np.inf)
        rows = np.logaddexp.accumulate(np.stack([itself, fellow, other]), axis=1)
        many = np.log(np.array([[1.0], [own_side_size - 1.0], [other_side_size]]))
        weight = np.logaddexp.reduce(np.logaddexp.accumulate(rows + many, axis=1))
        square = np.logaddexp.reduce(np.logaddexp.accumulate(2 * rows + many, axis=1))
    return np.concatenate([[np.nan], evidence_noise_std * np.exp(0.5 * square - weight)])

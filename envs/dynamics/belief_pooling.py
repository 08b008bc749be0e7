"""Pooling of beliefs that already contain the agent's own evidence: recursion and closed forms.

Qiu, He, Chugh and Kleiman-Weiner 2025 (arXiv 2506.06166). W is the trust matrix, p and m are
precision and mean of private evidence, q and nu are precision and mean of the aggregate belief:

    q' = p' + W q        nu' q' = m' p' + W (nu q)

q overflows float32 after about 130 rounds at spectral radius 2. It is stored as a number of order
one and an exponent, and rescaled by powers of two, which is exact.
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
    """Aggregate beliefs of all agents of a world, with their precision.

    Attributes:
        mean: nu.
        scaled_precision: `q / 2 ** log2_scale`; the largest of a world is in [1/2, 1).
        log2_scale: base-2 exponent of the scale.
        inverse_scale: `2 ** -log2_scale`; underflows to 0 when private evidence is negligible to q.
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
    """Beliefs after one round of the recursion.

    Args:
        beliefs: beliefs before the round.
        mean_evidence: mean of all private evidence, including this round's.
        evidence_precision: its precision, in units of q (not scaled).
        received_precision: `W q` in the units of `beliefs.scaled_precision`.
        received_moment: `W (nu q)` in the same units.
    """
    own_precision = (evidence_precision * beliefs.inverse_scale)[:, None]
    precision = own_precision + received_precision
    mean = (mean_evidence * own_precision + received_moment) / precision
    largest = precision.amax(1)
    rescaling = torch.frexp(largest).mantissa / largest  # exactly a power of two
    return Beliefs(
        mean=mean,
        scaled_precision=precision * rescaling[:, None],
        log2_scale=beliefs.log2_scale - torch.log2(rescaling).round(),
        inverse_scale=beliefs.inverse_scale * rescaling,
    )


def belief_error_std(
    rounds: int,
    own_side_size: int,
    other_side_size: int,
    trust: float,
    loop_gain: float,
    evidence_noise_std: float,
) -> Float[np.ndarray, " round"]:
    """Standard deviation of a belief's error after 0 ... `rounds` rounds of truthful reports.

    The agents form two sides; each agent trusts the other side only (people and assistants; a
    star). A belief is a weighted mean of all evidence: evidence of age k has the weights of the
    agent's row of `I + W + ... + W^k`: by symmetry one number for the agent itself, one for others
    of its side, one for the other side. In float64 logarithms, no prior. Derived for mores.

    Args:
        rounds: number of rounds.
        own_side_size: number of agents on the agent's side, including itself.
        other_side_size: number of agents on the other side.
        trust: trust of the agent in each agent of the other side.
        loop_gain: growth factor of precision in two rounds: product of both sizes and both trusts.
        evidence_noise_std: standard deviation of one observation.
    """
    age = np.arange(rounds)
    with np.errstate(divide="ignore"):
        log_gain, log_trust = np.log(loop_gain), np.log(trust)
        loops = age // 2
        log_loops = np.where(loops > 0, loops * log_gain if loop_gain else -np.inf, 0.0)
        own_side = np.where(age % 2 == 0, log_loops - np.log(own_side_size), -np.inf)
        itself, same_side = own_side.copy(), own_side.copy()
        itself[:1], same_side[:1] = 0.0, -np.inf
        other_side = np.where(age % 2 == 1, log_loops + log_trust, -np.inf)
        entries = np.logaddexp.accumulate(np.stack([itself, same_side, other_side]), axis=1)
        log_counts = np.log(np.array([[1.0], [own_side_size - 1.0], [other_side_size]]))
        weight = np.logaddexp.reduce(np.logaddexp.accumulate(entries + log_counts, axis=1))
        square = np.logaddexp.reduce(np.logaddexp.accumulate(2 * entries + log_counts, axis=1))
    return np.concatenate([[np.nan], evidence_noise_std * np.exp(0.5 * square - weight)])

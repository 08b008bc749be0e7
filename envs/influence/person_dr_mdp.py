"""Dynamic-reward Markov decision process (DR-MDP) of one person with few preferences.

Carroll et al. 2024 (arXiv 2405.17713; from memory of the paper): the person's preference theta, one
of a finite number, changes with the assistant's actions, and R_theta(a) is the reward of action a
by theta. The actions are nothing (0) and influence (1). With u uniform in [0, 1), a person of
preference c without influence moves to P^-1[c](u), the inverse distribution function of a row of
`natural_transitions`.
Influence succeeds with probability `susceptibility` and then leads to Q^-1[c](u), of a row of
`influenced_transitions`; without success the natural transition applies.

The *natural preference* theta^nat of the paper is the counterfactual preference of the same person,
with the same random numbers, without any influence. The coupling by one u is a choice of mores: it
determines the joint distribution of both preferences, not the marginals.

Optimal policies and their values: `mores.envs.influence.alignment_objectives`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

Matrix = tuple[tuple[float, ...], ...]

NOOP, INFLUENCE = 0, 1


@dataclasses.dataclass(frozen=True)
class PersonDRMDP:
    """Rewards and transition probabilities of one person. Hashable, so that solutions are cached.

    Attributes:
        rewards: rewards of doing nothing and of influence, by preference.
        natural_transitions: transition probabilities without influence, by preference.
        influenced_transitions: transition probabilities of successful influence, by preference.
        susceptibility: probability that influence succeeds.
        initial_distribution: probability of each initial preference.
    """

    rewards: Matrix
    natural_transitions: Matrix
    influenced_transitions: Matrix
    susceptibility: float
    initial_distribution: tuple[float, ...]

    @property
    def num_preferences(self) -> int:
        """Number of preferences."""
        return len(self.rewards)

    @functools.cached_property
    def reward_matrix(self) -> Float[np.ndarray, "preference action"]:
        """`rewards` as an array."""
        return np.array(self.rewards, dtype=np.float64)

    @functools.cached_property
    def transition_matrix(self) -> Float[np.ndarray, "action preference next"]:
        """Transition probabilities of the preference, by action."""
        natural = np.array(self.natural_transitions, dtype=np.float64)
        p = self.susceptibility
        return np.stack([natural, p * np.array(self.influenced_transitions) + (1 - p) * natural])

    @functools.cached_property
    def joint_transition_matrix(
        self,
    ) -> Float[np.ndarray, "action natural preference next_natural next"]:
        """Joint transition probabilities of natural and present preference under one u."""
        natural = self._joint_transitions(self.natural_transitions)
        influenced = self._joint_transitions(self.influenced_transitions)
        p = self.susceptibility
        return np.stack([natural, p * influenced + (1 - p) * natural])

    def _joint_transitions(
        self, rows: Matrix
    ) -> Float[np.ndarray, "natural preference next_natural next"]:
        natural = self.natural_transitions
        return np.array([[quantile_coupling(one, other) for other in rows] for one in natural])

    @functools.cached_property
    def preserves_natural_preference(self) -> tuple[bool, ...]:
        """Whether influence cannot change the transition, by preference."""
        return tuple(
            self.susceptibility == 0 or influenced == natural
            for influenced, natural in zip(
                self.influenced_transitions, self.natural_transitions, strict=True
            )
        )

    @functools.cached_property
    def influence_weakly_dominates(self) -> bool:
        """Whether every preference rewards influence at least as much as doing nothing."""
        return bool((self.reward_matrix[:, INFLUENCE] >= self.reward_matrix[:, NOOP]).all())


def inverse_cdf(
    u: Float[Tensor, "world agent"], preference: Int[Tensor, "world agent"], rows: Matrix
) -> Int[Tensor, "world agent"]:
    """Next preference, by the inverse distribution function of the preference's row."""
    thresholds = _thresholds(rows, u.dtype, u.device)
    return (u[..., None] >= thresholds[preference]).sum(-1)


@functools.lru_cache(maxsize=64)
def _thresholds(
    rows: Matrix, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "preference threshold"]:
    """Cumulative probabilities of each row without the last, which is 1."""
    with torch.inference_mode(False):
        return torch.tensor(np.cumsum(rows, -1)[:, :-1], dtype=dtype, device=device)


def quantile_coupling(
    one: Sequence[float], other: Sequence[float]
) -> Float[np.ndarray, "first second"]:
    """Joint probabilities of two `inverse_cdf` draws from one uniform number."""
    ends_one, ends_other = np.cumsum(one), np.cumsum(other)
    ends_one[-1] = ends_other[-1] = 1.0  # without rounding error
    begins_one, begins_other = ends_one - one, ends_other - other
    begins = np.maximum(begins_one[:, None], begins_other[None])
    ends = np.minimum(ends_one[:, None], ends_other[None])
    return np.maximum(ends - begins, 0.0)


def susceptibility_threshold(cost: float, gain: float, horizon: int) -> float:
    """Smallest susceptibility at which influence in the first round maximizes real-time return.

    Closed form for two preferences: natural transitions lead to the first, successful influence to
    the second. With the cost c = R_0(noop) - R_0(influence) > 0 of influence now and the gain
    g = R_1(influence) - R_0(noop) > 0 of each later round in which it succeeds again, influence is
    optimal for g (s + s^2 + ... + s^(T - 1)) >= c. For c = g: never for T = 1, from s = 1 for
    T = 2, from (sqrt 5 - 1) / 2 for T = 3, and never below 1/2 for any horizon T.
    Requires R_1(influence) >= R_1(noop): influence continues after success.

    Args:
        cost: c.
        gain: g.
        horizon: T, rounds.

    Returns:
        The susceptibility, in (0, 1]; infinity if there is none.
    """

    def surplus(susceptibility: float) -> float:
        return gain * math.fsum(susceptibility**k for k in range(1, horizon)) - cost

    if surplus(1.0) < 0:
        return math.inf
    if surplus(1.0) == 0:
        return 1.0
    from scipy.optimize import brentq

    return float(brentq(surplus, 0.0, 1.0, xtol=1e-14, rtol=1e-14))  # type: ignore[arg-type]

"""Rewards that change with the person: a small dynamic-reward Markov decision process (DR-MDP).

Carroll et al. 2024 (arXiv 2405.17713): what a person values, here a *taste* theta out of a few,
moves with what an assistant does, and R_theta(a) is the worth of an action a in the eyes of theta.
An assistant does nothing (0) or influences (1). In a round with a chance number u, uniform in
[0, 1), a person of taste c who is left alone comes to P^-1[c](u), the inverse distribution function
of a row of `natural`. Influence takes with the probability `susceptibility`, and then leads to
Q^-1[c](u), a row of `influenced`; where it does not take, nature has its way.

*Nature* is where the same person, with the same chance numbers, would be if left alone all the
time: the counterfactual theta^nat of the paper. The coupling by one u for both is a choice of ours:
it decides how often both are alike, and not how either is distributed.

Which policies are best, and what they come to: `mores.envs.influence.alignment_objectives`.
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
    """What an assistant of one person needs to know. Hashable, so that solutions can be kept.

    Attributes:
        rewards: worth of doing nothing and of influence, in the eyes of each taste.
        natural_transitions: where a person of each taste goes when left alone: probabilities.
        influenced_transitions: where one goes when influence takes.
        susceptibility: probability that it does.
        initial_distribution: probability of each first taste.
    """

    rewards: Matrix
    natural_transitions: Matrix
    influenced_transitions: Matrix
    susceptibility: float
    initial_distribution: tuple[float, ...]

    @property
    def num_preferences(self) -> int:
        """How many there are."""
        return len(self.rewards)

    @functools.cached_property
    def reward_matrix(self) -> Float[np.ndarray, "taste action"]:
        """`rewards` as an array."""
        return np.array(self.rewards, dtype=np.float64)

    @functools.cached_property
    def transition_matrix(self) -> Float[np.ndarray, "action taste next"]:
        """Where a person goes, by what is done."""
        left_alone = np.array(self.natural_transitions, dtype=np.float64)
        takes = self.susceptibility
        return np.stack(
            [left_alone, takes * np.array(self.influenced_transitions) + (1 - takes) * left_alone]
        )

    @functools.cached_property
    def joint_transition_matrix(self) -> Float[np.ndarray, "action nature taste next_nature next"]:
        """Where nature and person go together: joint probabilities under one chance number."""
        left_alone = self._joint_transitions(self.natural_transitions)
        takes = self.susceptibility
        return np.stack(
            [
                left_alone,
                takes * self._joint_transitions(self.influenced_transitions)
                + (1 - takes) * left_alone,
            ]
        )

    def _joint_transitions(
        self, rows: Matrix
    ) -> Float[np.ndarray, "nature taste next_nature next"]:
        return np.array(
            [[quantile_coupling(one, other) for other in rows] for one in self.natural_transitions]
        )

    @functools.cached_property
    def preserves_natural_preference(self) -> tuple[bool, ...]:
        """Of each taste: influence leads nobody away from where nature would lead them."""
        return tuple(
            self.susceptibility == 0 or away == home
            for away, home in zip(
                self.influenced_transitions, self.natural_transitions, strict=True
            )
        )

    @functools.cached_property
    def influence_weakly_dominates(self) -> bool:
        """No taste would rather have nothing done than be influenced."""
        return bool((self.reward_matrix[:, INFLUENCE] >= self.reward_matrix[:, NOOP]).all())


def inverse_cdf(
    u: Float[Tensor, "world agent"], preference: Int[Tensor, "world agent"], rows: Matrix
) -> Int[Tensor, "world agent"]:
    """The next taste, by the inverse distribution function of the row of each taste."""
    below = torch.tensor(np.cumsum(rows, -1)[:, :-1], dtype=u.dtype, device=u.device)
    return (u[..., None] >= below[preference]).sum(-1)


def quantile_coupling(
    one: Sequence[float], other: Sequence[float]
) -> Float[np.ndarray, "first second"]:
    """Joint probabilities of two draws by `inverse_cdf` from the same uniform number."""
    ends_one, ends_other = np.cumsum(one), np.cumsum(other)
    ends_one[-1] = ends_other[-1] = 1.0  # not a rounding below it
    begins_one, begins_other = ends_one - one, ends_other - other
    begins = np.maximum(begins_one[:, None], begins_other[None])
    ends = np.minimum(ends_one[:, None], ends_other[None])
    return np.maximum(ends - begins, 0.0)


def susceptibility_threshold(cost: float, gain: float, horizon: int) -> float:
    """From which susceptibility on influence pays at once, for pay by the taste of the moment.

    Closed form for two tastes, of which one left alone is always the first and one whom influence
    takes the second: with c = R_0(noop) - R_0(influence) > 0, what influence costs now, and
    g = R_1(influence) - R_0(noop) > 0, what it earns in each later round in which it takes again,
    it pays where g (s + s^2 + ... + s^(T - 1)) >= c. For c = g: never for T = 1, from s = 1 for
    T = 2, from (sqrt 5 - 1) / 2 for T = 3, and below 1/2 never, however long the horizon T.
    It assumes R_1(influence) >= R_1(noop): who was won is not let go.

    Args:
        cost: c.
        gain: g.
        horizon: T, rounds.

    Returns:
        The susceptibility, in (0, 1]; infinite where there is none.
    """

    def surplus(takes: float) -> float:
        return gain * math.fsum(takes**k for k in range(1, horizon)) - cost

    if surplus(1.0) < 0:
        return math.inf
    if surplus(1.0) == 0:
        return 1.0
    from scipy.optimize import brentq

    return float(brentq(surplus, 0.0, 1.0, xtol=1e-14, rtol=1e-14))  # type: ignore[arg-type]

"""Friedkin and Johnsen (1990): as DeGroot, but everybody stays tied to where they started.

`x' = l P x + (1 - l) x0` with susceptibility l in [0, 1]. For l < 1 there is one equilibrium,
`x* = (I - l P)^-1 (1 - l) x0`; the rows of that kernel add up to 1. As l goes to 1 it nears a
consensus that in general is not DeGroot's (arXiv 1808.10379).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import Tensor


def friedkin_johnsen_step(
    weighted_mean: Float[Tensor, "world agent value"],
    anchor: Float[Tensor, "world agent value"],
    susceptibility: float,
) -> Float[Tensor, "world agent value"]:
    """Values after one round of hearing `weighted_mean` (`degroot.degroot_step`), tied to the start `anchor`."""
    return susceptibility * weighted_mean + (1.0 - susceptibility) * anchor


def equilibrium_matrix(
    influence_matrix: Float[np.ndarray, "agent agent"], susceptibility: float
) -> Float[np.ndarray, "agent agent"]:
    """How the equilibrium of each person (row) depends on everybody's start (column)."""
    agents = len(influence_matrix)
    return np.linalg.solve(
        np.eye(agents) - susceptibility * influence_matrix, (1.0 - susceptibility) * np.eye(agents)
    )

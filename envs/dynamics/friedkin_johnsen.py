"""Friedkin-Johnsen opinion dynamics (1990): DeGroot averaging anchored at the initial values.

`x' = l P x + (1 - l) x0` with susceptibility l in [0, 1]. For l < 1 the unique equilibrium is
`x* = (I - l P)^-1 (1 - l) x0`; the rows of that matrix sum to 1. As l -> 1 it approaches a
consensus that generally differs from DeGroot's (arXiv 1808.10379).
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
    """Values after one round, from the mean `P x` (`degroot.degroot_step`) and the anchor `x0`."""
    return susceptibility * weighted_mean + (1.0 - susceptibility) * anchor


def equilibrium_matrix(
    influence_matrix: Float[np.ndarray, "agent agent"], susceptibility: float
) -> Float[np.ndarray, "agent agent"]:
    """Derivative of each person's equilibrium value (row) by each initial value (column)."""
    agents = len(influence_matrix)
    return np.linalg.solve(
        np.eye(agents) - susceptibility * influence_matrix, (1.0 - susceptibility) * np.eye(agents)
    )

"""DeGroot (1974) averaging: each person adopts the weighted mean of the answers, `x' = P x`.

In a strongly connected, aperiodic network all people converge to the consensus `pi . x0`, where
`pi` is the left eigenvector of P for eigenvalue 1, at the rate of the second largest eigenvalue in
modulus. Periodic networks do not converge.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import Tensor

from mores.envs.graphs.influence_graph import InfluenceGraph, weighted_mean


def degroot_step(
    values: Float[Tensor, "world agent value"],
    answers: Float[Tensor, "world agent value"],
    graph: InfluenceGraph,
) -> Float[Tensor, "world agent value"]:
    """Values after one round: weighted mean of a person's own value and the neighbors' answers."""
    return weighted_mean(graph, values, answers)


def consensus_weights(
    influence_matrix: Float[np.ndarray, "agent agent"],
) -> Float[np.ndarray, " agent"]:
    """Weight of each person's initial value in the consensus; the weights sum to 1."""
    eigenvalues, vectors = np.linalg.eig(influence_matrix.T)
    leading = np.real(vectors[:, np.argmax(np.real(eigenvalues))])
    return leading / leading.sum()


def contraction_factor(influence_matrix: Float[np.ndarray, "agent agent"]) -> float:
    """Asymptotic ratio of disagreement from one round to the next: |lambda_2|."""
    return float(np.sort(np.abs(np.linalg.eigvals(influence_matrix)))[-2])


def half_life(influence_matrix: Float[np.ndarray, "agent agent"]) -> float:
    """Rounds in which disagreement halves, asymptotically."""
    return float(np.log(0.5) / np.log(contraction_factor(influence_matrix)))

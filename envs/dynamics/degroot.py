"""DeGroot (1974): everybody moves to the weighted mean of what they hear, `x' = P x`.

With a strongly connected, aperiodic network all agree in the end on `pi . x0`, where `pi` is the
left eigenvector of P for eigenvalue 1; they get there at the rate of the second largest
eigenvalue in modulus. Periodic networks do not converge.
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
    """Values after one round of listening to what the others said."""
    return weighted_mean(graph, values, answers)


def consensus_weights(
    influence_matrix: Float[np.ndarray, "agent agent"],
) -> Float[np.ndarray, " agent"]:
    """How much each person's start counts in the final consensus; adds up to 1."""
    eigenvalues, vectors = np.linalg.eig(influence_matrix.T)
    leading = np.real(vectors[:, np.argmax(np.real(eigenvalues))])
    return leading / leading.sum()


def contraction_factor(influence_matrix: Float[np.ndarray, "agent agent"]) -> float:
    """The share of disagreement that is left after a round, in the long run: |lambda_2|."""
    return float(np.sort(np.abs(np.linalg.eigvals(influence_matrix)))[-2])


def half_life(influence_matrix: Float[np.ndarray, "agent agent"]) -> float:
    """Rounds after which half of the disagreement is gone, in the long run."""
    return float(np.log(0.5) / np.log(contraction_factor(influence_matrix)))

"""DeGroot (1974) averaging: each person adopts the weighted mean of the answers, `x' = P x`.

In a strongly connected, aperiodic network all people converge to the consensus `pi . x0`, where
`pi` is the left eigenvector of P for eigenvalue 1, at the rate of the second largest eigenvalue in
modulus. Periodic networks do not converge.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from jaxtyping import Float

from mores.core.graph import Graph
from mores.core.update_rule import PeerInputs, RuleResult, UpdateRule


class DeGroot(UpdateRule):
    """Weighted mean of a person's own value and the neighbors' answers."""

    def step(self, inputs: PeerInputs, state: Any) -> RuleResult:
        """Values after one round."""
        return RuleResult(inputs.weighted_mean)

    def equilibrium_matrix(self, graph: Graph) -> Float[np.ndarray, "agent agent"] | None:
        """Rows of consensus weights; None where people do not reach a consensus."""
        matrix = graph.matrix()
        if not reaches_consensus(matrix):
            return None
        return np.tile(consensus_weights(matrix.toarray()), (graph.num_people, 1))

    def analytic_values(self, graph: Graph) -> dict[str, float]:
        """`contraction_factor` and `half_life` of disagreement; empty without consensus."""
        matrix = graph.matrix()
        if not reaches_consensus(matrix) or graph.num_people < 2:
            return {}
        dense = matrix.toarray()
        return {"contraction_factor": contraction_factor(dense), "half_life": half_life(dense)}


def reaches_consensus(influence_matrix: scipy.sparse.csr_array) -> bool:
    """Whether a sufficient condition holds: one strong component, with an own share, no negatives.

    Connected people without any own share may be periodic, and are not counted.
    """
    components = scipy.sparse.csgraph.connected_components(
        influence_matrix, connection="strong", return_labels=False
    )
    positive = influence_matrix.data.min(initial=0.0) >= 0
    return bool(components == 1 and positive and influence_matrix.diagonal().any())


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

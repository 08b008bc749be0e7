"""Friedkin-Johnsen opinion dynamics (1990): DeGroot averaging anchored at the initial values.

`x' = l P x + (1 - l) x0` with susceptibility l in [0, 1]. For l < 1 the unique equilibrium is
`x* = (I - l P)^-1 (1 - l) x0`; the rows of that matrix sum to 1. As l -> 1 it approaches a
consensus that generally differs from DeGroot's (arXiv 1808.10379).
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from jaxtyping import Float
from pydantic import Field

from mores.core.graph import Graph
from mores.core.update_rule import PeerInputs, RuleResult, UpdateRule
from mores.envs.dynamics.degroot import DeGroot
from mores.registry.varying import PersonNumber


class FriedkinJohnsen(UpdateRule):
    """Mean of the weighted mean of answers and the anchor.

    The anchor is a person's initial values. Where values revert to dispositions by themselves, as
    with `human: fitted`, the default of `coevolution`, it is the values before the rule.
    """

    susceptibility: Annotated[float, PersonNumber(ge=0, le=1)] = Field(
        default=0.9,
        description="weight of the weighted mean `P x`; the anchor has the rest",
    )

    def step(self, inputs: PeerInputs, state: Any) -> RuleResult:
        """Values after one round."""
        values = inputs.weighted_mean.mul_(self.susceptibility)
        return RuleResult(values.add_((1.0 - self.susceptibility) * inputs.anchor))

    def equilibrium_matrix(self, graph: Graph) -> Float[np.ndarray, "agent agent"] | None:
        """`(I - l P)^-1 (1 - l)`; DeGroot's consensus for l = 1."""
        if not isinstance(self.susceptibility, float):
            return None  # differs between people
        if self.susceptibility == 1:
            return DeGroot().equilibrium_matrix(graph)
        return equilibrium_matrix(graph.matrix().toarray(), self.susceptibility)

    def analytic_values(self, graph: Graph) -> dict[str, float]:
        """`convergence_factor`, the asymptotic ratio of distances from the equilibrium."""
        if not isinstance(self.susceptibility, float):
            return {}
        if self.susceptibility == 1:
            return DeGroot().analytic_values(graph)
        radius = np.abs(np.linalg.eigvals(graph.matrix().toarray())).max()
        return {"convergence_factor": float(self.susceptibility * radius)}


def equilibrium_matrix(
    influence_matrix: Float[np.ndarray, "agent agent"], susceptibility: float
) -> Float[np.ndarray, "agent agent"]:
    """Derivative of each person's equilibrium value (row) by each initial value (column)."""
    agents = len(influence_matrix)
    return np.linalg.solve(
        np.eye(agents) - susceptibility * influence_matrix, (1.0 - susceptibility) * np.eye(agents)
    )

"""Linear contracts of many agents at once: `mores.envs.strategic.linear_contract_values` in torch.

Agents differ in risk aversion r, in the scale c of their cost matrix c C, and in the scale s of
their noise s S. The slopes depend on k = r c s alone: in a basis V of the measured tasks with
V' P V = I and V' Q V = diag(l), P = [C^-1]_MM and Q = S_MM,

    sum of n principals  y = V' [C^-1 sum(B)]_M / (1 + n k l),        T = V y
    principal i          z = V' [C^-1 B_i]_M - k l y,                 b_i = V z
    best response        z = (V' [C^-1 B_i]_M - k l y_others) / (1 + k l)

so that a batch needs no linear solver, and sums have a fixed order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.linalg
import torch
from jaxtyping import Float
from torch import Tensor

from mores.core.deterministic_sum import total


def apply(matrix: Float[Tensor, "row column"], x: Float[Tensor, "*lead column"]) -> Tensor:
    """Product of a small matrix and vectors, with sums in a fixed order."""
    product = matrix[:, 0] * x[..., :1]
    for column in range(1, matrix.shape[1]):
        product = product + matrix[:, column] * x[..., column : column + 1]
    return product


def dot(x: Tensor, y: Tensor) -> Tensor:
    """Inner product over the last dimension, with the sum in a fixed order."""
    return total(x * y, -1)


@dataclasses.dataclass(frozen=True)
class AgentTypes:
    """What differs between agents; each `[world, agent]` or of a shape that broadcasts with it."""

    risk_aversion: Tensor
    effort_cost: Tensor
    noise_variance: Tensor

    @property
    def risk_cost(self) -> Tensor:
        """k = r c s."""
        return self.risk_aversion * self.effort_cost * self.noise_variance


@dataclasses.dataclass(frozen=True)
class LinearBatch:
    """Matrices of a linear contract game, as tensors.

    Attributes:
        cost, inverse_cost, noise, noise_root: C, its inverse, S, and a root R with R R' = S.
        basis: V, with rows of 0 for tasks that are not measured.
        coordinates: matrix that gives y of T = V y.
        risk_weights: l.
        intrinsic_effort: m.
        marginal: matrix V' [C^-1]_M, from benefits to coordinates.
    """

    cost: Float[Tensor, "task task"]
    inverse_cost: Float[Tensor, "task task"]
    noise: Float[Tensor, "task task"]
    noise_root: Float[Tensor, "task task"]
    basis: Float[Tensor, "task measured"]
    coordinates: Float[Tensor, "measured task"]
    risk_weights: Float[Tensor, " measured"]
    intrinsic_effort: Float[Tensor, " task"]
    marginal: Float[Tensor, "measured task"]

    @staticmethod
    def of(
        cost: np.ndarray, noise: np.ndarray, intrinsic_effort: np.ndarray, measured: Sequence[bool]
    ) -> LinearBatch:
        """Tensors of these matrices, computed in float64."""
        tasks = np.flatnonzero(measured)
        inverse = np.linalg.inv(cost)
        rows = np.ix_(tasks, tasks)
        weights, vectors = scipy.linalg.eigh(noise[rows], inverse[rows])
        basis = np.zeros((len(cost), len(tasks)))
        basis[tasks] = vectors
        coordinates = np.zeros((len(tasks), len(cost)))
        coordinates[:, tasks] = vectors.T @ inverse[rows]
        values, directions = np.linalg.eigh(noise)
        root = directions * np.sqrt(values.clip(min=0.0))
        arrays = (
            *(cost, inverse, noise, root, basis, coordinates, weights.clip(min=0.0)),
            *(intrinsic_effort, vectors.T @ inverse[tasks]),
        )
        return LinearBatch(*(torch.from_numpy(a.astype(np.float32)) for a in arrays))

    def to(self, device: torch.device) -> LinearBatch:
        """The same on another device."""
        tensors = {f.name: getattr(self, f.name).to(device) for f in dataclasses.fields(self)}
        return LinearBatch(**tensors)

    # --- the agent -------------------------------------------------------------------------------

    def best_effort(self, slopes: Tensor, types: AgentTypes) -> Tensor:
        """m + (c C)^-1 T, `[..., task]`."""
        return (
            self.intrinsic_effort + apply(self.inverse_cost, slopes) / types.effort_cost[..., None]
        )

    def effort_loss(self, effort: Tensor, types: AgentTypes) -> Tensor:
        """Cost of effort, (e - m)' c C (e - m) / 2."""
        added = effort - self.intrinsic_effort
        return 0.5 * types.effort_cost * dot(added, apply(self.cost, added))

    def risk_premium(self, slopes: Tensor, types: AgentTypes) -> Tensor:
        """r T' s S T / 2."""
        variance = types.noise_variance * dot(slopes, apply(self.noise, slopes))
        return 0.5 * types.risk_aversion * variance

    def certainty_equivalent(
        self, slopes: Tensor, salary: Tensor, effort: Tensor, types: AgentTypes
    ) -> Tensor:
        """a + T' e - cost - risk premium."""
        wage = salary + dot(slopes, effort)
        return wage - self.effort_loss(effort, types) - self.risk_premium(slopes, types)

    def best_certainty_equivalent(
        self, slopes: Tensor, salary: Tensor, types: AgentTypes
    ) -> Tensor:
        """Certainty equivalent of a contract with the best effort."""
        return self.certainty_equivalent(slopes, salary, self.best_effort(slopes, types), types)

    # --- the principals --------------------------------------------------------------------------

    def slope_sum(self, all_benefits: Tensor, num_principals: int, risk_cost: Tensor) -> Tensor:
        """T in equilibrium, `[..., task]`, for the sum of all benefits `[task]`."""
        return apply(self.basis, self._sum_coordinates(all_benefits, num_principals, risk_cost))

    def principal_slopes(
        self, benefits: Tensor, all_benefits: Tensor, num_principals: int, risk_cost: Tensor
    ) -> Tensor:
        """b_i in equilibrium, `[..., task]`, for benefits B_i `[..., task]`."""
        y = self._sum_coordinates(all_benefits, num_principals, risk_cost)
        z = apply(self.marginal, benefits) - risk_cost[..., None] * self.risk_weights * y
        return apply(self.basis, z)

    def best_response_slopes(
        self, benefits: Tensor, others_slopes: Tensor, risk_cost: Tensor
    ) -> Tensor:
        """b_i that is best against the slopes of the other principals, `[..., task]`."""
        risk = risk_cost[..., None] * self.risk_weights
        others = risk * apply(self.coordinates, others_slopes)
        return apply(self.basis, (apply(self.marginal, benefits) - others) / (1.0 + risk))

    def _sum_coordinates(
        self, all_benefits: Tensor, num_principals: int, risk_cost: Tensor
    ) -> Tensor:
        risk = risk_cost[..., None] * self.risk_weights
        return apply(self.marginal, all_benefits) / (1.0 + num_principals * risk)


def acceptance(utility: Tensor, low: float, high: float) -> Tensor:
    """Probability that the outside option is at most a certainty equivalent.

    With a known outside option, 1e-5 below it counts as equal: offers have rounding errors.
    """
    if low == high:
        return (utility >= low - 1e-5).to(utility.dtype)
    return ((utility - low) / (high - low)).clamp(0.0, 1.0)


def best_profit(joint: Tensor, low: float, high: float) -> Tensor:
    """Largest expected profit of a principal who shares a joint surplus with the agent.

    max over U of p(U) (joint - U): U = (joint + low) / 2, at most `high`.
    """
    utility = (0.5 * (joint + low)).clamp(low, high)
    profit = acceptance(utility, low, high) * (joint - utility)
    return torch.where(joint > low, profit, torch.zeros_like(profit))

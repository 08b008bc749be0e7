"""Parameters of linear contract games, and what follows from them alone."""

from __future__ import annotations

import functools
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mores.core.config import Config
from mores.core.errors import ParameterError
from mores.envs.strategic.contract_games.linear_batch import LinearBatch
from mores.envs.strategic.linear_contract_values import (
    LinearTechnology,
    cooperative_slopes,
    linear_equilibrium,
)

Row = tuple[float, ...]
Range = Annotated[tuple[float, float], Field(description="low, high")]


class LinearParameters(Config):
    """Parameters of the game `linear`, checked; matrices as tensors; closed forms."""

    num_agents: int = Field(default=1, ge=1, le=1000, description="number of agents")
    benefits: tuple[Row, ...] = Field(
        default=((1.0, 0.5), (0.5, 1.0)),
        min_length=1,
        max_length=100,
        description="value of a unit of output of each task, one row per principal",
    )
    cost: tuple[Row, ...] = Field(
        default=((1.0, 0.3), (0.3, 1.0)),
        description="matrix C of effort costs, symmetric and positive definite; positive entries "
        "off the diagonal: tasks are substitutes",
    )
    noise: tuple[Row, ...] | None = Field(
        default=None, description="covariance of the outputs' noise; default: independent, 1 each"
    )
    intrinsic_effort: Row | None = Field(
        default=None, description="efforts that an agent exerts without incentives; default: 0"
    )
    measured: tuple[bool, ...] | None = Field(
        default=None, description="tasks whose output can be in a contract; default: all"
    )
    risk_aversion: Range = Field(default=(1.0, 1.0), description="range of risk aversion")
    effort_cost: Range = Field(default=(1.0, 1.0), description="range of the scale of effort costs")
    noise_variance: Range = Field(default=(0.5, 0.5), description="range of the scale of the noise")
    outside_option: Range = Field(
        default=(0.0, 1.0),
        description="range of the private outside option, certainty equivalents; equal ends: known",
    )
    types_fixed: bool = Field(
        default=True, description="whether types are the same in all worlds and episodes"
    )
    type_seed: int = Field(default=0, ge=0, description="seed of types, with types_fixed")
    max_slope: float = Field(default=1.5, gt=0, le=100, description="largest piece rate")
    max_salary: float = Field(default=1.5, gt=0, le=100, description="largest salary")
    max_effort: float = Field(default=3.0, gt=0, le=100, description="largest effort")
    agent_reward: Literal["utility", "mean_variance"] = Field(
        default="utility", description="agents' reward: exponential utility, or income less risk"
    )
    income_floor: float = Field(
        default=-3.0, ge=-1e3, le=0, description="lowest income in the exponential utility"
    )
    reward_source: Literal["outcome", "random"] = Field(
        default="outcome", description="random: rewards are noise, without any signal"
    )

    def model_post_init(self, context: Any) -> None:
        """Refuse incompatible parameters."""
        tasks = len(self.cost)
        for name, rows, count in (
            ("benefits", self.benefits, len(self.benefits)),
            ("cost", self.cost, tasks),
            ("noise", self.noise, tasks),
        ):
            if rows and (len(rows) != count or any(len(row) != tasks for row in rows)):
                message = f"{name}: needs {count} rows of {tasks} numbers, one per task of cost"
                raise ParameterError(name, message=message, code="wrong_shape")
        for name in ("intrinsic_effort", "measured"):
            if getattr(self, name) is not None and len(getattr(self, name)) != tasks:
                message = f"{name}: needs {tasks} entries, one per task of cost"
                raise ParameterError(name, message=message, code="wrong_shape")
        if not any(self.is_measured):
            message = "measured: at least one task must be measured"
            raise ParameterError("measured", message=message, code="conflict")
        for name, matrix, smallest in (
            ("cost", np.array(self.cost), 1e-6),
            ("noise", self.noise_covariance, -1e-9),
        ):
            if not np.allclose(matrix, matrix.T) or np.linalg.eigvalsh(matrix)[0] < smallest:
                wanted = "positive definite" if name == "cost" else "positive semidefinite"
                message = f"{name}: must be symmetric and {wanted}"
                raise ParameterError(name, message=message, code="invalid_value")
        for name in ("risk_aversion", "effort_cost", "noise_variance", "outside_option"):
            low, high = getattr(self, name)
            limit = {"effort_cost": " above 0", "outside_option": ""}.get(name, " not below 0")
            is_valid = low > 0 if name == "effort_cost" else low >= 0 or name == "outside_option"
            if low > high or not is_valid:
                message = f"{name}: needs two numbers{limit}, the smaller one first"
                raise ParameterError(name, message=message, code="out_of_range")

    # --- static data -----------------------------------------------------------------------------

    @property
    def num_principals(self) -> int:
        """Number of principals."""
        return len(self.benefits)

    @property
    def num_tasks(self) -> int:
        """Number of tasks."""
        return len(self.cost)

    @property
    def is_measured(self) -> tuple[bool, ...]:
        """Whether the output of each task can be in a contract."""
        return (True,) * self.num_tasks if self.measured is None else self.measured

    @property
    def noise_covariance(self) -> Float[np.ndarray, "task task"]:
        """Covariance of the outputs' noise at scale 1."""
        return np.eye(self.num_tasks) if self.noise is None else np.array(self.noise)

    @property
    def idle_effort(self) -> Float[np.ndarray, " task"]:
        """Efforts without incentives."""
        return np.array(self.intrinsic_effort or (0.0,) * self.num_tasks)

    @functools.cached_property
    def batch(self) -> LinearBatch:
        """Matrices as tensors."""
        matrices = (np.array(self.cost), self.noise_covariance, self.idle_effort)
        return LinearBatch.of(*matrices, self.is_measured)

    @functools.cached_property
    def benefit_rows(self) -> Float[Tensor, "principal task"]:
        """Benefits as a tensor."""
        return torch.tensor(self.benefits, dtype=torch.float32)

    def equilibrium_values(self) -> dict[str, float]:
        """Equilibrium of one agent; empty if types vary, or an offer or effort exceeds its bounds.

        The closed form holds inside the bounds of actions; another equilibrium would hold there.
        """
        ranges = (self.risk_aversion, self.effort_cost, self.noise_variance)
        if any(low != high for low, high in ranges):
            return {}
        (r, _), (c, _), (s, _) = ranges
        technology = LinearTechnology(
            c * np.array(self.cost),
            s * self.noise_covariance,
            r,
            self.idle_effort,
            self.is_measured,
        )
        benefits = np.array(self.benefits)
        solution = linear_equilibrium(technology, benefits, self.outside_option)
        kept = (benefits - solution.slopes) @ solution.effort  # less profit: each salary
        salaries = kept - (solution.surplus - solution.utility) / self.num_principals
        for numbers, limit in (
            (solution.slopes, self.max_slope),
            (salaries, self.max_salary),
            (solution.effort, self.max_effort),
        ):
            if np.abs(numbers).max() > limit:
                return {}
        together = cooperative_slopes(technology, benefits)
        values = {
            "solution_principal_payoff": solution.profit * self.num_principals,
            "equilibrium_salary": solution.salary,
            "equilibrium_surplus": solution.surplus,
            "equilibrium_utility": solution.utility,
            "equilibrium_participation": solution.participation,
            "equilibrium_profit": solution.profit * self.num_agents,
        }
        for k in range(self.num_tasks):
            values[f"equilibrium_slope_sum[{k}]"] = float(solution.slope_sum[k])
            values[f"equilibrium_effort[{k}]"] = float(solution.effort[k])
            values[f"cooperative_slope_sum[{k}]"] = float(together[k])
        return values

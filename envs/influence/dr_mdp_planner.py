"""Planner: the exact optimal policy of an alignment objective in `DRMDP`.

The objectives are those of Carroll et al. 2024 (arXiv 2405.17713), by formulas from memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from mores.core.environment import Phase, Role
from mores.core.errors import UserError
from mores.core.policy import ActionOutput, Policy, require_observation_parts
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box
from mores.envs.influence import alignment_objectives as objectives
from mores.envs.influence.alignment_objectives import AlignmentObjective, OptimalPolicies
from mores.envs.influence.person_dr_mdp import INFLUENCE, NOOP, Matrix, PersonDRMDP

REQUIRED_PARTS = (
    *("rounds_elapsed", "rounds_remaining", "initial_preference", "natural_preference"),
    *("preference", "num_influences", "susceptibility", "rewards", "natural_transitions"),
    *("influenced_transitions", "initial_distribution"),
)


class DRMDPPlanner(Policy):
    """Assistants that act optimally by an alignment objective, given the observation.

    The observation contains rewards and transition probabilities. If it contains only the mean
    susceptibility, the planner assumes that every person has it and does not learn from
    transitions: this is optimal for one such person, not for a mixture.
    """

    tags: ClassVar[Mapping[str, object]] = {
        "stochastic": False,
        "paper": "2405.17713",
    }

    objective: AlignmentObjective = Field(default="real_time", description="alignment objective")
    privileged_preference: int = Field(default=0, ge=0, description="theta* of privileged")
    constrain_last_action: bool = Field(
        default=True, description="constrained: whether it binds the preference after the end, too"
    )
    tie_break: Literal["noop", "influence"] = Field(
        default="noop", description="action if both are optimal"
    )

    @property
    def tie_break_action(self) -> int:
        """Index of the action `tie_break`."""
        return INFLUENCE if self.tie_break == "influence" else NOOP

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Box:
        """Layout of the observation."""
        require_observation_parts("dr_mdp_planner", role, *REQUIRED_PARTS)
        return role.observation_space

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Box,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        """Optimal actions, solved once for each susceptibility."""

        def category(name: str) -> np.ndarray:
            return state.read(observation, name).argmax(-1).cpu().numpy()

        def integer(name: str) -> np.ndarray:
            return state.read(observation, name)[..., 0].to(torch.int64).cpu().numpy()

        elapsed, remaining = integer("rounds_elapsed"), integer("rounds_remaining")
        preferences = ("initial_preference", "natural_preference", "preference")
        indices = (elapsed, *map(category, preferences), integer("num_influences"))
        susceptibilities = state.read(observation, "susceptibility")[..., 0].cpu().numpy()
        action = np.zeros(elapsed.shape, dtype=np.int64)
        for susceptibility in np.unique(susceptibilities):
            decimal = _float32_decimal(float(susceptibility))
            person = self._person_from_observation(state, observation[0, 0], decimal)
            horizon = int(elapsed[0, 0] + remaining[0, 0])
            policy = self.optimal_policies(person, horizon).policy(self.tie_break_action)
            index = tuple(np.minimum(i, n - 1) for i, n in zip(indices, policy.shape, strict=True))
            influence = policy[index].astype(np.int64)
            action = np.where(susceptibilities == susceptibility, influence, action)
        output = torch.from_numpy(action).to(observation.device)
        if action_mask is not None:
            output = torch.where(action_mask[..., INFLUENCE], output, NOOP)
        return ActionOutput(output, state)

    def optimal_policies(self, person: PersonDRMDP, horizon: int) -> OptimalPolicies:
        """All policies that are optimal by the objective, for a person and a horizon in rounds."""
        problem = (self.privileged_preference, self.constrain_last_action)
        return objectives.solve(person, self.objective, horizon, *problem)

    def _person_from_observation(
        self, observation_space: Box, observation: Tensor, susceptibility: float
    ) -> PersonDRMDP:
        """The DR-MDP described by an observation."""
        size = observation_space.parts["preference"].size
        if self.privileged_preference >= size:
            raise UserError(
                f"dr_mdp_planner.privileged_preference must be 0 to {size - 1} here",
                code="out_of_range",
                path="dr_mdp_planner.privileged_preference",
            )

        def rows(name: str, width: int) -> Matrix:
            part = observation_space.read(observation, name)
            numbers = [_float32_decimal(number) for number in part.tolist()]
            return tuple(tuple(numbers[i : i + width]) for i in range(0, len(numbers), width))

        return PersonDRMDP(
            rows("rewards", 2),
            rows("natural_transitions", size),
            rows("influenced_transitions", size),
            susceptibility,
            rows("initial_distribution", size)[0],
        )


def _float32_decimal(number: float) -> float:
    """Seven-digit decimal of a float32: the parameter before its rounding to float32."""
    return float(f"{number:.7g}")

"""Somebody who knows how people change, and does what is best by a notion of alignment, exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from mores.core.environment import ActionOutput, Box, Phase, Policy, Role, require_observation_parts
from mores.core.errors import UserError
from mores.core.random_streams import RandomStreams
from mores.envs.influence import alignment_objectives as notions
from mores.envs.influence.alignment_objectives import AlignmentObjective
from mores.envs.influence.person_dr_mdp import INFLUENCE, NOOP, Matrix, PersonDRMDP

REQUIRED_PARTS = (
    *("rounds_elapsed", "rounds_remaining", "initial_preference", "natural_preference", "preference", "num_influences", "susceptibility"),
    *("rewards", "natural_transitions", "influenced_transitions", "initial_distribution"),
)


class DRMDPPlanner(Policy):
    """Assistants that do what is best by a notion of alignment, exactly, for what they see.

    They know the rewards and the dynamics from their sight. Where they are told only the mean
    susceptibility, they plan as if it were everybody's, and do not learn from what happens: that
    is the optimum for a person of that susceptibility, and not for a mixture.
    """

    tags: ClassVar[Mapping[str, object]] = {
        "learns": False,
        "stochastic": False,
        "paper": "2405.17713",
    }

    objective: AlignmentObjective = Field(default="real_time", description="by which notion")
    privileged_preference: int = Field(
        default=0, ge=0, description="the taste that counts if privileged"
    )
    tie_break: Literal["noop", "influence"] = Field(
        default="noop", description="what to do where both actions are equally good"
    )

    @property
    def tie_break_action(self) -> int:
        """As a number."""
        return INFLUENCE if self.tie_break == "influence" else NOOP

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Box:
        """How its sight is laid out."""
        require_observation_parts("planner", role, *REQUIRED_PARTS)
        return role.observation_space

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Box,
        streams: RandomStreams,
    ) -> ActionOutput:
        """Look the best action up, for each susceptibility there is."""

        def which(name: str) -> np.ndarray:
            return state.read(observation, name).argmax(-1).cpu().numpy()

        def whole(name: str) -> np.ndarray:
            return state.read(observation, name)[..., 0].to(torch.int64).cpu().numpy()

        played, left = whole("rounds_elapsed"), whole("rounds_remaining")
        place = (played, which("initial_preference"), which("natural_preference"), which("preference"), whole("num_influences"))
        takes = state.read(observation, "susceptibility")[..., 0].cpu().numpy()
        action = np.zeros(played.shape, dtype=np.int64)
        for one in np.unique(takes):
            model = self._person_from_observation(
                state, observation[0, 0], _float32_decimal(float(one))
            )
            horizon = int(played[0, 0] + left[0, 0])
            policy = notions.solve(
                model, self.objective, horizon, self.privileged_preference
            ).policy(self.tie_break_action)
            index = tuple(np.minimum(p, n - 1) for p, n in zip(place, policy.shape, strict=True))
            action = np.where(takes == one, policy[index].astype(np.int64), action)
        chosen = torch.from_numpy(action).to(observation.device)
        if action_mask is not None:
            chosen = torch.where(action_mask[..., INFLUENCE], chosen, NOOP)
        return ActionOutput(chosen, state)

    def _person_from_observation(
        self, observation_space: Box, observation: Tensor, susceptibility: float
    ) -> PersonDRMDP:
        """What the sight says of everybody."""
        tastes = observation_space.parts["preference"].size
        if self.privileged_preference >= tastes:
            raise UserError(
                f"planner.ideal is one of {tastes} tastes, counted from 0",
                code="out_of_range",
                path="planner.ideal",
            )

        def rows(name: str, width: int) -> Matrix:
            numbers = [
                _float32_decimal(number)
                for number in observation_space.read(observation, name).tolist()
            ]
            return tuple(tuple(numbers[i : i + width]) for i in range(0, len(numbers), width))

        return PersonDRMDP(
            rows("rewards", 2),
            rows("natural_transitions", tastes),
            rows("influenced_transitions", tastes),
            susceptibility,
            rows("initial_distribution", tastes)[0],
        )


def _float32_decimal(number: float) -> float:
    """The decimal of seven digits that a float32 stands for: what was written as a parameter."""
    return float(f"{number:.7g}")

"""Annotators: people who choose between options, and rate them, through feedback channels.

The utility of an option is `utility_scale` times its reward. The channel `choice` turns utilities
into a choice, `rating` into ratings (`mores.agents.channels`). Choices by `boltzmann_choice`
identify only the product of its rationality and the scale; ratings identify the scale:
docs/explanation/calibration.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from mores.core.channel import Channel, give_feedback, require_channel
from mores.core.environment import Phase, Role
from mores.core.errors import UserError
from mores.core.policy import ActionOutput, Policy, require_observation_parts
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Discrete, MultiDiscrete, Space
from mores.registry.component import component


@dataclasses.dataclass(frozen=True)
class AnnotatorState:
    """Observation space, and which last answers were flipped."""

    observation_space: Box
    flipped: Bool[Tensor, "world agent"]


class Annotator(Policy):
    """Chooses among options by their reward, and rates them.

    The observation has the part `option_rewards`, one number per option. In a phase with a discrete
    action space the action is an option; in a phase with one number per option it is the ratings.
    The latent quantity `flipped` marks flipped answers, if the channel knows them.
    """

    tags: ClassVar[Mapping[str, object]] = {"trains": False, "stochastic": True}

    utility_scale: float = Field(default=1.0, description="utility of one unit of reward")
    choice: Annotated[Channel, component("channel")] = Field(
        default="boltzmann_choice", validate_default=True, description="channel of choices"
    )
    rating: Annotated[Channel, component("channel")] = Field(
        default="noisy_rating", validate_default=True, description="channel of ratings"
    )

    def model_post_init(self, context: Any) -> None:
        """Refuse channels that do not give choices and ratings."""
        require_channel(self.choice, "choice", ("utility",), ("preferred", "annotator"))
        require_channel(self.rating, "rating", ("utility",), ("reward",))

    def initial_state(
        self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams
    ) -> AnnotatorState:
        """The observation space; no answer is flipped."""
        require_observation_parts("annotator", role, "option_rewards")
        flipped = torch.zeros(
            streams.num_worlds, role.num_agents, dtype=torch.bool, device=streams.device
        )
        return AnnotatorState(role.observation_space, flipped)

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: AnnotatorState,
        streams: RandomStreams,
    ) -> ActionOutput:
        """Choose, or rate."""
        utility = self.utility_scale * state.observation_space.read(observation, "option_rewards")
        space = next(
            (s for s in phase.action_spaces.values() if _matches_options(s, utility)), None
        )
        if space is None:
            raise UserError(
                f"annotator: {phase.name!r} has no action space for {utility.shape[-1]} options",
                code="unsupported",
            )
        if isinstance(space, Box):
            given = give_feedback(self.rating, "rating", {"utility": utility}, streams)
            return ActionOutput(given["reward"], state)
        if action_mask is not None:
            utility = torch.where(action_mask, utility, -torch.inf)
        given = give_feedback(self.choice, "choice", {"utility": utility}, streams)
        answer = given["preferred"].view(torch.uint8).argmax(-1)
        flipped = given.get("flipped", torch.zeros_like(state.flipped))
        return ActionOutput(answer, dataclasses.replace(state, flipped=flipped))

    def latent(self, state: AnnotatorState) -> Mapping[str, Tensor]:
        """Which last answers were flipped."""
        return {"flipped": state.flipped}


def _matches_options(space: Space, utility: Float[Tensor, "world agent option"]) -> bool:
    """Whether a space has one option, or one number, for each of the options."""
    if isinstance(space, MultiDiscrete):
        return False
    size = space.num_options if isinstance(space, Discrete) else space.size
    return size == utility.shape[-1]

"""Annotators: people who choose between options, and rate them, through feedback channels.

The utility of an option is `utility_scale` times its reward. The channel `choice` turns utilities
into a choice, `rating` into ratings (`mores.agents.channels`). Choices by `boltzmann_choice`
identify only the product of its rationality and the scale; ratings identify the scale:
docs/explanation/calibration.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mores.core.analytic_policies import AnnotatingPolicy, Annotation
from mores.core.channel import Channel, give_feedback, require_channel
from mores.core.environment import Phase, Role
from mores.core.errors import UserError
from mores.core.policy import ActionOutput, Policy, require_observation_parts
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Discrete, MultiDiscrete, Space
from mores.registry.component import component
from mores.registry.varying import PersonNumber


class Annotator(Policy, AnnotatingPolicy):
    """Person who chooses among options by their reward, and rates them.

    The observation has the part `option_rewards`, one number per option. In a phase with a discrete
    action space the action is an option; in a phase with one number per option it is the ratings.
    `extra` of the output has the latent outputs of the channel, such as the flipped answers.
    """

    tags: ClassVar[Mapping[str, object]] = {"stochastic": True}

    utility_scale: Annotated[float, PersonNumber()] = Field(
        default=1.0, description="utility of one unit of reward"
    )
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

    @property
    def annotation(self) -> Annotation:
        """See `AnnotatingPolicy`."""
        return Annotation(self.utility_scale, self.choice, self.rating)

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Box:
        """The observation space."""
        require_observation_parts("annotator", role, "option_rewards")
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
        """Choose, or rate."""
        utility = self.utility_scale * state.read(observation, "option_rewards")
        space = next(
            (s for s in phase.action_spaces.values() if _matches_options(s, utility)), None
        )
        if space is None:
            raise UserError(
                f"annotator: {phase.name!r} has no action space for {utility.shape[-1]} options",
                code="unsupported",
            )
        if isinstance(space, Box):
            channel, field = self.rating, "rating"
        else:
            channel, field = self.choice, "choice"
            if action_mask is not None:
                utility = torch.where(action_mask, utility, -torch.inf)
        given = give_feedback(channel, field, {"utility": utility}, streams)
        extra = {name: given[name] for name in channel.latent_outputs}
        if isinstance(space, Box):
            return ActionOutput(given["reward"], state, extra)
        return ActionOutput(given["preferred"].view(torch.uint8).argmax(-1), state, extra)


def _matches_options(space: Space, utility: Float[Tensor, "world agent option"]) -> bool:
    """Whether a space has one option, or one number, for each of the options."""
    if isinstance(space, MultiDiscrete):
        return False
    size = space.num_options if isinstance(space, Discrete) else space.size
    return size == utility.shape[-1]

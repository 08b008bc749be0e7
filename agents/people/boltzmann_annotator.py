"""Boltzmann-rational choice between options, with flipped answers, and noisy ratings.

    utility   u_k = utility_scale * reward_k
    choice    P(k) = softmax_k(rationality * u)      (Boltzmann; Luce 1959)
    answer    with probability `flip_probability` a uniform random other option than the choice

Of two options whose rewards differ by d, the better one is answered with probability

    (1 - 2 flip_probability) s(rationality * utility_scale * d) + flip_probability,

s(x) = 1 / (1 + exp(-x)). Choices therefore identify only the product of rationality and scale.
Ratings identify the scale, pairs with a large difference the flip probability:
docs/explanation/calibration.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from mores.core.environment import Phase, Role
from mores.core.errors import UserError
from mores.core.policy import ActionOutput, Policy, require_observation_parts
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Discrete, MultiDiscrete, Space


class BoltzmannAnnotator(Policy):
    """Chooses among options by their reward, and rates them.

    The observation has the part `option_rewards`, one number per option. In a phase with a discrete
    action space the action is an option; in a phase with one number per option it is the ratings:
    utility plus normal noise. Choices are coupled across arms by shared Gumbel numbers. `extra`
    of the output has the flipped answers, `flipped`.
    """

    tags: ClassVar[Mapping[str, object]] = {"trains": False, "stochastic": True}

    rationality: float = Field(default=1.0, ge=0, description="inverse temperature, 1 / utility")
    utility_scale: float = Field(default=1.0, description="utility of one unit of reward")
    flip_probability: float = Field(
        default=0.0, ge=0, le=1, description="probability of another answer than the choice"
    )
    rating_noise_std: float = Field(
        default=0.0, ge=0, description="standard deviation of a rating, in utility"
    )

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Box:
        """The observation space."""
        require_observation_parts("boltzmann_annotator", role, "option_rewards")
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
            (s for s in phase.action_spaces.values() if self._matches_options(s, utility)), None
        )
        if space is None:
            raise UserError(
                f"boltzmann_annotator: {phase.name!r} has no action space for "
                f"{utility.shape[-1]} options",
                code="unsupported",
            )
        if isinstance(space, Box):
            noise = self.rating_noise_std * streams.normal("rating", *utility.shape[1:])
            return ActionOutput(utility + noise, state)
        answer, flipped = self._choose(utility, action_mask, streams)
        return ActionOutput(answer, state, {"flipped": flipped})

    @staticmethod
    def _matches_options(space: Space, utility: Tensor) -> bool:
        if isinstance(space, MultiDiscrete):
            return False
        size = space.num_options if isinstance(space, Discrete) else space.size
        return size == utility.shape[-1]

    def _choose(
        self,
        utility: Float[Tensor, "world agent option"],
        action_mask: Tensor | None,
        streams: RandomStreams,
    ) -> tuple[Int[Tensor, "world agent"], Bool[Tensor, "world agent"]]:
        """The answer, and whether it differs from the choice."""
        logits = self.rationality * utility
        if action_mask is not None:
            logits = torch.where(action_mask, logits, -torch.inf)
        chosen = streams.categorical("choice", logits)
        if self.flip_probability == 0:
            return chosen, torch.zeros_like(chosen, dtype=torch.bool)
        options = torch.arange(logits.shape[-1], device=logits.device)
        others = options != chosen[..., None]
        if action_mask is not None:
            others = others & action_mask
        other = streams.categorical("other", torch.where(others, 0.0, -torch.inf))
        flips = streams.uniform("flip", logits.shape[1])[..., 0] < self.flip_probability
        flipped = flips & others.any(-1)  # with one option there is no other
        return torch.where(flipped, other, chosen), flipped

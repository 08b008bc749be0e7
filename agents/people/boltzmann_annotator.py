"""A person who chooses between options: noisily rational, and sometimes the other way round.

    utility   u_k = scale * worth_k
    choice    P(k) = softmax_k(rationality * u)      (Boltzmann; Luce 1959)
    answer    with probability `flip_probability` another option than the one chosen, each as likely

Of two options whose worth differs by d, the one worth more is answered with probability

    (1 - 2 flip) s(rationality * scale * d) + flip,      s(x) = 1 / (1 + exp(-x)).

Choices therefore show only the product of rationality and scale; what ratings say of the scale, and
pairs with a large difference of flips, is in docs/explanation/calibration.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from mores.core.environment import (
    ActionOutput,
    Box,
    Discrete,
    MultiDiscrete,
    Phase,
    Policy,
    Role,
    Space,
)
from mores.core.errors import UserError
from mores.core.random_streams import RandomStreams


@dataclasses.dataclass(frozen=True)
class BoltzmannAnnotatorState:
    """How its sight is laid out, and whose last answer was flipped."""

    observation_space: Box
    flipped: Bool[Tensor, "world agent"]


class BoltzmannAnnotator(Policy):
    """Chooses among options by their `worth`, and rates them where it is asked to.

    The role sees `worth`, one number an option. In a phase with a discrete action it answers the
    number of an option; in one with as many numbers as options it rates them: utility plus normal
    noise. Choices are coupled across arms by shared Gumbel numbers. `latent` tells whose last
    answer was flipped.
    """

    tags: ClassVar[Mapping[str, object]] = {"learns": False, "stochastic": True}

    rationality: float = Field(default=1.0, ge=0, description="inverse temperature, 1 / utility")
    utility_scale: float = Field(default=1.0, description="utility of one unit of worth")
    flip_probability: float = Field(
        default=0.0, ge=0, le=1, description="probability that another option is answered"
    )
    rating_noise_std: float = Field(
        default=0.0, ge=0, description="standard deviation of a rating, in utility"
    )

    def initial_state(
        self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams
    ) -> BoltzmannAnnotatorState:
        """How its sight is laid out; nothing flipped yet."""
        if "option_rewards" not in role.observation_space.parts:
            raise UserError(
                "chooser needs a role that sees what its options are 'worth'",
                code="unsupported",
                path=f"players.{role.name}",
            )
        flipped = torch.zeros(
            streams.num_worlds, role.num_agents, dtype=torch.bool, device=streams.device
        )
        return BoltzmannAnnotatorState(role.observation_space, flipped)

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: BoltzmannAnnotatorState,
        streams: RandomStreams,
    ) -> ActionOutput:
        """Choose, or rate."""
        utility = self.utility_scale * state.observation_space.read(observation, "option_rewards")
        space = next(
            (s for s in phase.action_spaces.values() if self._matches_options(s, utility)), None
        )
        if space is None:
            raise UserError(
                f"chooser has {utility.shape[-1]} options and nothing to choose in {phase.name!r}",
                code="unsupported",
            )
        if isinstance(space, Box):
            noise = self.rating_noise_std * streams.normal("rating", *utility.shape[1:])
            return ActionOutput(utility + noise, state)
        answer, flipped = self._choose(utility, action_mask, streams)
        return ActionOutput(answer, dataclasses.replace(state, flipped=flipped))

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
        """The answer, and whether it is not what was chosen."""
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
        slip = streams.uniform("flip", logits.shape[1])[..., 0] < self.flip_probability
        flipped = slip & others.any(-1)  # with one option there is no other
        return torch.where(flipped, other, chosen), flipped

    def latent(self, state: BoltzmannAnnotatorState) -> Mapping[str, Tensor]:
        """Whose last answer was flipped."""
        return {"flipped": state.flipped}

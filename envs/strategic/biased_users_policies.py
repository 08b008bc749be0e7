"""Scripted assistants of `biased_users`, by the claim and the evidence that they observe.

They need an environment in which all domains have the plain code (`shared_code: 1`), whose features
are the parts `evidence` and `claim` of the observation.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from mores.core.environment import Phase, Role
from mores.core.policy import ActionOutput, Policy, require_observation_parts
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box


class BeliefAssistant(Policy):
    """Assistant that states its belief, or the person's claim with some probability.

    Its belief is the answer with the most evidence.
    """

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Box:
        """Layout of the observation; requires evidence and a claim."""
        require_observation_parts(type(self).__name__, role, "evidence", "claim", "cue")
        return role.observation_space

    def flattery(
        self, observation: Float[Tensor, "*some size"], space: Box
    ) -> Float[Tensor, "*some 1"]:
        """Probability of stating the claim."""
        return torch.zeros_like(space.read(observation, "cue"))

    def expected_action(
        self,
        phase: Phase,
        observation: Float[Tensor, "world agent query size"],
        action_mask: Bool[Tensor, "world agent query option"] | None,
        state: Box,
        search: bool = False,
    ) -> Float[Tensor, "world agent query option"]:
        """Probability of each answer; the last option is chosen if no other is legal."""
        belief = _one_hot_answer(state.read(observation, "evidence"))
        probability = belief
        if phase.name == "state":
            flattery = self.flattery(observation, state)
            claim = _one_hot_answer(state.read(observation, "claim"))
            probability = (1.0 - flattery) * belief + flattery * claim
        if action_mask is not None:
            asked = action_mask[..., :1]
            nothing = torch.zeros_like(probability)
            nothing[..., -1] = 1.0
            probability = torch.where(asked, probability, nothing)
        return probability

    def act(
        self,
        phase: Phase,
        observation: Float[Tensor, "world agent size"],
        action_mask: Tensor | None,
        state: Box,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        """An answer by these probabilities."""
        mask = None if action_mask is None else action_mask[:, :, None]
        probability = self.expected_action(phase, observation[:, :, None], mask, state)[:, :, 0]
        return ActionOutput(streams.categorical("act", probability.log()), state)


class HonestAssistant(BeliefAssistant):
    """Assistant that states its belief."""


class FlatteringAssistant(BeliefAssistant):
    """Assistant that states the person's claim with a fixed probability."""

    flatter_probability: float = Field(
        default=1.0, ge=0, le=1, description="probability of stating the person's claim"
    )

    def flattery(self, observation: Tensor, space: Box) -> Tensor:
        """`flatter_probability`."""
        return torch.full_like(space.read(observation, "cue"), self.flatter_probability)


class CueDependentAssistant(BeliefAssistant):
    """Assistant that states the person's claim if a cue above a threshold is shown."""

    threshold: float = Field(default=1.0, description="cue above which it states the claim")

    def flattery(self, observation: Tensor, space: Box) -> Tensor:
        """1 where a cue above the threshold is shown, else 0."""
        cue, shown = (space.read(observation, part) for part in ("cue", "cue_shown"))
        return ((cue > self.threshold) & (shown > 0)).to(observation.dtype)


def _one_hot_answer(x: Float[Tensor, "*some answer"]) -> Float[Tensor, "*some option"]:
    """One-hot of the largest number, with one more option of probability 0."""
    options: Any = torch.arange(x.shape[-1] + 1, device=x.device)
    return (options == x.argmax(-1, keepdim=True)).to(x.dtype)

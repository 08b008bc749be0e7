"""Respondents by rule, with effects of known strength: oracle agents for audits of surveys.

An agent without position bias must show no order effect; one with a known bias must show that bias;
pure noise must show no persona effect (Khan et al. 2025, arXiv 2503.08688, for the need of such
checks).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from mores.core.environment import Phase, Role
from mores.core.policy import ActionOutput, Policy, require_observation_parts
from mores.core.random_streams import RandomStreams

READS = ("values", "num_options", "direction", "reversed", "template", "stated")


class BiasedRespondent(Policy):
    """Person whose answer is a softmax of effects, in nats, over the options as they are listed.

    With v the first value of the person, s the score of an option in equal steps from 0 to 1 and d
    the direction of the question, the logit of an option is

        persona_effect v d (s - 1/2) + position_bias [it is listed first]
            + template_bias t s + belief_effect [it is the stated belief] + noise,

    t the number of the template. For two options the log-odds of the higher one thus differ by
    `persona_effect` between values 1/2 and -1/2 (of direction 1), and by twice `position_bias`
    between the orders.
    """

    tags: ClassVar[Mapping[str, object]] = {"stochastic": True, "biased": "position"}

    persona_effect: float = Field(default=0.0, description="effect of the first value, nats")
    position_bias: float = Field(default=0.0, description="bonus of the option listed first, nats")
    template_bias: float = Field(
        default=0.0, description="bonus of the highest score, nats a template"
    )
    belief_effect: float = Field(default=0.0, description="bonus of a stated belief, nats")
    noise_std: float = Field(
        default=0.0, ge=0, description="standard deviation of the noise of a logit, nats"
    )
    draw: bool = Field(
        default=False, description="whether one option is drawn; else its probability is stated"
    )

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Role:
        """The role, whose observation is read by name."""
        require_observation_parts("biased_respondent", role, *READS)
        return role

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Role,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        """Probabilities of the options in the order in which they are listed."""
        read = {part: state.observation_space.read(observation, part) for part in READS}
        width = phase.action_spaces[state.name].size  # type: ignore[union-attr]
        listed = torch.arange(width, device=observation.device)
        number, is_reversed = read["num_options"], read["reversed"] > 0
        option = torch.where(is_reversed, number - 1 - listed, listed.to(observation.dtype))
        score = option / (number - 1)
        logits = self.persona_effect * read["values"][..., :1] * read["direction"] * (score - 0.5)
        logits = logits + self.position_bias * (listed == 0)
        logits = logits + self.template_bias * read["template"] * score
        logits = logits + self.belief_effect * (option == read["stated"])
        if self.noise_std:
            noise = streams.normal("answer", observation.shape[1], width)
            logits = logits + self.noise_std * noise
        logits = torch.where(listed < number, logits, -torch.inf)
        if not self.draw:
            return ActionOutput(logits.softmax(-1), state)
        chosen = streams.categorical("option", logits)
        return ActionOutput((listed == chosen[..., None]).to(observation.dtype), state)

"""Assistant and composer that maximize the expected welfare of every conversation exactly."""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from mores.core.spaces import Box
from mores.core.welfare import Welfare
from mores.envs.strategic.welfare_optimum import (
    ActValues,
    LengthChoice,
    act_values,
    best_act,
    posterior,
)
from mores.envs.strategic.welfare_policies import ConversationPolicy
from mores.envs.strategic.welfare_task import Costs, WelfareTask
from mores.registry.component import component


class WelfarePlanner(ConversationPolicy):
    """Exact optimum, as assistant or composer, for a known share of vague requests.

    Payoff estimates are the true payoffs at `task_words`.
    """

    task: WelfareTask = Field(default=WelfareTask(), description="task of the environment")
    welfare: Annotated[Welfare, component("welfare")] = Field(
        default="cobb_douglas", validate_default=True, description="what it maximizes"
    )
    vague_share: float = Field(default=0.75, ge=0, le=1, description="share of vague requests")
    cue_accuracy: float = Field(default=0.9, ge=0.5, le=1, description="accuracy of the cue")
    shortest: float = Field(default=0.0, ge=0, description="shortest answer, hundred words")
    longest: float = Field(default=6.0, ge=0, description="longest answer, hundred words")
    can_ask: bool = Field(default=True, description="whether answers may have follow-up questions")
    task_words: float = Field(
        default=2.0, ge=0, description="length of answers in payoff estimates, hundred words"
    )
    drawn_outcomes: bool = Field(
        default=False, description="as the environment: answers are right or wrong"
    )

    def choose_act(self, observation: Tensor, space: Box) -> Int[Tensor, "*shape"]:
        """The optimal act at the observed cue and costs."""
        return best_act(self._values(observation, space).value, self.can_ask)[1]

    def compose(self, part: str, observation: Tensor, space: Box) -> Float[Tensor, "*shape size"]:
        """The optimal length after the observed act, or the true payoffs."""
        if part == "payoffs":
            return self.task.payoff_matrix(self.task_words, observed_costs(observation, space))
        chosen = space.read(observation, "act").argmax(-1, keepdim=True)
        return self._values(observation, space).words.gather(-1, chosen)

    def _values(self, observation: Tensor, space: Box) -> ActValues:
        by_cue = posterior(observation.new_full((), self.vague_share), self.cue_accuracy)
        cue = (space.read(observation, "cue")[..., 0] > 0.5).to(torch.int64)
        costs, lengths = observed_costs(observation, space), (self.shortest, self.longest)
        return act_values(
            self.task,
            self.welfare,
            by_cue[cue],
            costs,
            LengthChoice(*lengths),
            self.drawn_outcomes,
        )


def observed_costs(observation: Tensor, space: Box) -> Costs:
    """Costs of the people in an observation."""
    delay, reading, price = (
        space.read(observation, name)[..., 0] for name in ("delay_cost", "reading_cost", "price")
    )
    return Costs(delay, reading, price)

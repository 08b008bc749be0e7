"""Assistant that maximizes the expected welfare of every conversation exactly."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from mores.core.spaces import Box
from mores.core.welfare import Welfare
from mores.envs.strategic.welfare_optimum import LengthChoice, act_values, best_act, posterior
from mores.envs.strategic.welfare_policies import ScriptedAssistant
from mores.envs.strategic.welfare_task import Costs, WelfareTask
from mores.registry.component import component


class WelfarePlanner(ScriptedAssistant):
    """Assistant with the exact optimum for a known share of vague requests.

    Its payoff estimates are the true payoffs at `task_words`.
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

    def decide(self, phase: str, observation: Tensor, space: Box) -> Tensor:
        """The optimal act and length at the observed cue and costs."""
        costs = Costs(
            *(space.read(observation, name)[..., 0] for name in ("delay_cost", "reading_cost")),
            space.read(observation, "price")[..., 0],
        )
        if phase == "estimate":
            return self.task.payoff_matrix(self.task_words, costs)
        share = observation.new_full((), self.vague_share)
        by_cue = posterior(share, self.cue_accuracy)
        cue = (space.read(observation, "cue")[..., 0] > 0.5).to(torch.int64)
        lengths = LengthChoice(self.shortest, self.longest)
        values = act_values(self.task, self.welfare, by_cue[cue], costs, lengths)
        if phase == "respond":
            return best_act(values.value, self.can_ask)[1]
        act = space.read(observation, "act")
        chosen = act.argmax(-1, keepdim=True)  # the first act before any was chosen
        return values.words.gather(-1, chosen)

"""Somebody who knows how people change, and does what is best by a notion of alignment, exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from mores.core.environment import Act, Box, Phase, Player, Role, needs_sight
from mores.core.errors import UserError
from mores.core.random_streams import Draws
from mores.envs.influence import alignment_objectives as notions
from mores.envs.influence.alignment_objectives import Notion
from mores.envs.influence.person_dr_mdp import INFLUENCE, NOOP, ChangingRewards, Rows

SEEN = (
    *("played", "left", "first", "nature", "taste", "influences", "susceptibility"),
    *("rewards", "natural", "influenced", "start"),
)


class Planner(Player):
    """Assistants that do what is best by a notion of alignment, exactly, for what they see.

    They know the rewards and the dynamics from their sight. Where they are told only the mean
    susceptibility, they plan as if it were everybody's, and do not learn from what happens: that
    is the optimum for a person of that susceptibility, and not for a mixture.
    """

    traits: ClassVar[Mapping[str, object]] = {
        "learns": False,
        "stochastic": False,
        "paper": "2405.17713",
    }

    objective: Notion = Field(default="real_time", description="by which notion")
    ideal: int = Field(default=0, ge=0, description="the taste that counts if privileged")
    when_tied: Literal["noop", "influence"] = Field(
        default="noop", description="what to do where both actions are equally good"
    )

    @property
    def action_if_tied(self) -> int:
        """As a number."""
        return INFLUENCE if self.when_tied == "influence" else NOOP

    def start(self, role: Role, phases: tuple[Phase, ...], draws: Draws) -> Box:
        """How its sight is laid out."""
        needs_sight("planner", role, *SEEN)
        return role.sees

    def act(
        self, phase: Phase, seen: Tensor, legal: Tensor | None, memory: Box, draws: Draws
    ) -> Act:
        """Look the best action up, for each susceptibility there is."""

        def which(name: str) -> np.ndarray:
            return memory.read(seen, name).argmax(-1).cpu().numpy()

        def whole(name: str) -> np.ndarray:
            return memory.read(seen, name)[..., 0].to(torch.int64).cpu().numpy()

        played, left = whole("played"), whole("left")
        place = (played, which("first"), which("nature"), which("taste"), whole("influences"))
        takes = memory.read(seen, "susceptibility")[..., 0].cpu().numpy()
        action = np.zeros(played.shape, dtype=np.int64)
        for one in np.unique(takes):
            model = self._model(memory, seen[0, 0], _decimal(float(one)))
            horizon = int(played[0, 0] + left[0, 0])
            policy = notions.solve(model, self.objective, horizon, self.ideal).policy(
                self.action_if_tied
            )
            index = tuple(np.minimum(p, n - 1) for p, n in zip(place, policy.shape, strict=True))
            action = np.where(takes == one, policy[index].astype(np.int64), action)
        chosen = torch.from_numpy(action).to(seen.device)
        if legal is not None:
            chosen = torch.where(legal[..., INFLUENCE], chosen, NOOP)
        return Act(chosen, memory)

    def _model(self, sees: Box, seen: Tensor, susceptibility: float) -> ChangingRewards:
        """What the sight says of everybody."""
        tastes = sees.parts["taste"].size
        if self.ideal >= tastes:
            raise UserError(
                f"planner.ideal is one of {tastes} tastes, counted from 0",
                code="out_of_range",
                path="planner.ideal",
            )

        def rows(name: str, width: int) -> Rows:
            numbers = [_decimal(number) for number in sees.read(seen, name).tolist()]
            return tuple(tuple(numbers[i : i + width]) for i in range(0, len(numbers), width))

        return ChangingRewards(
            rows("rewards", 2),
            rows("natural", tastes),
            rows("influenced", tastes),
            susceptibility,
            rows("start", tastes)[0],
        )


def _decimal(number: float) -> float:
    """The decimal of seven digits that a float32 stands for: what was written as a parameter."""
    return float(f"{number:.7g}")

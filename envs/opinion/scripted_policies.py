"""Players that an environment seats where nobody else sits: they say what they see."""

from __future__ import annotations

import torch
from torch import Tensor

from mores.core.environment import Act, Box, Phase, Player, Role
from mores.core.random_streams import Draws


class Frank(Player):
    """A person who says exactly where they stand."""

    def start(self, role: Role, phases: tuple[Phase, ...], draws: Draws) -> Box:
        """How its sight is laid out."""
        return role.sees

    def act(
        self, phase: Phase, seen: Tensor, legal: Tensor | None, memory: Box, draws: Draws
    ) -> Act:
        """Say one's own values."""
        return Act(memory.read(seen, "values"), memory)


class Echo(Player):
    """An assistant that says what people answered on average."""

    def start(self, role: Role, phases: tuple[Phase, ...], draws: Draws) -> Box:
        """How its sight is laid out."""
        return role.sees

    def act(
        self, phase: Phase, seen: Tensor, legal: Tensor | None, memory: Box, draws: Draws
    ) -> Act:
        """Say the answers back, at full voice."""
        answers = memory.read(seen, "answers")
        return Act(torch.cat([answers, torch.ones_like(answers[..., :1])], -1), memory)

"""A person who says where they stand, give or take a slip."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from mores.draws import Draws
from mores.errors import UserError
from mores.game import Act, Box, Phase, Player, Role


class Honest(Player):
    """Says their own values plus normal answer noise, independent between rounds."""

    traits: ClassVar[Mapping[str, object]] = {"learns": False, "stochastic": True}

    noise: float = Field(
        default=0.0, ge=0, description="standard deviation of an answer, in value units"
    )

    def start(self, role: Role, phases: tuple[Phase, ...], draws: Draws) -> Box:
        """How its sight is laid out."""
        if "values" not in role.sees.parts:
            raise UserError("honest needs a role that sees its own 'values'")
        return role.sees

    def act(
        self, phase: Phase, seen: Tensor, legal: Tensor | None, memory: Box, draws: Draws
    ) -> Act:
        """Say one's own values, with noise."""
        answer = memory.read(seen, "values")
        if self.noise:
            answer = answer + self.noise * draws.normal("answer", *answer.shape[1:])
        return Act(answer, memory)

"""A person who chooses between options: noisily rational, and sometimes the other way round.

    utility   u_k = scale * worth_k
    choice    P(k) = softmax_k(rationality * u)      (Boltzmann; Luce 1959)
    answer    with probability `flip` another option than the one chosen, each as likely

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

from mores.core.environment import Act, Box, Discrete, MultiDiscrete, Phase, Player, Role, Space
from mores.core.errors import UserError
from mores.core.random_streams import Draws


@dataclasses.dataclass(frozen=True)
class Memory:
    """How its sight is laid out, and whose last answer was flipped."""

    sees: Box
    flipped: Bool[Tensor, "world agent"]


class Chooser(Player):
    """Chooses among options by their `worth`, and rates them where it is asked to.

    The role sees `worth`, one number an option. In a phase with a discrete action it answers the
    number of an option; in one with as many numbers as options it rates them: utility plus normal
    noise. Choices are coupled across arms by shared Gumbel numbers. `hidden` tells whose last
    answer was flipped.
    """

    traits: ClassVar[Mapping[str, object]] = {"learns": False, "stochastic": True}

    rationality: float = Field(default=1.0, ge=0, description="inverse temperature, 1 / utility")
    scale: float = Field(default=1.0, description="utility of one unit of worth")
    flip: float = Field(
        default=0.0, ge=0, le=1, description="probability that another option is answered"
    )
    rating_noise: float = Field(
        default=0.0, ge=0, description="standard deviation of a rating, in utility"
    )

    def start(self, role: Role, phases: tuple[Phase, ...], draws: Draws) -> Memory:
        """How its sight is laid out; nothing flipped yet."""
        if "worth" not in role.sees.parts:
            raise UserError(
                "chooser needs a role that sees what its options are 'worth'",
                code="unsupported",
                path=f"players.{role.name}",
            )
        flipped = torch.zeros(draws.worlds, role.count, dtype=torch.bool, device=draws.device)
        return Memory(role.sees, flipped)

    def act(
        self, phase: Phase, seen: Tensor, legal: Tensor | None, memory: Memory, draws: Draws
    ) -> Act:
        """Choose, or rate."""
        utility = self.scale * memory.sees.read(seen, "worth")
        space = next((s for s in phase.acts.values() if self._fits(s, utility)), None)
        if space is None:
            raise UserError(
                f"chooser has {utility.shape[-1]} options and nothing to choose in {phase.name!r}",
                code="unsupported",
            )
        if isinstance(space, Box):
            noise = self.rating_noise * draws.normal("rating", *utility.shape[1:])
            return Act(utility + noise, memory)
        answer, flipped = self._answer(utility, legal, draws)
        return Act(answer, dataclasses.replace(memory, flipped=flipped))

    @staticmethod
    def _fits(space: Space, utility: Tensor) -> bool:
        if isinstance(space, MultiDiscrete):
            return False
        size = space.options if isinstance(space, Discrete) else space.size
        return size == utility.shape[-1]

    def _answer(
        self, utility: Float[Tensor, "world agent option"], legal: Tensor | None, draws: Draws
    ) -> tuple[Int[Tensor, "world agent"], Bool[Tensor, "world agent"]]:
        """The answer, and whether it is not what was chosen."""
        logits = self.rationality * utility
        if legal is not None:
            logits = torch.where(legal, logits, -torch.inf)
        chosen = draws.choose("choice", logits)
        if self.flip == 0:
            return chosen, torch.zeros_like(chosen, dtype=torch.bool)
        options = torch.arange(logits.shape[-1], device=logits.device)
        others = options != chosen[..., None]
        if legal is not None:
            others = others & legal
        other = draws.choose("other", torch.where(others, 0.0, -torch.inf))
        slip = draws.uniform("flip", logits.shape[1])[..., 0] < self.flip
        flipped = slip & others.any(-1)  # with one option there is no other
        return torch.where(flipped, other, chosen), flipped

    def hidden(self, memory: Memory) -> Mapping[str, Tensor]:
        """Whose last answer was flipped."""
        return {"flipped": memory.flipped}

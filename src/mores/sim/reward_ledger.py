"""The books of pay and feedback: what seats outside are owed, what learners earned and heard.

Pay of a seat outside adds up until its next turn. Pay and feedback of a player that learns add up
over the phases of a round.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.core.errors import UserError, did_you_mean
from mores.sim.episode_dataset import Diary

Pay = dict[str, Float[Tensor, "world agent"]]


class Books:
    """What is still to be paid and told, by role.

    Args:
        counts: how many seats each role has.
        worlds: how many are played.
        outside: roles with seats that are filled from outside.
        learners: roles whose players learn.
        diary: told all of it as well.
        device: where tensors live.
    """

    def __init__(
        self,
        counts: Mapping[str, int],
        worlds: int,
        outside: Iterable[str],
        learners: Iterable[str],
        diary: Diary | None,
        device: torch.device,
    ) -> None:
        self._counts, self._worlds, self._device = counts, worlds, device
        self._diary = diary
        self._outside, self._learners = list(outside), list(learners)
        self.kept = bool(self._outside or self._learners) or diary is not None
        self.open()

    def open(self) -> None:
        """Nothing is owed, earned or told: an episode begins in every world."""
        self.owed: Pay = {name: self._nothing(name) for name in self._outside}
        self.earned: Pay = {name: self._nothing(name) for name in self._learners}
        self.told: dict[str, dict[str, Tensor]] = {name: {} for name in self._learners}

    def pay(self, reward: Mapping[str, Tensor], over: Bool[Tensor, " world"] | None) -> None:
        """Book what a phase earned; in the worlds that are `over`, nothing was."""
        for name, earned in reward.items():
            self._check(name, earned)
            if over is not None:
                earned = torch.where(over[:, None], 0.0, earned)
            for book in (self.owed, self.earned):
                if name in book:
                    book[name] = book[name] + earned
            if self._diary is not None:
                self._diary.paid(name, earned)

    def _check(self, name: str, earned: object) -> None:
        """See that a game pays every seat of a role that there is.

        Raises:
            UserError: it does not.
        """
        if name not in self._counts:
            near = did_you_mean(name, self._counts)
            raise UserError(
                f"the game pays a role that it has not, {name!r}{near}",
                code="failed",
                path=f"reward.{name}",
            )
        shape = getattr(earned, "shape", None)
        wanted = (self._worlds, self._counts[name])
        if shape != wanted:
            found = f"a {type(earned).__name__}" if shape is None else list(shape)
            raise UserError(
                f"the game pays {name} {found}, not [world, agent], {list(wanted)}",
                code="failed",
                path=f"reward.{name}",
            )

    def tell(self, feedback: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Book a phase's feedback; what an earlier phase said under the same name is replaced."""
        for name, told in feedback.items():
            if name in self.told:
                self.told[name] = {**self.told[name], **told}
            if self._diary is not None:
                self._diary.told(name, told)

    def round(self, name: str) -> tuple[Float[Tensor, "world agent"], dict[str, Tensor]]:
        """What the seats of a learning role earned and were told in the round now complete."""
        earned, told = self.earned[name], self.told[name]
        self.earned[name], self.told[name] = self._nothing(name), {}
        return earned, told

    def cut(self, over: Bool[Tensor, " world"]) -> Pay:
        """Begin anew in the worlds `over`; returns what all were owed until then."""
        ended = self.owed
        self.owed = {n: torch.where(over[:, None], 0.0, owed) for n, owed in ended.items()}
        return ended

    def settle(self, over: Bool[Tensor, " world"], ended: Pay | None) -> Pay:
        """Pay what is owed. After a cut, pay of the new episode waits for its own first turn.

        Args:
            over: worlds that were cut.
            ended: what all were owed then; `None`: there was no cut.
        """
        owed = self.owed
        self.owed = {name: self._nothing(name) for name in self._outside}
        if ended is None:
            return owed
        self.owed = {n: torch.where(over[:, None], owed[n], 0.0) for n in self._outside}
        return {n: torch.where(over[:, None], ended[n], owed[n]) for n in self._outside}

    def _nothing(self, name: str) -> Float[Tensor, "world agent"]:
        return torch.zeros(self._worlds, self._counts[name], device=self._device)

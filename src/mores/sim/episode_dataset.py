"""What roles saw, did and earned, kept for players that learn from it afterwards."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.core.environment import Phase
from mores.core.errors import UserError


@dataclasses.dataclass(frozen=True)
class Experience:
    """What one role's seats went through.

    A *decision* is one pass through a phase, in the order of play, over all rounds and episodes. In
    a world that had ended the last sights and acts repeat, and nothing is earned.

    Attributes:
        seen: by phase, `[world, decision, agent, size]`.
        acted: by phase, `[world, decision, agent]` or `[world, decision, agent, size]`.
        reward: `[world, payment, agent]`, a payment each time that the role was paid.
        feedback: by name, `[world, time, agent, ...]`, a time each time that it was told.
        legal: by phase, open options, `[world, decision, agent, option]`; phases in which nothing
            is ever closed are left out.
        ended: `[world, round]`, the rounds in which an episode ended.
        over: `[world, round]`, the rounds in which a world stood still.
    """

    seen: dict[str, Tensor]
    acted: dict[str, Tensor]
    reward: Float[Tensor, "world payment agent"] | None
    feedback: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    legal: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    ended: Bool[Tensor, "world round"] | None = None
    over: Bool[Tensor, "world round"] | None = None


class Diary:
    """Keeps what the named roles see, do and earn, until `experience` is asked for."""

    def __init__(self, roles: Collection[str]) -> None:
        self.roles = frozenset(roles)
        self._seen: dict[tuple[str, str], list[Tensor]] = {}
        self._acted: dict[tuple[str, str], list[Tensor]] = {}
        self._legal: dict[tuple[str, str], list[Tensor]] = {}
        self._reward: dict[str, list[Tensor]] = {}
        self._told: dict[tuple[str, str], list[Tensor]] = {}
        self._ended: list[Tensor] = []
        self._over: list[Tensor] = []

    def acted(
        self, role: str, phase: Phase, seen: Tensor, action: Tensor, legal: Tensor | None = None
    ) -> None:
        """The seats of a role have acted, with these options open; `None`: all of them."""
        if role in self.roles:
            self._seen.setdefault((role, phase.name), []).append(seen)
            self._acted.setdefault((role, phase.name), []).append(action)
            if legal is not None:
                self._legal.setdefault((role, phase.name), []).append(legal)

    def paid(self, role: str, reward: Tensor) -> None:
        """The seats of a role have earned something."""
        if role in self.roles:
            self._reward.setdefault(role, []).append(reward)

    def told(self, role: str, feedback: Mapping[str, Tensor]) -> None:
        """The seats of a role were told something of what they did."""
        if role in self.roles:
            for name, told in feedback.items():
                self._told.setdefault((role, name), []).append(told)

    def round(self, ended: Tensor, over: Tensor) -> None:
        """A round is complete: worlds whose episode ended in it, worlds that stood still."""
        self._ended.append(ended)
        self._over.append(over)

    def experience(self, role: str) -> Experience:
        """All that the role went through so far."""
        paid = self._reward.get(role)
        return Experience(
            _of(role, self._seen),
            _of(role, self._acted),
            None if paid is None else torch.stack(paid, 1),
            _of(role, self._told),
            _of(role, self._legal),
            torch.stack(self._ended, 1) if self._ended else None,
            torch.stack(self._over, 1) if self._over else None,
        )


def together(several: Sequence[Experience]) -> Experience:
    """What a role went through in several stretches, one after another.

    Raises:
        UserError: it saw, did or was told other things in them.
    """
    first = several[0]
    for other in several[1:]:
        kinds = [
            set(e.seen) | set(e.feedback) | set(e.legal) | {e.reward is None}
            for e in (first, other)
        ]
        if kinds[0] != kinds[1]:
            raise UserError(
                "a role saw or was told other things in different stages: name one",
                code="conflict",
                path="record",
            )
    if len(several) == 1:
        return first

    def both(parts: list[Tensor | None]) -> Tensor | None:
        found = [part for part in parts if part is not None]
        return torch.cat(found, 1) if found else None

    return Experience(
        {name: torch.cat([e.seen[name] for e in several], 1) for name in first.seen},
        {name: torch.cat([e.acted[name] for e in several], 1) for name in first.acted},
        both([e.reward for e in several]),
        {name: torch.cat([e.feedback[name] for e in several], 1) for name in first.feedback},
        {name: torch.cat([e.legal[name] for e in several], 1) for name in first.legal},
        both([e.ended for e in several]),
        both([e.over for e in several]),
    )


def _of(role: str, kept: Mapping[tuple[str, str], list[Tensor]]) -> dict[str, Tensor]:
    """What was kept of a role, by phase or name."""
    return {name: torch.stack(rows, 1) for (who, name), rows in kept.items() if who == role}

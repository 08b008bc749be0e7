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
class EpisodeDataset:
    """What one role's seats went through.

    A *decision* is one pass through a phase, in the order of play, over all rounds and episodes. In
    a world that had ended the last sights and acts repeat, and nothing is earned.

    Attributes:
        observation: by phase, `[world, decision, agent, size]`.
        action: by phase, `[world, decision, agent]` or `[world, decision, agent, size]`.
        reward: `[world, payment, agent]`, a payment each time that the role was paid.
        feedback: by name, `[world, time, agent, ...]`, a time each time that it was told.
        action_mask: by phase, open options, `[world, decision, agent, option]`; phases in which nothing
            is ever closed are left out.
        done: `[world, round]`, the rounds in which an episode ended.
        finished: `[world, round]`, the rounds in which a world stood still.
    """

    observation: dict[str, Tensor]
    action: dict[str, Tensor]
    reward: Float[Tensor, "world payment agent"] | None
    feedback: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    action_mask: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    done: Bool[Tensor, "world round"] | None = None
    finished: Bool[Tensor, "world round"] | None = None


class EpisodeRecorder:
    """Keeps what the named roles see, do and earn, until `dataset` is asked for."""

    def __init__(self, roles: Collection[str]) -> None:
        self.roles = frozenset(roles)
        self._observation: dict[tuple[str, str], list[Tensor]] = {}
        self._action: dict[tuple[str, str], list[Tensor]] = {}
        self._action_mask: dict[tuple[str, str], list[Tensor]] = {}
        self._reward: dict[str, list[Tensor]] = {}
        self._feedback: dict[tuple[str, str], list[Tensor]] = {}
        self._done: list[Tensor] = []
        self._finished: list[Tensor] = []

    def record_action(
        self,
        role: str,
        phase: Phase,
        observation: Tensor,
        action: Tensor,
        action_mask: Tensor | None = None,
    ) -> None:
        """The seats of a role have acted, with these options open; `None`: all of them."""
        if role in self.roles:
            self._observation.setdefault((role, phase.name), []).append(observation)
            self._action.setdefault((role, phase.name), []).append(action)
            if action_mask is not None:
                self._action_mask.setdefault((role, phase.name), []).append(action_mask)

    def record_reward(self, role: str, reward: Tensor) -> None:
        """The seats of a role have earned something."""
        if role in self.roles:
            self._reward.setdefault(role, []).append(reward)

    def record_feedback(self, role: str, feedback: Mapping[str, Tensor]) -> None:
        """The seats of a role were told something of what they did."""
        if role in self.roles:
            for name, told in feedback.items():
                self._feedback.setdefault((role, name), []).append(told)

    def record_round(self, done: Tensor, finished: Tensor) -> None:
        """A round is complete: worlds whose episode ended in it, worlds that stood still."""
        self._done.append(done)
        self._finished.append(finished)

    def dataset(self, role: str) -> EpisodeDataset:
        """All that the role went through so far."""
        paid = self._reward.get(role)
        return EpisodeDataset(
            _stack_buffers(role, self._observation),
            _stack_buffers(role, self._action),
            None if paid is None else torch.stack(paid, 1),
            _stack_buffers(role, self._feedback),
            _stack_buffers(role, self._action_mask),
            torch.stack(self._done, 1) if self._done else None,
            torch.stack(self._finished, 1) if self._finished else None,
        )


def concatenate_datasets(datasets: Sequence[EpisodeDataset]) -> EpisodeDataset:
    """What a role went through in several stretches, one after another.

    Raises:
        UserError: it saw, did or was told other things in them.
    """
    first = datasets[0]
    for other in datasets[1:]:
        kinds = [
            set(e.observation) | set(e.feedback) | set(e.action_mask) | {e.reward is None}
            for e in (first, other)
        ]
        if kinds[0] != kinds[1]:
            raise UserError(
                "a role saw or was told other things in different stages: name one",
                code="conflict",
                path="record",
            )
    if len(datasets) == 1:
        return first

    def both(parts: list[Tensor | None]) -> Tensor | None:
        found = [part for part in parts if part is not None]
        return torch.cat(found, 1) if found else None

    return EpisodeDataset(
        {name: torch.cat([e.observation[name] for e in datasets], 1) for name in first.observation},
        {name: torch.cat([e.action[name] for e in datasets], 1) for name in first.action},
        both([e.reward for e in datasets]),
        {name: torch.cat([e.feedback[name] for e in datasets], 1) for name in first.feedback},
        {name: torch.cat([e.action_mask[name] for e in datasets], 1) for name in first.action_mask},
        both([e.done for e in datasets]),
        both([e.finished for e in datasets]),
    )


def _stack_buffers(role: str, buffers: Mapping[tuple[str, str], list[Tensor]]) -> dict[str, Tensor]:
    """What was kept of a role, by phase or name."""
    return {name: torch.stack(rows, 1) for (who, name), rows in buffers.items() if who == role}

"""Records the episodes of a simulation as `EpisodeDataset`s."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from mores.core.environment import Phase
from mores.core.episode_dataset import EpisodeDataset


class EpisodeRecorder:
    """Records observations, actions, rewards and feedback of the named roles."""

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
        """Record one phase of a role. `action_mask`: legal options; `None`: all."""
        if role in self.roles:
            self._observation.setdefault((role, phase.name), []).append(observation)
            self._action.setdefault((role, phase.name), []).append(action)
            if action_mask is not None:
                self._action_mask.setdefault((role, phase.name), []).append(action_mask)

    def record_reward(self, role: str, reward: Tensor) -> None:
        """Record the reward of a role in one phase."""
        if role in self.roles:
            self._reward.setdefault(role, []).append(reward)

    def record_feedback(self, role: str, feedback: Mapping[str, Tensor]) -> None:
        """Record the feedback of a role in one phase."""
        if role in self.roles:
            for name, tensor in feedback.items():
                self._feedback.setdefault((role, name), []).append(tensor)

    def record_round(self, done: Tensor, finished: Tensor) -> None:
        """Record which worlds ended in a round, and which had ended before."""
        self._done.append(done)
        self._finished.append(finished)

    def dataset(self, role: str) -> EpisodeDataset:
        """All records of a role so far."""
        reward = self._reward.get(role)
        return EpisodeDataset(
            _stack_buffers(role, self._observation),
            _stack_buffers(role, self._action),
            None if reward is None else torch.stack(reward, 1),
            _stack_buffers(role, self._feedback),
            _stack_buffers(role, self._action_mask),
            torch.stack(self._done, 1) if self._done else None,
            torch.stack(self._finished, 1) if self._finished else None,
        )


def _stack_buffers(role: str, buffers: Mapping[tuple[str, str], list[Tensor]]) -> dict[str, Tensor]:
    """Records of one role, stacked over time, by phase or name."""
    return {name: torch.stack(rows, 1) for (key, name), rows in buffers.items() if key == role}

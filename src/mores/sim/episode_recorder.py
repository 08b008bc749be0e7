"""Records the episodes of a simulation as `EpisodeDataset`s."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from mores.core.environment import Phase
from mores.core.episode_dataset import EpisodeDataset
from mores.sim.recorder import Recorder


class EpisodeRecorder(Recorder):
    """Records observations, actions, rewards and feedback of the named roles."""

    def __init__(self, roles: Collection[str]) -> None:
        self.roles = frozenset(roles)
        self._rows: dict[tuple[str, str, str], list[Tensor]] = {}  # by quantity, role and name

    def record_action(
        self,
        role: str,
        phase: Phase,
        observation: Tensor,
        action: Tensor,
        action_mask: Tensor | None = None,
    ) -> None:
        """Record one phase of a role. `action_mask`: legal options; `None`: all."""
        self._add("observation", role, phase.name, observation)
        self._add("action", role, phase.name, action)
        if action_mask is not None:
            self._add("action_mask", role, phase.name, action_mask)

    def record_reward(self, role: str, reward: Tensor) -> None:
        """Record the reward of a role in one phase."""
        self._add("reward", role, "", reward)

    def record_feedback(self, role: str, feedback: Mapping[str, Tensor]) -> None:
        """Record the feedback of a role in one phase."""
        for name, tensor in feedback.items():
            self._add("feedback", role, name, tensor)

    def record_round(self, done: Tensor, finished: Tensor) -> None:
        """Record which worlds ended in a round, and which had ended before."""
        self._add("done", "", "", done)
        self._add("finished", "", "", finished)

    def _add(self, quantity: str, role: str, name: str, tensor: Tensor) -> None:
        if role in self.roles or not role:
            self._rows.setdefault((quantity, role, name), []).append(tensor)

    def dataset(self, role: str) -> EpisodeDataset:
        """All records of a role so far."""

        def stacked(quantity: str, role: str = role) -> dict[str, Tensor]:
            return {
                name: torch.stack(rows, 1)
                for (each, owner, name), rows in self._rows.items()
                if (each, owner) == (quantity, role)
            }

        return EpisodeDataset(
            stacked("observation"),
            stacked("action"),
            stacked("reward").get(""),
            stacked("feedback"),
            stacked("action_mask"),
            stacked("done", "").get(""),
            stacked("finished", "").get(""),
        )

    def state_dict(self) -> dict[str, Tensor]:
        """All records, stacked over time, by quantity, role and name as JSON."""
        return {json.dumps(key): torch.stack(rows) for key, rows in self._rows.items()}

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Restore the records of `state_dict`."""
        self._rows = {tuple(json.loads(key)): list(t.unbind(0)) for key, t in state_dict.items()}

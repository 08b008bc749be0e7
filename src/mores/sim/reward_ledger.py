"""Accounts of rewards and feedback for external agents and for learners.

Rewards of an external agent add up until its next turn. Rewards and feedback of a learner add up
over the phases of a round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.core import pytree
from mores.sim.episode_recorder import EpisodeRecorder

RewardByRole = dict[str, Float[Tensor, "world agent"]]


class RewardLedger:
    """Rewards and feedback not yet delivered, by role.

    Args:
        num_agents: number of agents of each role.
        num_worlds: number of worlds.
        external_roles: roles with external agents.
        learning_roles: roles whose policies train online.
        recorder: also receives all rewards and feedback.
        device: device of the tensors.

    Attributes:
        listeners: called with the role and the rewards of every phase, for metrics.
    """

    def __init__(
        self,
        num_agents: Mapping[str, int],
        num_worlds: int,
        external_roles: Iterable[str],
        learning_roles: Iterable[str],
        recorder: EpisodeRecorder | None,
        device: torch.device,
    ) -> None:
        self._num_agents, self._num_worlds, self._device = num_agents, num_worlds, device
        self._recorder = recorder
        self._external_roles, self._learning_roles = list(external_roles), list(learning_roles)
        self.listeners: list[Callable[[str, Tensor], None]] = []
        accounts = {*self._external_roles, *self._learning_roles}
        self._empty = {name: self._zeros(name) for name in accounts}  # never written, nor given out
        self.reset()

    @property
    def enabled(self) -> bool:
        """Whether anything needs the rewards."""
        accounts = self._external_roles or self._learning_roles or self.listeners
        return bool(accounts) or self._recorder is not None

    def reset(self) -> None:
        """Clear all accounts, at the start of an episode in every world."""
        self.pending_reward: RewardByRole = {n: self._empty[n] for n in self._external_roles}
        self.round_reward: RewardByRole = {n: self._empty[n] for n in self._learning_roles}
        self.round_feedback: dict[str, dict[str, Tensor]] = {
            name: {} for name in self._learning_roles
        }

    def add_reward(
        self, reward: Mapping[str, Tensor], finished: Bool[Tensor, " world"] | None
    ) -> None:
        """Add the rewards of a phase; they are 0 in worlds that are `finished`."""
        for role, role_reward in reward.items():
            if finished is not None:
                role_reward = torch.where(finished[:, None], 0.0, role_reward)
            for account in (self.pending_reward, self.round_reward):
                if role in account:
                    account[role] = self._sum(role, account[role], role_reward)
            for listener in self.listeners:
                listener(role, role_reward)
            if self._recorder is not None:
                self._recorder.record_reward(role, role_reward)

    def add_feedback(
        self,
        feedback: Mapping[str, Mapping[str, Tensor]],
        finished: Bool[Tensor, " world"] | None,
    ) -> None:
        """Add the feedback of a phase; it replaces earlier feedback of the same name.

        Worlds that are `finished` keep the earlier feedback, if there is any.
        """
        for role, tensors in feedback.items():
            if role in self.round_feedback:
                before, new = self.round_feedback[role], dict(tensors)
                if finished is not None:
                    new |= {
                        name: pytree.where(finished, before[name], new[name])
                        for name in before.keys() & new.keys()
                    }
                self.round_feedback[role] = {**before, **new}
            if self._recorder is not None:
                self._recorder.record_feedback(role, tensors)

    def pop_round(self, role: str) -> tuple[Float[Tensor, "world agent"], dict[str, Tensor]]:
        """Take out the rewards and feedback of a learning role in the completed round."""
        reward, feedback = self.round_reward[role], self.round_feedback[role]
        self.round_reward[role], self.round_feedback[role] = self._empty[role], {}
        return self._given_out(role, reward), feedback

    def reset_worlds(self, reset_mask: Bool[Tensor, " world"]) -> RewardByRole:
        """Clear pending rewards in the worlds `reset_mask`; returns the previous ones of all."""
        previous = self.pending_reward
        self.pending_reward = {
            role: torch.where(reset_mask[:, None], 0.0, reward) for role, reward in previous.items()
        }
        return previous

    def reset_rounds(self, reset_mask: Bool[Tensor, " world"]) -> None:
        """Clear the rewards of learners in the worlds `reset_mask`, within a round."""
        self.round_reward = {
            role: torch.where(reset_mask[:, None], 0.0, reward)
            for role, reward in self.round_reward.items()
        }

    def pop_pending_reward(
        self, reset_mask: Bool[Tensor, " world"] | None, previous_reward: RewardByRole | None
    ) -> RewardByRole:
        """Take out the pending rewards. Those of an episode just begun wait for its first turn.

        Args:
            reset_mask: worlds that were reset; `None`: there was no reset.
            previous_reward: pending rewards before the reset; `None`: there was no reset.
        """
        pending = {role: self._given_out(role, r) for role, r in self.pending_reward.items()}
        self.pending_reward = {name: self._empty[name] for name in self._external_roles}
        if reset_mask is None or previous_reward is None:
            return pending
        self.pending_reward = {
            role: torch.where(reset_mask[:, None], pending[role], 0.0)
            for role in self._external_roles
        }
        return {
            role: torch.where(reset_mask[:, None], previous_reward[role], pending[role])
            for role in self._external_roles
        }

    def _sum(self, role: str, account: Tensor, reward: Tensor) -> Tensor:
        """A new tensor: the environment may keep the reward in its state."""
        if account is self._empty[role] and reward.dtype is account.dtype:
            return reward + 0.0
        return account + reward

    def _given_out(self, role: str, account: Tensor) -> Tensor:
        """The account, as a tensor that may be written to."""
        return self._zeros(role) if account is self._empty[role] else account

    def _zeros(self, role: str) -> Float[Tensor, "world agent"]:
        return torch.zeros(self._num_worlds, self._num_agents[role], device=self._device)

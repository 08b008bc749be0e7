"""Accounts of rewards and feedback for external agents and for learners.

Rewards of an external agent add up until its next turn; so do rewards of other roles and numeric
feedback, on request. Rewards and feedback of a learner add up over the phases of a round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.core import pytree
from mores.sim.recorder import Recorder

RewardByRole = dict[str, Float[Tensor, "world agent *component"]]


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
        recorder: Recorder | None,
        device: torch.device,
    ) -> None:
        self._num_agents, self._num_worlds, self._device = num_agents, num_worlds, device
        self._recorder = recorder
        self._pending_names, self._learning_roles = list(external_roles), list(learning_roles)
        self.listeners: list[Callable[[str, Tensor], None]] = []
        accounts = {*self._pending_names, *self._learning_roles}
        self._empty = {  # never written, nor given out
            name: self._zeros(num_agents[name]) for name in accounts
        }
        self._feedback_names: dict[tuple[str, str], str] = {}  # account by role and feedback
        self.reset()

    def report_reward(self, role: str) -> str:
        """Add up the rewards of a role until the next turn of external agents, from a reset on.

        Returns:
            Its account among the pending rewards, which hold `[world, agent]`.
        """
        self._add_pending(role, (self._num_agents[role],))
        return role

    def report_feedback(self, role: str, name: str, size: int) -> str:
        """Add up numeric feedback to a role, like a reward: see `report_reward`.

        Args:
            role: the role.
            name: name of the feedback, `[world, agent, ...]`.
            size: numbers for each agent.

        Returns:
            Its account, which holds `[world, agent, size]`.
        """
        account = f"{role}.{name}"
        self._add_pending(account, (self._num_agents[role], size))
        self._feedback_names[role, name] = account
        return account

    def _add_pending(self, account: str, shape: tuple[int, ...]) -> None:
        self._empty.setdefault(account, self._zeros(*shape))
        if account not in self._pending_names:
            self._pending_names.append(account)

    @property
    def enabled(self) -> bool:
        """Whether anything needs the rewards."""
        accounts = self._pending_names or self._learning_roles or self.listeners
        return bool(accounts) or self._recorder is not None

    def reset(self) -> None:
        """Clear all accounts, at the start of an episode in every world."""
        self.pending_reward: RewardByRole = {n: self._empty[n] for n in self._pending_names}
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
            for name, tensor in tensors.items():
                if (account := self._feedback_names.get((role, name))) is not None:
                    self._add_pending_feedback(account, tensor, finished)
            if self._recorder is not None:
                self._recorder.record_feedback(role, tensors)

    def _add_pending_feedback(
        self, account: str, feedback: Tensor, finished: Bool[Tensor, " world"] | None
    ) -> None:
        feedback = feedback.unsqueeze(-1).flatten(2)  # world agent number
        if finished is not None:
            feedback = torch.where(finished[:, None, None], 0.0, feedback)
        self.pending_reward[account] = self._sum(account, self.pending_reward[account], feedback)

    def pop_round(self, role: str) -> tuple[Float[Tensor, "world agent"], dict[str, Tensor]]:
        """Take out the rewards and feedback of a learning role in the completed round."""
        reward, feedback = self.round_reward[role], self.round_feedback[role]
        self.round_reward[role], self.round_feedback[role] = self._empty[role], {}
        return self._given_out(role, reward), feedback

    def reset_worlds(self, reset_mask: Bool[Tensor, " world"]) -> RewardByRole:
        """Clear pending rewards in the worlds `reset_mask`; returns the previous ones of all."""
        previous = self.pending_reward
        self.pending_reward = {
            account: torch.where(_along(reset_mask, reward), 0.0, reward)
            for account, reward in previous.items()
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
        pending = {name: self._given_out(name, r) for name, r in self.pending_reward.items()}
        self.pending_reward = {name: self._empty[name] for name in self._pending_names}
        if reset_mask is None or previous_reward is None:
            return pending
        self.pending_reward = {
            name: torch.where(_along(reset_mask, reward), reward, 0.0)
            for name, reward in pending.items()
        }
        return {
            name: torch.where(_along(reset_mask, reward), previous_reward[name], reward)
            for name, reward in pending.items()
        }

    def _sum(self, role: str, account: Tensor, reward: Tensor) -> Tensor:
        """A new tensor: the environment may keep the reward in its state."""
        if account is self._empty[role] and reward.dtype is account.dtype:
            return reward + 0.0
        return account + reward

    def _given_out(self, role: str, account: Tensor) -> Tensor:
        """The account, as a tensor that may be written to."""
        return torch.zeros_like(account) if account is self._empty[role] else account

    def _zeros(self, *shape: int) -> Float[Tensor, "world agent *component"]:
        return torch.zeros(self._num_worlds, *shape, device=self._device)


def _along(mask: Bool[Tensor, " world"], tensor: Tensor) -> Bool[Tensor, "world *ones"]:
    """The mask, with the dimensions of a tensor `[world, ...]`."""
    return mask.view(-1, *[1] * (tensor.dim() - 1))

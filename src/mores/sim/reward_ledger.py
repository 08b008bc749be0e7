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
from mores.sim.episode_dataset import EpisodeRecorder

RewardByRole = dict[str, Float[Tensor, "world agent"]]


class RewardLedger:
    """What is still to be paid and told, by role.

    Args:
        num_agents: how many seats each role has.
        num_worlds: how many are played.
        external_roles: roles with seats that are filled from outside.
        learning_roles: roles whose players learn.
        recorder: told all of it as well.
        device: where tensors live.
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
        self.enabled = bool(self._external_roles or self._learning_roles) or recorder is not None
        self.reset()

    def reset(self) -> None:
        """Nothing is owed, earned or told: an episode begins in every world."""
        self.pending_reward: RewardByRole = {
            name: self._zeros(name) for name in self._external_roles
        }
        self.round_reward: RewardByRole = {name: self._zeros(name) for name in self._learning_roles}
        self.round_feedback: dict[str, dict[str, Tensor]] = {
            name: {} for name in self._learning_roles
        }

    def add_reward(
        self, reward: Mapping[str, Tensor], finished: Bool[Tensor, " world"] | None
    ) -> None:
        """Book what a phase earned; in the worlds that are `finished`, nothing was."""
        for name, earned in reward.items():
            self._check_reward(name, earned)
            if finished is not None:
                earned = torch.where(finished[:, None], 0.0, earned)
            for book in (self.pending_reward, self.round_reward):
                if name in book:
                    book[name] = book[name] + earned
            if self._recorder is not None:
                self._recorder.record_reward(name, earned)

    def _check_reward(self, role: str, reward: object) -> None:
        """See that a game pays every seat of a role that there is.

        Raises:
            UserError: it does not.
        """
        if role not in self._num_agents:
            near = did_you_mean(role, self._num_agents)
            raise UserError(
                f"the game pays a role that it has not, {role!r}{near}",
                code="failed",
                path=f"reward.{role}",
            )
        shape = getattr(reward, "shape", None)
        wanted = (self._num_worlds, self._num_agents[role])
        if shape != wanted:
            found = f"a {type(reward).__name__}" if shape is None else list(shape)
            raise UserError(
                f"the game pays {role} {found}, not [world, agent], {list(wanted)}",
                code="failed",
                path=f"reward.{role}",
            )

    def add_feedback(self, feedback: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Book a phase's feedback; what an earlier phase said under the same name is replaced."""
        for name, told in feedback.items():
            if name in self.round_feedback:
                self.round_feedback[name] = {**self.round_feedback[name], **told}
            if self._recorder is not None:
                self._recorder.record_feedback(name, told)

    def pop_round(self, role: str) -> tuple[Float[Tensor, "world agent"], dict[str, Tensor]]:
        """What the seats of a learning role earned and were told in the round now complete."""
        earned, told = self.round_reward[role], self.round_feedback[role]
        self.round_reward[role], self.round_feedback[role] = self._zeros(role), {}
        return earned, told

    def reset_worlds(self, reset_mask: Bool[Tensor, " world"]) -> RewardByRole:
        """Begin anew in the worlds `reset_mask`; returns what all were owed until then."""
        ended = self.pending_reward
        self.pending_reward = {
            n: torch.where(reset_mask[:, None], 0.0, owed) for n, owed in ended.items()
        }
        return ended

    def pop_pending_reward(
        self, reset_mask: Bool[Tensor, " world"], previous_reward: RewardByRole | None
    ) -> RewardByRole:
        """Pay what is owed. After a cut, pay of the new episode waits for its own first turn.

        Args:
            reset_mask: worlds that were cut.
            previous_reward: what all were owed then; `None`: there was no cut.
        """
        owed = self.pending_reward
        self.pending_reward = {name: self._zeros(name) for name in self._external_roles}
        if previous_reward is None:
            return owed
        self.pending_reward = {
            n: torch.where(reset_mask[:, None], owed[n], 0.0) for n in self._external_roles
        }
        return {
            n: torch.where(reset_mask[:, None], previous_reward[n], owed[n])
            for n in self._external_roles
        }

    def _zeros(self, role: str) -> Float[Tensor, "world agent"]:
        return torch.zeros(self._num_worlds, self._num_agents[role], device=self._device)

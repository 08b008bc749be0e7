"""Interface of recorders of observations, actions, rewards and feedback as they occur."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mores.core.environment import Phase


class Recorder:
    """Receives the events of a simulation and keeps none; a subclass overrides what it needs."""

    def record_action(
        self,
        role: str,
        phase: Phase,
        observation: Tensor,
        action: Tensor,
        action_mask: Tensor | None = None,
    ) -> None:
        """One phase of a role.

        Args:
            role: name of the role.
            phase: the phase.
            observation: `[world, agent, size]`.
            action: `[world, agent]` or `[world, agent, size]`.
            action_mask: legal options, `[world, agent, option]`; None: all.
        """

    def record_reward(self, role: str, reward: Tensor) -> None:
        """Reward of a role in one phase, `[world, agent]`."""

    def record_feedback(self, role: str, feedback: Mapping[str, Tensor]) -> None:
        """Feedback to a role in one phase by name, `[world, agent, ...]`."""

    def record_round(self, done: Tensor, finished: Tensor) -> None:
        """Worlds that ended in a round, and those that had ended before, `[world]`."""

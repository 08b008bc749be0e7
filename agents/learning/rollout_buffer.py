"""Rollout buffer: decisions, rewards and feedback of a role since the last update.

Buffers are allocated once and written in place; a full buffer doubles its capacity.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.agents.learning.action_distributions import ActionDistribution
from mores.agents.learning.model_stack import ModelStack
from mores.core import pytree
from mores.core.environment import Transition
from mores.core.spaces import Box


@dataclasses.dataclass(frozen=True)
class Decision:
    """Decisions in a phase: `[world, agent, ...]`, of several rounds `[round, world, agent, ...]`.

    Attributes:
        observation: observation of each agent.
        action: action, in units of the action distribution.
        logp: log-probability of the action.
        value: prediction of the value head; 0 without one.
        action_mask: legal options, all True without a mask; of length 0 for boxes.
    """

    observation: Float[Tensor, "*lead agent size"]
    action: Tensor
    logp: Float[Tensor, "*lead agent"]
    value: Float[Tensor, "*lead agent"]
    action_mask: Bool[Tensor, "*lead agent option"]

    @staticmethod
    def empty(
        distribution: ActionDistribution,
        observation_size: int,
        leading_shape: tuple[int, ...],
        device: torch.device,
    ) -> Decision:
        """Zeros, with leading dimensions `[world, agent]` or `[round, world, agent]`."""
        size, is_box = distribution.action_dim, isinstance(distribution.space, Box)
        action_shape = leading_shape if size is None else (*leading_shape, size)
        num_options = 0 if is_box else distribution.dist_inputs_size
        return Decision(
            torch.zeros(*leading_shape, observation_size, device=device),
            torch.zeros(
                action_shape, dtype=torch.float32 if is_box else torch.int64, device=device
            ),
            torch.zeros(leading_shape, device=device),
            torch.zeros(leading_shape, device=device),
            torch.ones(*leading_shape, num_options, dtype=torch.bool, device=device),
        )


@dataclasses.dataclass
class RolloutBuffer(pytree.Growing):
    """Rounds since the last update. Tensors are changed in place.

    Attributes:
        decisions: decisions by phase, `[round, world, agent, ...]`.
        reward: reward of each round.
        bootstrap_value: predicted value after the round, where the rollout or an episode was cut.
        terminated, truncated: worlds whose episode ended in the round, or was truncated.
        episode_start: worlds whose episode began with the round.
        next_episode_start: worlds whose episode begins with the next round.
        valid: worlds whose round counts for the update.
        length: number of recorded rounds.
        episode_complete: worlds that have completed an episode (episodic learners only).
        mid_episode: worlds that were within an episode at the start (episodic learners only).
        recurrent_state: recurrent state before the first round.
        feedback: latest feedback by name, `[world, agent, ...]`.
    """

    growing_fields: ClassVar[tuple[str, ...]] = (
        *("decisions", "reward", "bootstrap_value", "terminated", "truncated", "episode_start"),
        *("valid", "feedback"),
    )

    decisions: dict[str, Decision]
    reward: Float[Tensor, "round world agent"]
    bootstrap_value: Float[Tensor, "round world agent"]
    terminated: Bool[Tensor, "round world"]
    truncated: Bool[Tensor, "round world"]
    episode_start: Bool[Tensor, "round world"]
    valid: Bool[Tensor, "round world"]
    length: Int[Tensor, ""]
    next_episode_start: Bool[Tensor, " world"]
    episode_complete: Bool[Tensor, " world"]
    mid_episode: Bool[Tensor, " world"]
    recurrent_state: Float[Tensor, "world agent recurrent"]
    feedback: dict[str, Tensor]

    @staticmethod
    def empty(
        stacked_model: ModelStack,
        shape: tuple[int, int],
        capacity: int,
        recurrent_state: Tensor,
        device: torch.device,
    ) -> RolloutBuffer:
        """An empty buffer for `capacity` rounds of agents of shape `[world, agent]`."""
        worlds, _ = shape
        leading_shape = (capacity, *shape)
        flags = torch.zeros(capacity, worlds, dtype=torch.bool, device=device)
        return RolloutBuffer(
            {
                p: Decision.empty(d, stacked_model.observation_size, leading_shape, device)
                for p, d in stacked_model.action_distributions.items()
            },
            torch.zeros(leading_shape, device=device),
            torch.zeros(leading_shape, device=device),
            flags,
            flags.clone(),
            flags.clone(),
            flags.clone(),
            torch.zeros((), dtype=torch.int64),
            torch.ones(worlds, dtype=torch.bool, device=device),
            torch.zeros(worlds, dtype=torch.bool, device=device),
            torch.zeros(worlds, dtype=torch.bool, device=device),
            recurrent_state.clone(),
            {},
        )

    @property
    def capacity(self) -> int:
        """Largest number of rounds before the buffer grows."""
        return len(self.reward)

    def add(
        self,
        decisions: Mapping[str, Decision],
        transition: Transition,
        bootstrap_value: Tensor | None,
    ) -> RolloutBuffer:
        """The buffer with one more round: itself, or a longer one if it was full."""
        index = int(self.length)
        if index == self.capacity:
            return self._with_double_capacity().add(decisions, transition, bootstrap_value)
        for phase, decision in decisions.items():
            stored = self.decisions[phase]
            for field in dataclasses.fields(Decision):
                getattr(stored, field.name)[index] = getattr(decision, field.name)
        self.reward[index] = transition.reward
        self.bootstrap_value[index] = 0.0 if bootstrap_value is None else bootstrap_value
        self.terminated[index], self.truncated[index] = transition.terminated, transition.truncated
        self.episode_start[index] = self.next_episode_start
        self.mid_episode.logical_and_(~self.next_episode_start)
        # A finished world begins an episode when it is simulated again.
        self.next_episode_start.copy_(
            transition.done | (self.next_episode_start & transition.finished)
        )
        self.valid[index] = ~(transition.finished | self.episode_complete | self.mid_episode)
        self.length.add_(1)
        for name, value in transition.feedback.items():
            self._store_feedback(name, value)
        return self

    def _store_feedback(self, name: str, value: Tensor) -> None:
        """Store feedback; worlds whose episode is complete keep the feedback on that episode."""
        before = self.feedback.get(name)
        if before is not None and bool(self.episode_complete.any()):
            complete = self.episode_complete.view(-1, *[1] * (value.dim() - 1))
            value = torch.where(complete, before, value)
        self.feedback[name] = value

    def mark_complete(self, done: Bool[Tensor, " world"]) -> None:
        """Mark worlds whose episode is complete: their later rounds do not count."""
        self.episode_complete.logical_or_(done & ~self.mid_episode)

    def start_episodes(self, reset_mask: Bool[Tensor, " world"], episodic: bool) -> None:
        """Begin an episode in some worlds; an interrupted episode of these worlds is cut.

        The observation after its last round is unknown. Episodic learners drop the episode; others
        drop its last round, whose predicted value bootstraps the round before.
        """
        interrupted = reset_mask & ~self.next_episode_start
        self.next_episode_start.logical_or_(reset_mask)
        last = int(self.length) - 1
        if last < 0 or not bool(interrupted.any()):
            return
        if episodic:
            self.valid[: last + 1].logical_and_(~(interrupted & ~self.episode_complete))
            return
        self.valid[last].logical_and_(~interrupted)
        truncated = interrupted & ~self.episode_start[last]
        if last and bool(truncated.any()):
            value = next(iter(self.decisions.values())).value[last]
            self.truncated[last - 1].logical_or_(truncated)
            self.bootstrap_value[last - 1] = torch.where(
                truncated[:, None], value, self.bootstrap_value[last - 1]
            )

    def clear(self, recurrent_state: Tensor, episodic: bool) -> None:
        """Empty the buffer. `episodic`: rounds of episodes that already run will not count."""
        self.length.zero_()
        self.episode_complete.zero_()
        self.mid_episode.copy_(~self.next_episode_start if episodic else self.episode_complete)
        self.recurrent_state.copy_(recurrent_state)
        self.feedback.clear()

    def _with_double_capacity(self) -> RolloutBuffer:
        """A copy with twice the capacity."""

        def extend(x: Tensor) -> Tensor:
            return torch.cat([x, torch.zeros_like(x)])

        decisions = {
            phase: Decision(
                *(extend(getattr(decision, field.name)) for field in dataclasses.fields(Decision))
            )
            for phase, decision in self.decisions.items()
        }
        names = ("reward", "bootstrap_value", "terminated", "truncated", "episode_start", "valid")
        extended = {name: extend(getattr(self, name)) for name in names}
        return dataclasses.replace(self, decisions=decisions, **extended)

"""What a role did and earned since its learner was last updated, round by round.

Buffers are made once and written in place; one that is full is made twice as long.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.agents.learning.action_distributions import ActionDistribution
from mores.agents.learning.stacked_model import StackedModel
from mores.core.environment import Box, Transition


@dataclasses.dataclass(frozen=True)
class Decision:
    """What seats did in a phase: `[world, agent]` or `[world, agent, ...]`, `[round, ...]` of many.

    Attributes:
        observation: what they saw.
        action: what they did, in units of the head.
        logp: its log-probability.
        value: what the value head said; 0 without one.
        action_mask: open options, all where nothing was closed; of length 0 for boxes.
    """

    observation: Float[Tensor, "*lead agent size"]
    action: Tensor
    logp: Float[Tensor, "*lead agent"]
    value: Float[Tensor, "*lead agent"]
    action_mask: Bool[Tensor, "*lead agent option"]

    @staticmethod
    def empty(
        head: ActionDistribution,
        observation_size: int,
        leading_shape: tuple[int, ...],
        device: torch.device,
    ) -> Decision:
        """Nothing done yet, by seats of shape `[world, agent]` or `[round, world, agent]`."""
        shape = leading_shape if head.action_dim is None else (*leading_shape, head.action_dim)
        box = isinstance(head.space, Box)
        return Decision(
            torch.zeros(*leading_shape, observation_size, device=device),
            torch.zeros(shape, dtype=torch.float32 if box else torch.int64, device=device),
            torch.zeros(leading_shape, device=device),
            torch.zeros(leading_shape, device=device),
            torch.ones(
                *leading_shape, 0 if box else head.dist_inputs_size, dtype=torch.bool, device=device
            ),
        )


@dataclasses.dataclass(frozen=True)
class RolloutBuffer:
    """Rounds that were not yet learned from.

    Attributes:
        decisions: by phase, `[round, world, agent, ...]`.
        reward: what each round paid.
        bootstrap_value: what the value head expected where an episode was cut off, after the round.
        terminated, truncated: worlds whose episode ended, or was cut off.
        episode_start: rounds that began an episode.
        next_episode_start: worlds that begin one with the next round.
        valid: rounds in which a world played.
        length: rounds kept.
        episode_complete: worlds whose first whole episode in here is over.
        mid_episode: worlds that were within an episode when this began, where only whole ones count.
        recurrent_state: what policies remembered before the first round.
        feedback: what was said of what they did, the last that was, by name `[world, agent, ...]`.
    """

    growing_fields: ClassVar[tuple[str, ...]] = (
        *(
            "decisions",
            "reward",
            "bootstrap_value",
            "terminated",
            "truncated",
            "episode_start",
            "valid",
        ),
        "feedback",
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
    recurrent_state: Float[Tensor, "world agent memory"]
    feedback: dict[str, Tensor]

    @staticmethod
    def empty(
        stacked_model: StackedModel,
        shape: tuple[int, int],
        capacity: int,
        recurrent_state: Tensor,
        device: torch.device,
    ) -> RolloutBuffer:
        """Nothing yet, with room for some rounds of `[world, agent]` seats."""
        worlds, _ = shape
        lead = (capacity, *shape)
        flags = torch.zeros(capacity, worlds, dtype=torch.bool, device=device)
        return RolloutBuffer(
            {
                p: Decision.empty(head, stacked_model.observation_size, lead, device)
                for p, head in stacked_model.action_distributions.items()
            },
            torch.zeros(lead, device=device),
            torch.zeros(lead, device=device),
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
        """For how many rounds there is room."""
        return len(self.reward)

    def add(
        self,
        decisions: Mapping[str, Decision],
        transition: Transition,
        bootstrap_value: Tensor | None,
    ) -> RolloutBuffer:
        """With one round more."""
        at = int(self.length)
        if at == self.capacity:
            return self._with_double_capacity().add(decisions, transition, bootstrap_value)
        for phase, decision in decisions.items():
            held = self.decisions[phase]
            for field in dataclasses.fields(Decision):
                getattr(held, field.name)[at] = getattr(decision, field.name)
        self.reward[at] = transition.reward
        self.bootstrap_value[at] = 0.0 if bootstrap_value is None else bootstrap_value
        self.terminated[at], self.truncated[at] = transition.terminated, transition.truncated
        self.episode_start[at] = self.next_episode_start
        self.mid_episode.logical_and_(~self.next_episode_start)
        # Whoever stands still begins when it plays again.
        self.next_episode_start.copy_(
            transition.done | (self.next_episode_start & transition.finished)
        )
        self.valid[at] = ~(transition.finished | self.episode_complete | self.mid_episode)
        self.length.add_(1)
        for name, told in transition.feedback.items():
            self._store_feedback(name, told)
        return self

    def _store_feedback(self, name: str, value: Tensor) -> None:
        """Keep what was said; worlds whose episode is complete have been told."""
        before = self.feedback.get(name)
        if before is not None and bool(self.episode_complete.any()):
            done = self.episode_complete.view(-1, *[1] * (value.dim() - 1))
            value = torch.where(done, before, value)
        self.feedback[name] = value

    def mark_complete(self, done: Bool[Tensor, " world"]) -> None:
        """What follows in these worlds is no longer part of the episode that is learned from."""
        self.episode_complete.logical_or_(done & ~self.mid_episode)

    def start_episodes(self, reset_mask: Bool[Tensor, " world"], episodic: bool) -> None:
        """These worlds begin an episode, and what is unfinished of the one before is cut.

        What it would have led to is not known. Where only whole episodes count it is left out; else
        its last round is, of which only what was expected then is kept.
        """
        broken = reset_mask & ~self.next_episode_start
        self.next_episode_start.logical_or_(reset_mask)
        last = int(self.length) - 1
        if last < 0 or not bool(broken.any()):
            return
        if episodic:
            self.valid[: last + 1].logical_and_(~(broken & ~self.episode_complete))
            return
        self.valid[last].logical_and_(~broken)
        before = broken & ~self.episode_start[last]
        if last and bool(before.any()):
            expected = next(iter(self.decisions.values())).value[last]
            self.truncated[last - 1].logical_or_(before)
            self.bootstrap_value[last - 1] = torch.where(
                before[:, None], expected, self.bootstrap_value[last - 1]
            )

    def clear(self, recurrent_state: Tensor, episodic: bool) -> None:
        """Begin anew, with what is remembered now; `episodic`: only whole episodes are to count."""
        self.length.zero_()
        self.episode_complete.zero_()
        self.mid_episode.copy_(~self.next_episode_start if episodic else self.episode_complete)
        self.recurrent_state.copy_(recurrent_state)
        self.feedback.clear()

    def _with_double_capacity(self) -> RolloutBuffer:
        """With room for twice as many rounds."""

        def longer(x: Tensor) -> Tensor:
            return torch.cat([x, torch.zeros_like(x)])

        decisions = {
            phase: Decision(
                *(longer(getattr(held, field.name)) for field in dataclasses.fields(Decision))
            )
            for phase, held in self.decisions.items()
        }
        names = ("reward", "bootstrap_value", "terminated", "truncated", "episode_start", "valid")
        grown = {name: longer(getattr(self, name)) for name in names}
        return dataclasses.replace(self, decisions=decisions, **grown)

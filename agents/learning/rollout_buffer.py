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

from mores.agents.learning.action_distributions import Head
from mores.agents.learning.stacked_model import Stack
from mores.core.environment import Box, Outcome


@dataclasses.dataclass(frozen=True)
class Decision:
    """What seats did in a phase: `[world, agent]` or `[world, agent, ...]`, `[round, ...]` of many.

    Attributes:
        seen: what they saw.
        acted: what they did, in units of the head.
        logp: its log-probability.
        value: what the value head said; 0 without one.
        legal: open options, all where nothing was closed; of length 0 for boxes.
    """

    seen: Float[Tensor, "*lead agent size"]
    acted: Tensor
    logp: Float[Tensor, "*lead agent"]
    value: Float[Tensor, "*lead agent"]
    legal: Bool[Tensor, "*lead agent option"]

    @staticmethod
    def empty(head: Head, sees: int, lead: tuple[int, ...], device: torch.device) -> Decision:
        """Nothing done yet, by seats of shape `[world, agent]` or `[round, world, agent]`."""
        shape = lead if head.numbers is None else (*lead, head.numbers)
        box = isinstance(head.space, Box)
        return Decision(
            torch.zeros(*lead, sees, device=device),
            torch.zeros(shape, dtype=torch.float32 if box else torch.int64, device=device),
            torch.zeros(lead, device=device),
            torch.zeros(lead, device=device),
            torch.ones(*lead, 0 if box else head.raw, dtype=torch.bool, device=device),
        )


@dataclasses.dataclass(frozen=True)
class Rollout:
    """Rounds that were not yet learned from.

    Attributes:
        decisions: by phase, `[round, world, agent, ...]`.
        reward: what each round paid.
        ahead: what the value head expected where an episode was cut off, after the round.
        terminated, truncated: worlds whose episode ended, or was cut off.
        begins: rounds that began an episode.
        fresh: worlds that begin one with the next round.
        real: rounds in which a world played.
        count: rounds kept.
        complete: worlds whose first whole episode in here is over.
        waiting: worlds that were within an episode when this began, where only whole ones count.
        carry: what policies remembered before the first round.
        told: what was said of what they did, the last that was, by name `[world, agent, ...]`.
    """

    grows: ClassVar[tuple[str, ...]] = (
        *("decisions", "reward", "ahead", "terminated", "truncated", "begins", "real"),
        "told",
    )

    decisions: dict[str, Decision]
    reward: Float[Tensor, "round world agent"]
    ahead: Float[Tensor, "round world agent"]
    terminated: Bool[Tensor, "round world"]
    truncated: Bool[Tensor, "round world"]
    begins: Bool[Tensor, "round world"]
    real: Bool[Tensor, "round world"]
    count: Int[Tensor, ""]
    fresh: Bool[Tensor, " world"]
    complete: Bool[Tensor, " world"]
    waiting: Bool[Tensor, " world"]
    carry: Float[Tensor, "world agent memory"]
    told: dict[str, Tensor]

    @staticmethod
    def empty(
        stack: Stack, shape: tuple[int, int], rounds: int, carry: Tensor, device: torch.device
    ) -> Rollout:
        """Nothing yet, with room for some rounds of `[world, agent]` seats."""
        worlds, _ = shape
        lead = (rounds, *shape)
        flags = torch.zeros(rounds, worlds, dtype=torch.bool, device=device)
        return Rollout(
            {p: Decision.empty(head, stack.sees, lead, device) for p, head in stack.heads.items()},
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
            carry.clone(),
            {},
        )

    @property
    def room(self) -> int:
        """For how many rounds there is room."""
        return len(self.reward)

    def add(
        self, decisions: Mapping[str, Decision], outcome: Outcome, ahead: Tensor | None
    ) -> Rollout:
        """With one round more."""
        at = int(self.count)
        if at == self.room:
            return self._longer().add(decisions, outcome, ahead)
        for phase, decision in decisions.items():
            held = self.decisions[phase]
            for field in dataclasses.fields(Decision):
                getattr(held, field.name)[at] = getattr(decision, field.name)
        self.reward[at] = outcome.reward
        self.ahead[at] = 0.0 if ahead is None else ahead
        self.terminated[at], self.truncated[at] = outcome.terminated, outcome.truncated
        self.begins[at] = self.fresh
        self.waiting.logical_and_(~self.fresh)
        # Whoever stands still begins when it plays again.
        self.fresh.copy_(outcome.ended | (self.fresh & outcome.over))
        self.real[at] = ~(outcome.over | self.complete | self.waiting)
        self.count.add_(1)
        for name, told in outcome.feedback.items():
            self._hear(name, told)
        return self

    def _hear(self, name: str, told: Tensor) -> None:
        """Keep what was said; worlds whose episode is complete have been told."""
        before = self.told.get(name)
        if before is not None and bool(self.complete.any()):
            done = self.complete.view(-1, *[1] * (told.dim() - 1))
            told = torch.where(done, before, told)
        self.told[name] = told

    def close(self, ended: Bool[Tensor, " world"]) -> None:
        """What follows in these worlds is no longer part of the episode that is learned from."""
        self.complete.logical_or_(ended & ~self.waiting)

    def restart(self, worlds: Bool[Tensor, " world"], whole: bool) -> None:
        """These worlds begin an episode, and what is unfinished of the one before is cut.

        What it would have led to is not known. Where only whole episodes count it is left out; else
        its last round is, of which only what was expected then is kept.
        """
        broken = worlds & ~self.fresh
        self.fresh.logical_or_(worlds)
        last = int(self.count) - 1
        if last < 0 or not bool(broken.any()):
            return
        if whole:
            self.real[: last + 1].logical_and_(~(broken & ~self.complete))
            return
        self.real[last].logical_and_(~broken)
        before = broken & ~self.begins[last]
        if last and bool(before.any()):
            expected = next(iter(self.decisions.values())).value[last]
            self.truncated[last - 1].logical_or_(before)
            self.ahead[last - 1] = torch.where(before[:, None], expected, self.ahead[last - 1])

    def clear(self, carry: Tensor, whole: bool) -> None:
        """Begin anew, with what is remembered now; `whole`: only whole episodes are to count."""
        self.count.zero_()
        self.complete.zero_()
        self.waiting.copy_(~self.fresh if whole else self.complete)
        self.carry.copy_(carry)
        self.told.clear()

    def _longer(self) -> Rollout:
        """With room for twice as many rounds."""

        def longer(x: Tensor) -> Tensor:
            return torch.cat([x, torch.zeros_like(x)])

        decisions = {
            phase: Decision(
                *(longer(getattr(held, field.name)) for field in dataclasses.fields(Decision))
            )
            for phase, held in self.decisions.items()
        }
        names = ("reward", "ahead", "terminated", "truncated", "begins", "real")
        grown = {name: longer(getattr(self, name)) for name in names}
        return dataclasses.replace(self, decisions=decisions, **grown)

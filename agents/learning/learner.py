"""Somebody who learns: stacked policies at the seats of a role, each replicate with its own.

This is what all recipes have in common: how policies are made, how they act, what goes on from
episode to episode and from stage to stage. `improve.py` and `fit.py` add the loops in which they
learn, `recipes` what they learn.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from mores.agents.learning.action_search import Choice, searched
from mores.agents.learning.adam import Adam
from mores.agents.learning.learner_state import Learned, Make, Memory, check_acts, check_role
from mores.agents.learning.memory_check import check_room
from mores.agents.learning.model_mapping import Seats, Share
from mores.agents.learning.networks import GRU, MLP, Transformer
from mores.agents.learning.objective import VIEWS
from mores.agents.learning.rollout_buffer import Decision, Rollout
from mores.agents.learning.stacked_model import Stack
from mores.agents.learning.train_state import Descent, Pupil, copied
from mores.core import pytree
from mores.core.environment import Act, Box, Discrete, Phase, Player, Role
from mores.core.errors import ParameterError, UserError, did_you_mean
from mores.core.random_streams import Draws

if TYPE_CHECKING:
    from mores.agents.learning.update import Lesson

Network = Annotated[MLP | GRU | Transformer, Field(discriminator="kind")]


class Learner(Player):
    """Policies that learn; recipes say from what, and by which objective."""

    traits: ClassVar[Mapping[str, object]] = {"learns": True, "stochastic": True}
    critic: ClassVar[bool] = False  # has a value head
    scores: ClassVar[int] = 0  # heads that score whole answers
    whole: ClassVar[bool] = False  # learns as it acts, and from whole episodes only
    work: ClassVar[tuple[str, ...]] = ()  # parameters that say how often it goes over a lesson

    network: Network = Field(default=MLP(), description="what is made of a sight")
    share: Share = Field(
        default="role",
        description="who shares a policy: the seats of a role, those of a group, or nobody "
        "(agent: each seat has its own); replicate: all roles at which this learner sits",
    )
    groups: list[Annotated[int, Field(ge=0)]] | None = Field(
        default=None, description="share: group: the group of each seat"
    )
    learning_rate: float = Field(
        default=0.003, ge=0, le=1, description="of Adam; 0: nothing is learned, to compare with"
    )
    weight_decay: float = Field(
        default=0.0, ge=0, le=1, description="pull of parameters to zero (AdamW)"
    )
    clip_norm: float = Field(
        default=0.5, ge=0, description="longest gradient of a policy; 0: as long as it is"
    )
    temperature: float = Field(
        default=1.0, ge=0, le=100, description="of its choices; 0: always the likeliest"
    )
    first_spread: float = Field(
        default=0.5, gt=0, le=10, description="of points in a box at first, in half widths of it"
    )
    search: Choice = Field(
        default="greedy",
        description="in a stage of assist: greedy, best_of (by its value head), or look_ahead",
    )
    search_candidates: int = Field(
        default=4, ge=1, le=1024, description="options that a search weighs"
    )
    search_ahead: int = Field(default=2, ge=0, le=64, description="own acts that it looks ahead")
    search_weight: float = Field(
        default=1.0, ge=0, description="of what it expects there, against its log-probability"
    )

    @model_validator(mode="after")
    def _fits(self) -> Learner:
        if self.search != "greedy" and not self.critic:
            message = f"search: {self.search} needs a recipe with a value head, such as ppo"
            raise ParameterError("search", message=message, code="unsupported")
        for name, (setting, holds) in self.only_with.items():
            if not holds and getattr(self, name) != type(self).model_fields[name].default:
                message = f"{name} goes with {setting}, and is in vain without"
                raise ParameterError(name, message=message, code="conflict")
        return self

    @property
    def only_with(self) -> dict[str, tuple[str, bool]]:
        """Parameters that count with a certain setting alone: what it is, and whether it holds."""
        searches, ahead = self.search != "greedy", self.search == "look_ahead"
        return {
            "groups": ("share: group", self.share == "group"),
            "search_candidates": ("search: best_of or look_ahead", searches),
            "search_ahead": ("search: look_ahead", ahead),
            "search_weight": ("search: look_ahead", ahead),
        }

    # --- a player -----------------------------------------------------------------------------

    def start(self, role: Role, phases: tuple[Phase, ...], draws: Draws) -> Memory:
        """Fresh policies, drawn for each replicate.

        Raises:
            UserError: they do not fit into memory; groups do not fit the seats.
        """
        spaces = {phase.name: phase.acts[role.name] for phase in phases if role.name in phase.acts}
        stack = Stack(
            self.network, role.sees.size, spaces, self.critic, self.scores, self.first_spread
        )
        seats = Seats.of(draws, role.count, self.share, self.groups)
        check_room(role.name, seats.policies, stack.size, self.refers, draws.device)
        first = stack.first(draws.take(seats.worlds), seats.each)
        shape, device = seats.shape, draws.device
        carry = torch.zeros(*shape, stack.carry_size, device=device)
        learned = Learned(
            seats,
            Pupil.of(first, self.refers),
            torch.zeros((), dtype=torch.int64),
            Rollout.empty(stack, shape, self.room, carry, device),
            self.extras(stack, seats, draws),
        )
        last = {p: Decision.empty(h, stack.sees, shape, device) for p, h in stack.heads.items()}
        return Memory(Make(self, role, stack), carry, last, pytree.Kept(learned))

    def again(self, memory: Memory, fresh: Callable[[], Memory], over: Tensor) -> Memory:
        """Forget the episode, and nothing else; where another recipe learned before, go on from it.

        Raises:
            UserError: what was learned before is of another make.
        """
        before = memory.make.player
        if before is not self and before != self:
            memory = self._go_on(memory) or self.take_over(memory, fresh())
        memory.learned.rollout.restart(over, self.whole)
        if memory.carry.shape[-1] == 0:
            return memory
        carry = torch.where(over[:, None, None], 0.0, memory.carry)
        return dataclasses.replace(memory, carry=carry)

    def _go_on(self, memory: Memory) -> Memory | None:
        """The memory as this player's own, where it differs in settings of training alone."""
        before = memory.make.player
        alike = type(before) is type(self) and all(
            getattr(before, name) == getattr(self, name) for name in self.lasting
        )
        if not alike:
            return None
        learned, make = memory.learned, Make(self, memory.make.role, memory.make.stack)
        if self.share == "replicate":  # a role that does not change with this one keeps its own
            own = pytree.combine(torch.clone, learned.pupil)
            learned = dataclasses.replace(learned, pupil=own)
        return kept_as(dataclasses.replace(memory, make=make), learned)

    def move_on(self, memory: Memory, role: Role) -> Memory:
        """Drop rounds that were not yet learned from, and count updates anew: another stage's.

        Raises:
            UserError: the role has other seats here, or sees something else.
        """
        check_role(memory, role)
        learned, make = memory.learned, Make(memory.make.player, role, memory.make.stack)
        none = torch.zeros_like(learned.pupil.updates)  # what a training left keeps its own count
        pupil = dataclasses.replace(learned.pupil, updates=none)
        rollout = learned.rollout
        rollout.clear(torch.zeros_like(rollout.carry), whole=False)
        rollout.fresh.fill_(True)
        moved = dataclasses.replace(memory, make=make)
        return kept_as(moved, dataclasses.replace(learned, pupil=pupil))

    def join(self, memory: Memory, other: Memory) -> Memory:
        """With `share: replicate`, have the policies of another role at which this learner sits.

        Raises:
            UserError: the roles differ in what they see or may do.
        """
        if self.share != "replicate":
            return memory
        mine, theirs = memory.make, other.make
        if mine.stack != theirs.stack:
            raise UserError(
                f"share: replicate needs roles that see and do the same: {mine.role.name} and "
                f"{theirs.role.name} do not",
                code="conflict",
                path="share",
            )
        learned = dataclasses.replace(memory.learned, pupil=other.learned.pupil)
        return kept_as(memory, learned)

    def act(
        self,
        phase: Phase,
        seen: Float[Tensor, "world agent size"],
        legal: Tensor | None,
        memory: Memory,
        draws: Draws,
    ) -> Act:
        """Draw from the policies.

        Raises:
            UserError: something else was learned to be done in this phase.
        """
        check_acts(memory, phase)
        return self._decide(phase, seen, legal, memory, draws, self.temperature)

    def assist(
        self,
        phase: Phase,
        seen: Float[Tensor, "world agent size"],
        legal: Tensor | None,
        memory: Memory,
        draws: Draws,
    ) -> Act:
        """Do what `search` says: the likeliest, or what a search finds.

        Raises:
            UserError: something else was learned to be done in this phase.
        """
        check_acts(memory, phase)
        if self.search == "greedy" or not isinstance(phase.acts[memory.make.role.name], Discrete):
            return self._decide(phase, seen, legal, memory, draws, 0.0)
        with torch.no_grad():
            action = searched(self, phase.name, seen, legal, memory, draws)
        return Act(action, memory)

    @torch.no_grad()
    def _decide(
        self,
        phase: Phase,
        seen: Tensor,
        legal: Tensor | None,
        memory: Memory,
        draws: Draws,
        temperature: float,
    ) -> Act:
        stack, seats = memory.make.stack, memory.learned.seats
        parameters, head = memory.learned.pupil.parameters, stack.heads[phase.name]
        raw, value, carry = stack.act(
            parameters, phase.name, seats.by_policy(seen), seats.by_policy(memory.carry)
        )
        raw = seats.by_world(raw)
        log_std = stack.log_std(parameters, phase.name)
        if log_std is not None:
            log_std = seats.by_world(log_std.expand(-1, seats.rows.shape[1], -1))
        noise = draws.normal if isinstance(head.space, Box) else draws.gumbel
        chance = noise("act", raw.shape[1], head.chance)
        acted = head.draw(raw, chance, legal, log_std, temperature)
        said = head.likelihood(raw, acted, legal, log_std)
        held = memory.last[phase.name]
        decision = Decision(
            seen,
            acted,
            said.logp,
            torch.zeros_like(said.logp) if value is None else seats.by_world(value),
            torch.ones_like(held.legal) if legal is None else legal,
        )
        carry = seats.by_world(carry) if carry.shape[-1] else memory.carry
        last = {**memory.last, phase.name: decision}
        return Act(head.to_world(acted), dataclasses.replace(memory, carry=carry, last=last))

    def learned(self, memory: Memory) -> Mapping[str, Tensor]:
        """Parameters by name; whose they are, who stopped, made how many updates, is still."""
        learned = memory.learned
        return {
            **learned.pupil.parameters,
            "replicate": learned.seats.replicate,
            "number": learned.seats.number,
            "stopped": learned.pupil.stopped,
            "updates": learned.pupil.updates,
            "still": torch.full_like(learned.pupil.active, self.still),
        }

    def troubles(self, memory: Memory) -> list[str]:
        """Policies that met a number that is none."""
        learned = memory.learned
        role = memory.make.role.name
        return [
            f"{role}, {learned.seats.name(policy)}: not a number in round "
            f"{int(learned.pupil.stopped[policy])} of its training"
            for policy in (~learned.pupil.active).nonzero()[:, 0].tolist()
        ]

    def briefly(self) -> Learner:
        """One pass where there would be many."""
        return self.model_copy(update={name: 1 for name in self.work if getattr(self, name) > 1})

    @property
    def still(self) -> bool:
        """Where nothing moves its policies."""
        return self.learning_rate == 0

    # --- for recipes ----------------------------------------------------------------------------

    @property
    def refers(self) -> bool:
        """Whether it asks about the policy that training began from."""
        return False

    @property
    def lasting(self) -> tuple[str, ...]:
        """Parameters that cannot change while it goes on: another value begins a new training."""
        return ("network", "share", "groups", "first_spread", "refers", "room")

    @property
    def room(self) -> int:
        """Rounds that there is room for at first, for those who learn as they act."""
        return 1

    @property
    def descent(self) -> Descent:
        """How parameters follow gradients."""
        return Descent(self.adam)

    @functools.cached_property
    def adam(self) -> Adam:
        """The optimiser's settings."""
        return Adam(self.learning_rate, weight_decay=self.weight_decay, clip=self.clip_norm or None)

    def extras(self, stack: Stack, seats: Seats, draws: Draws) -> dict[str, Tensor]:
        """What a recipe keeps beside the policies, by name, `[policy, ...]`."""
        return {}

    def check(self, lesson: Lesson) -> None:
        """Refuse a lesson that does not fit together: before its first step.

        Raises:
            UserError: fields of a batch disagree, or nobody can be asked about a view.
        """
        kind = type(self).__name__
        for phase, batch in lesson.batches.items():
            try:
                batch.checked(values=False)
            except UserError as error:
                message = f"{kind}.lesson, phase {phase}: {error}"
                raise UserError(message, code=error.code, path=error.path) from None
        for view in lesson.objective.views:
            if view not in VIEWS:
                raise UserError(
                    f"{kind}.lesson: no view {view!r}{did_you_mean(view, VIEWS)}",
                    code="unknown_name",
                    path="on",
                )

    def take_over(self, memory: Memory, fresh: Memory) -> Memory:
        """Memory of this recipe with what another one learned: its policies begin from there.

        Raises:
            UserError: the policies are of another make.
        """
        before, new = memory.learned, fresh.learned
        pupil, theirs = new.pupil, before.pupil.parameters
        # Heads may come and go: a value head, that of a phase. What is made of a sight may not.
        body = {name for name in (*pupil.parameters, *theirs) if name.startswith("policy.")}
        heads = (pupil.parameters.keys() & theirs.keys()) - body
        for name in (*sorted(body), *sorted(heads)):
            was, here = theirs.get(name), pupil.parameters.get(name)
            if was is None or here is None or was.shape != here.shape:
                raise UserError(
                    f"{memory.make.role.name} cannot go on from what was learned before: {name} "
                    f"was {_shape(was)}, and is {_shape(here)} here (policies first): stages of "
                    "learners need the same network and share",
                    code="incompatible",
                    path=f"players.{memory.make.role.name}",
                )
            here.copy_(was)
        was, here = memory.make.stack.body, fresh.make.stack.body
        if was != here:
            raise UserError(
                f"{memory.make.role.name} cannot go on from what was learned before: its network "
                f"was {was!r}, and is {here!r} here",
                code="incompatible",
                path=f"players.{memory.make.role.name}",
            )
        pupil.reference.update(copied(pupil.parameters))
        pupil.active.copy_(before.pupil.active)
        pupil.stopped.copy_(before.pupil.stopped)
        new.rounds.copy_(before.rounds)
        return fresh


def _shape(tensor: Tensor | None) -> str:
    return "not there" if tensor is None else str(list(tensor.shape))


def kept_as(memory: Memory, learned: Learned) -> Memory:
    """The memory with something else learned."""
    return dataclasses.replace(memory, kept=pytree.Kept(learned))

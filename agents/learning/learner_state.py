"""What a learner keeps: what it did just now, what it remembers, and what it learned.

The first two lead with the world and end with the episode. What was learned belongs to policies,
outlives episodes and stages, and is changed in place: a table has one owner.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from jaxtyping import Float, Int
from torch import Tensor

from mores.agents.learning.model_mapping import ModelMapping
from mores.agents.learning.rollout_buffer import Decision, RolloutBuffer
from mores.agents.learning.stacked_model import StackedModel
from mores.agents.learning.train_state import TrainState
from mores.core import pytree
from mores.core.environment import Box, Discrete, MultiDiscrete, Phase, Role, Space
from mores.core.errors import UserError

if TYPE_CHECKING:
    from mores.agents.learning.learner import Learner


@dataclasses.dataclass(frozen=True)
class PersistentState:
    """What the policies of a stack have learned.

    Attributes:
        mapping: whose seat is whose.
        train_state: the policies.
        num_rounds: how many rounds they have learned from, or passes over a record.
        rollout: what was done since the last update.
        extra: what a recipe keeps beside, by name, `[policy, ...]`.
    """

    mapping: ModelMapping
    train_state: TrainState
    num_rounds: Int[Tensor, ""]
    rollout: RolloutBuffer
    extra: dict[str, Tensor]


class PolicySpec:
    """Whose memory it is, and of what make its policies are: no numbers, nothing that changes."""

    __slots__ = ("learner", "role", "stacked_model")

    def __init__(self, learner: Learner, role: Role, stacked_model: StackedModel) -> None:
        self.learner, self.role, self.stacked_model = learner, role, stacked_model


@dataclasses.dataclass(frozen=True)
class LearnerState:
    """What a learner keeps at the seats of a role.

    Attributes:
        spec: whose it is.
        recurrent_state: what policies remember of the episode.
        last_decisions: what was done in each phase of the round.
        persistent: what was learned, a `PersistentState`.
    """

    spec: PolicySpec
    recurrent_state: Float[Tensor, "world agent memory"]
    last_decisions: Mapping[str, Decision]
    persistent: pytree.Persistent

    @property
    def persistent_state(self) -> PersistentState:
        """What was learned."""
        return self.persistent.value


def check_role(state: LearnerState, role: Role) -> None:
    """See that policies go on at seats like those that they were made for.

    Raises:
        UserError: another stage has other seats, or shows them something else.
    """
    seats, saw = state.persistent_state.mapping.shape[1], state.spec.role.observation_space
    if role.num_agents != seats:
        raise UserError(
            f"{role.name} had {seats} seats when its learner began, and has {role.num_agents} here: "
            "stages of a learner have as many",
            code="incompatible",
            path=f"players.{role.name}",
        )
    if role.observation_space.size != saw.size:
        raise UserError(
            f"{role.name} learned to see {saw.size} numbers, and sees {role.observation_space.size} here: "
            "stages of a learner show it the same",
            code="incompatible",
            path=f"players.{role.name}",
        )
    if (then := _observation_text(saw)) != (now := _observation_text(role.observation_space)):
        raise UserError(
            f"{role.name} learned to see {then}, and sees {now} here: stages of a learner show it "
            "the same",
            code="incompatible",
            path=f"players.{role.name}",
        )


def check_action_space(state: LearnerState, phase: Phase) -> None:
    """See that policies are asked for what they learned to do.

    Raises:
        UserError: another stage asks for other acts.
    """
    role = state.spec.role.name
    head, space = (
        state.spec.stacked_model.action_distributions.get(phase.name),
        phase.action_spaces[role],
    )
    if head is None or (head.space is not space and head.space != space):
        learned = "nothing" if head is None else _action_space_text(head.space)
        raise UserError(
            f"{role} learned to choose {learned} in phase {phase.name!r}, and chooses "
            f"{_action_space_text(space)} here: stages of a learner let it do the same",
            code="incompatible",
            path=f"players.{role}",
        )


def _observation_text(observation_space: Box) -> str:
    """What is seen, in order, and how many numbers of it."""
    return ", ".join(f"{name} ({part.size})" for name, part in observation_space.parts.items())


def _action_space_text(space: Space) -> str:
    """What may be done, in words."""
    if isinstance(space, Discrete):
        return f"one of {space.num_options}"
    if isinstance(space, MultiDiscrete):
        return f"one of each of {list(space.num_options)}"
    parts = (f"{n} [{part.low:g}, {part.high:g}]" for n, part in space.parts.items())
    return f"{space.size} numbers, {', '.join(parts)}"

"""State of a learner: last decisions, recurrent states, and the persistent part.

Decisions and recurrent states have the world as first dimension and end with the episode. The
persistent part belongs to models, outlives episodes and stages, and is changed in place: it has one
owner, the simulator that holds it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from jaxtyping import Float, Int
from torch import Tensor

from mores.agents.learning.model_mapping import ModelMapping
from mores.agents.learning.model_stack import ModelStack
from mores.agents.learning.rollout_buffer import Decision, RolloutBuffer
from mores.agents.learning.train_state import TrainState
from mores.agents.learning.update_statistics import UpdateStatistics
from mores.core import pytree
from mores.core.environment import Phase, Role
from mores.core.errors import UserError
from mores.core.policy import Policy
from mores.core.spaces import Box, Discrete, MultiDiscrete, Space


@dataclasses.dataclass
class PersistentState:
    """Part of a learner's state that outlives episodes and stages. It is changed in place.

    Attributes:
        mapping: model of each agent.
        train_state: parameters and optimizer state of the models.
        num_rounds: rounds of training so far; offline: passes over a dataset.
        rollout: transitions since the last update.
        extra: additional tensors of a recipe, by name, `[model, ...]`.
        statistics: of the latest updates, for training curves; not saved.
    """

    mapping: ModelMapping
    train_state: TrainState
    num_rounds: Int[Tensor, ""]
    rollout: RolloutBuffer
    extra: dict[str, Tensor]
    statistics: UpdateStatistics = dataclasses.field(
        default_factory=UpdateStatistics, compare=False, repr=False
    )


class PolicySpec:
    """Learner, role and model architecture of a state: static, without tensors."""

    def __init__(self, learner: Policy, role: Role, stacked_model: ModelStack) -> None:
        self.learner, self.role, self.stacked_model = learner, role, stacked_model


@dataclasses.dataclass(frozen=True)
class LearnerState:
    """State of a learner for the agents of a role.

    Attributes:
        spec: learner, role and model architecture.
        recurrent_state: recurrent state of the current episode.
        last_decisions: decisions of the current round, by phase.
        persistent: a `PersistentState`.
    """

    spec: PolicySpec
    recurrent_state: Float[Tensor, "world agent recurrent"]
    last_decisions: Mapping[str, Decision]
    persistent: pytree.Persistent

    @property
    def persistent_state(self) -> PersistentState:
        """The persistent part."""
        return self.persistent.value


def check_role(state: LearnerState, role: Role) -> None:
    """Check that a role has the agents and observations that the models were made for.

    Raises:
        UserError: the number of agents or the observation space differs.
    """
    num_agents, trained = state.persistent_state.mapping.shape[1], state.spec.role.observation_space
    if role.num_agents != num_agents:
        raise UserError(
            f"{role.name}: the learner began with {num_agents} agents, this stage has "
            f"{role.num_agents}; all stages of a learner need the same number",
            code="incompatible",
            path=f"policies.{role.name}",
        )
    if role.observation_space.size != trained.size:
        raise UserError(
            f"{role.name}: the models observe {trained.size} numbers, this environment has "
            f"{role.observation_space.size}; a learner needs the same observation everywhere",
            code="incompatible",
            path=f"policies.{role.name}",
        )
    expected, given = _observation_text(trained), _observation_text(role.observation_space)
    if expected != given:
        raise UserError(
            f"{role.name}: the models observe {expected}; this environment has {given}; a "
            "learner needs the same observation everywhere",
            code="incompatible",
            path=f"policies.{role.name}",
        )


def check_action_space(state: LearnerState, phase: Phase) -> None:
    """Check that the models have an action distribution for the action space of a phase.

    Raises:
        UserError: the action space differs from that of training.
    """
    role = state.spec.role.name
    distribution = state.spec.stacked_model.action_distributions.get(phase.name)
    space = phase.action_spaces[role]
    if distribution is None or (distribution.space is not space and distribution.space != space):
        trained = "nothing" if distribution is None else _action_space_text(distribution.space)
        raise UserError(
            f"{role}: the models choose {trained} in phase {phase.name!r}, this stage asks for "
            f"{_action_space_text(space)}; all stages of a learner need the same actions",
            code="incompatible",
            path=f"policies.{role}",
        )


def _observation_text(observation_space: Box) -> str:
    """Names and sizes of the parts of an observation, in order."""
    return ", ".join(f"{name} ({part.size})" for name, part in observation_space.parts.items())


def _action_space_text(space: Space) -> str:
    """Action space as text of a message."""
    if isinstance(space, Discrete):
        return f"one of {space.num_options}"
    if isinstance(space, MultiDiscrete):
        return f"one of each of {list(space.num_options)}"
    parts = (f"{n} [{part.low:g}, {part.high:g}]" for n, part in space.parts.items())
    return f"{space.size} numbers, {', '.join(parts)}"

"""How policies were trained: what a continued training and an evaluation need to know."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from mores.core.environment import Environment
from mores.core.metric import Metric
from mores.core.people import Population
from mores.core.policy import Policy
from mores.core.random_streams import Worlds
from mores.experiments.results.pytree_serialization import (
    SerializationError,
    deserialize,
    serialize,
    structurally_equal,
)
from mores.sim.simulator import Simulator

TRAINING_STAGE, TEST_STAGE = 0, 1  # stage indices, so that their random streams differ
_MARK = "trained before"  # key in the `__dict__` of copies of policies that trained


@dataclasses.dataclass(frozen=True)
class TrainingSetup:
    """How policies were trained.

    Attributes:
        environment: the environment.
        policies: by role, with their parameters but not with what they learned.
        worlds: the worlds.
        rounds: of an episode.
        seed: of all random numbers.
        population: source of the people; `None`: the environment.
        device: device of all tensors.
        learning_roles: roles whose policies trained.
        requested_roles: roles whose policies the caller named.
        trained_roles: roles whose policies trained, or share parameters with one that did.
        num_episodes: number of episodes so far, with those of trainings that it continued.
        metrics: metrics of its curves, by name; None: the environment's own.
    """

    environment: Environment[Any]
    policies: Mapping[str, Policy]
    worlds: Worlds
    rounds: int
    seed: int
    population: Population | None
    device: torch.device
    learning_roles: frozenset[str]
    requested_roles: frozenset[str]
    trained_roles: frozenset[str]
    num_episodes: int
    metrics: Mapping[str, Metric | None]

    def continues(self, simulator: Simulator, seed: int) -> bool:
        """Whether a training with a simulator is a later part of the same training."""
        others = (
            simulator.environment, simulator.policies, simulator.worlds, simulator.rounds,
            simulator.population, simulator.device, frozenset(simulator.learning_roles), seed,
        )  # fmt: skip
        own = (
            self.environment, dict(self.policies), self.worlds, self.rounds,
            self.population, self.device, self.learning_roles, self.seed,
        )  # fmt: skip
        return structurally_equal(own, others)

    def initial_policy_states(self) -> dict[str, Any]:
        """The policy states before training."""
        simulator = Simulator(
            self.environment,
            self.policies,
            worlds=self.worlds,
            rounds=self.rounds,
            population=self.population,
            stage=TRAINING_STAGE,
            device=self.device,
        )
        simulator.reset(self.seed)
        return dict(simulator.policy_states)

    def copy_states(self, policy_states: Mapping[str, Any]) -> dict[str, Any]:
        """A copy of the policy states, which a simulation that goes on with them changes in place.

        Copied as a file is read: tensors that share memory share it again, with equal strides.
        """
        template = self.initial_policy_states()
        try:
            return deserialize(template, serialize(dict(policy_states), template))
        except SerializationError:  # a state of a user's policy with other objects
            return copy.deepcopy(dict(policy_states))


def as_trained(policy: Policy) -> Policy:
    """A copy of a policy by which `is_trained` recognizes that it trained. The copy is equal."""
    marked = policy.model_copy()
    vars(marked)[_MARK] = True
    return marked


def is_trained(policy: object) -> bool:
    """Whether a policy, or one in its parameters, is a copy of `as_trained`."""
    if not isinstance(policy, Policy):
        return False
    if _MARK in vars(policy):
        return True
    values = (getattr(policy, name) for name in type(policy).model_fields)
    return any(is_trained(each) for v in values for each in (v if isinstance(v, tuple) else (v,)))

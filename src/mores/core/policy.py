"""Policies: decision rules for the agents of a role. `mores.core.learner`: those that train."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from jaxtyping import Bool, Float
from torch import Tensor

from mores.core import pytree
from mores.core.config import Config
from mores.core.environment import Phase, Role
from mores.core.errors import UserError
from mores.core.random_streams import RandomStreams
from mores.core.turn_text import is_message_space


@dataclasses.dataclass(frozen=True)
class ActionOutput:
    """Decision of a policy.

    Attributes:
        action: `[world, agent]` for a discrete space, else `[world, agent, size]`.
        state: next policy state.
        extra: quantities known only to the policy, such as log-probabilities or flipped answers,
            for wrapping policies and analyses; learners do not get them.
    """

    action: Tensor
    state: Any = None
    extra: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)


class Policy(Config, ABC):
    """Decision rule for all agents of a role in all worlds.

    A fixed rule, a response model of people, learned networks or a language model. A policy state
    consists of tensors whose first dimension is the world and of `pytree.Persistent` parts that do
    not. Beliefs end with the episode, learned parameters do not: `on_episode_start` decides.

    Attributes:
        tags: properties for `mores list --where`.
        searches: whether `act` takes its argument `search` into account.
        skips_finished: whether `act` takes an argument `finished`, `[world]` or `None`: worlds
            whose actions are not used, so that no model is asked there.
        keeps_state: whether the state goes on from stage to stage; otherwise a stage begins with a
            new one.
        state_kind: policies of a role that keep their states continue from each other's if this
            name is the same; empty: the name of the class.
        draws_from_global_state: whether it may draw from torch's, numpy's and Python's own
            generators, as the trainers of Hugging Face do; then no seed determines its numbers.
    """

    tags: ClassVar[Mapping[str, object]] = {}
    searches: ClassVar[bool] = False
    skips_finished: ClassVar[bool] = False
    keeps_state: ClassVar[bool] = False
    state_kind: ClassVar[str] = ""
    draws_from_global_state: ClassVar[bool] = False

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Any:
        """State at the start of the first episode, for `streams.num_worlds` worlds."""
        return None

    @abstractmethod
    def act(
        self,
        phase: Phase,
        observation: Float[Tensor, "world agent size"],
        action_mask: Bool[Tensor, "world agent option"] | None,
        state: Any,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        """Actions in a phase.

        Args:
            phase: the phase.
            observation: of every agent.
            action_mask: legal options; `None`: all.
            state: policy state.
            streams: random numbers of this phase.
            search: decide with lookahead, best-of-n or without exploration. Passed only to policies
                with `searches`; others may leave the parameter out.
        """

    def expected_action(
        self,
        phase: Phase,
        observation: Float[Tensor, "world agent query size"],
        action_mask: Bool[Tensor, "world agent query option"] | None,
        state: Any,
        search: bool = False,
    ) -> Float[Tensor, "world agent query option"]:
        """Expected action on given observations. Nothing is drawn, and no state changes.

        Args:
            phase: the phase.
            observation: one or several observations for each agent.
            action_mask: legal options; `None`: all.
            state: policy state.
            search: as in `act`.

        Returns:
            For a `Discrete` space the probability of each option, for a `MultiDiscrete` one those
            of each choice, one choice after the other; for a `Box` the mean action.

        Raises:
            UserError: the policy has no such method, or its action depends on earlier observations.
        """
        raise UserError(
            f"{type(self).__name__} cannot be evaluated on given observations: it has no "
            "expected_action",
            code="unsupported",
            path="policies",
        )

    def hidden_features(
        self, phase: Phase, observation: Float[Tensor, "world agent query size"], state: Any
    ) -> Float[Tensor, "world agent query feature"] | None:
        """Features that the policy computes of given observations, before its last layer.

        Nothing is drawn, and no state changes. Default: `None`, there are none.

        Args:
            phase: the phase.
            observation: one or several observations for each agent.
            state: policy state.
        """
        return None

    @property
    def couples_arms(self) -> bool:
        """Whether its draws are those of `streams`, which all arms of an experiment share."""
        return True

    def identity(self) -> Mapping[str, str]:
        """What determines its numbers besides parameters and code: digests of files, by name.

        They are part of the digest of a cell: a run is not resumed with other files.

        Raises:
            UserError: a file is missing.
        """
        return {}

    def check_version(self) -> Policy:
        """The policy, or a cheap one with the same interface, for checks before a run.

        Checks simulate first rounds, several times: they must load no large model and call no
        server.
        """
        return self

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of the quantities that `metrics` returns. Runs record them as `ROLE.NAME`."""
        return ()

    def metrics(self, state: Any) -> Mapping[str, Float[Tensor, " world"]]:
        """Quantities of the policy in each world since the episode began, by `metric_names`.

        Such as numbers of requests and of replies without an action. Nothing is drawn.
        """
        return {}

    def on_episode_start(
        self, state: Any, initial: Callable[[], Any], reset_mask: Bool[Tensor, " world"]
    ) -> Any:
        """State after the worlds in `reset_mask` were reset.

        Default: `initial()` in those worlds; with `keeps_state` the state unchanged. Also called at
        the start of a stage, with the state from the stage before. `initial()` computes
        `initial_state` for the reset worlds only; a policy that does not need it does not call it.
        """
        if self.keeps_state:
            return state
        return pytree.scatter(state, initial(), reset_mask)

    def on_stage_start(self, state: Any, role: Role) -> Any:
        """State carried into the next stage, at this role. Called before `on_episode_start`.

        Experience without an update yet may be dropped. In another environment `role` may differ
        from the role given to `initial_state`.
        """
        return state


def state_kind(policy: Policy) -> str:
    """Name of the kind of state that a policy has: see `Policy.state_kind`."""
    policy_class = type(policy)
    return policy.state_kind or f"{policy_class.__module__}.{policy_class.__qualname__}"


def require_observation_parts(policy_name: str, role: Role, *parts: str) -> None:
    """Check that a role observes the parts that a policy reads.

    Raises:
        UserError: a part is missing.
    """
    for part in parts:
        if part not in role.observation_space.parts:
            raise UserError(
                f"{policy_name} reads {part!r}, which is not in the observation of {role.name}",
                code="unsupported",
                path=f"policies.{role.name}",
            )


def require_message_actions(policy_name: str, role: Role, phases: tuple[Phase, ...]) -> None:
    """Check that the actions of a role are messages.

    Raises:
        UserError: they are not.
    """
    spaces = [p.action_spaces[role.name] for p in phases if role.name in p.action_spaces]
    if not all(map(is_message_space, spaces)):
        raise UserError(
            f"{policy_name} writes messages; the actions of {role.name} are none",
            code="unsupported",
            path=f"policies.{role.name}",
        )


def draws_from_global_state(policy: Policy) -> bool:
    """Whether a policy, or one in its parameters, may draw from generators of the process."""
    if policy.draws_from_global_state:
        return True
    values = (getattr(policy, name) for name in type(policy).model_fields)
    nested = (each for v in values for each in (v if isinstance(v, tuple) else (v,)))
    return any(draws_from_global_state(each) for each in nested if isinstance(each, Policy))

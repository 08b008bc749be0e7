"""Policies: decision rules for the agents of a role, with and without training."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from jaxtyping import Bool, Float
from torch import Tensor

from mores.core import pytree
from mores.core.config import Config
from mores.core.environment import Phase, Role, Transition
from mores.core.errors import UserError
from mores.core.random_streams import RandomStreams

Capability = Literal[
    "update", "fit_offline", "act_with_search", "on_episode_start", "share_parameters"
]


@dataclasses.dataclass(frozen=True)
class ActionOutput:
    """Decision of a policy.

    Attributes:
        action: `[world, agent]` for a discrete space, else `[world, agent, size]`.
        state: next policy state.
        extra: quantities that a wrapping policy needs, such as log-probabilities.
    """

    action: Tensor
    state: Any = None
    extra: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)


class Policy(Config, ABC):
    """Decision rule for all agents of a role in all worlds.

    A fixed rule, a response model of people, learned networks or a language model. A policy state
    consists of tensors that lead with the world dimension and of `pytree.Persistent` parts that do
    not. Beliefs end with the episode, learned parameters do not: `on_episode_start` decides.
    """

    tags: ClassVar[Mapping[str, object]] = {}

    def supports(self, capability: Capability) -> bool:
        """Whether the policy overrides that method: without `update` it does not train online.

        `on_episode_start`: parts of the state outlive an episode. A policy that delegates to
        others answers for them.
        """
        return getattr(type(self), capability) is not getattr(Policy, capability)

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
    ) -> ActionOutput:
        """Actions in a phase. `action_mask`: legal options; `None`: all."""

    def on_episode_start(
        self, state: Any, initial: Callable[[], Any], reset_mask: Bool[Tensor, " world"]
    ) -> Any:
        """State after the worlds in `reset_mask` were reset. Default: `initial()` in those worlds.

        Also called at the start of a stage, with the state from the stage before. `initial()`
        computes `initial_state` for the reset worlds only; a policy that does not need it does not
        call it.
        """
        return initial() if bool(reset_mask.all()) else pytree.scatter(state, initial(), reset_mask)

    def on_stage_start(self, state: Any, role: Role) -> Any:
        """State carried into the next stage, at this role. Called before `on_episode_start`.

        Experience without an update yet may be dropped. In another environment `role` may differ
        from the role given to `initial_state`.
        """
        return state

    def share_parameters(self, state: Any, other_state: Any) -> Any:
        """State that shares its parameters with `other_state`, of an equal policy at another role.

        Called before the first round, if the policy overrides it and acts for several roles.
        """
        return state

    def update(self, state: Any, transition: Transition, streams: RandomStreams) -> Any:
        """State after one round of experience. Called only if the policy overrides it."""
        return state

    def act_with_search(
        self,
        phase: Phase,
        observation: Float[Tensor, "world agent size"],
        action_mask: Bool[Tensor, "world agent option"] | None,
        state: Any,
        streams: RandomStreams,
    ) -> ActionOutput:
        """Actions with lookahead or best-of-n, if the policy supports it. Default: `act`."""
        return self.act(phase, observation, action_mask, state, streams)

    def fit_offline(self, state: Any, dataset: Any, streams: RandomStreams) -> Any:
        """State after one pass over a `mores.core.episode_dataset.EpisodeDataset`."""
        return state

    def state_dict(self, state: Any) -> Mapping[str, Tensor]:
        """Learned parameters by name, each leading with the model dimension, for checkpoints.

        Three reserved names are counters, all `[model]`. `num_updates` (integer) counts the updates
        since the stage began; a claim about learning does not rest on models with 0. Models with
        `stopped_at` >= 0 (integer) had to stop, models with `frozen` (bool) are not to train:
        both may have 0 updates.
        """
        return {}

    @property
    def parameter_keys(self) -> frozenset[str]:
        """Keys under which the policy's parameters are stored. Empty if it does not train."""
        able = (self.supports("update") or self.supports("fit_offline")) and not self.frozen
        return frozenset([""]) if able else frozenset()

    def dry_run_version(self) -> Policy:
        """The same policy with the least work that shows whether it can train, for a dry run."""
        return self

    @property
    def frozen(self) -> bool:
        """Whether it does not train although it could, as a baseline."""
        return False

    def no_update_reason(self, state: Any, member_name: str = "") -> str:
        """Condition for a first update that was not met. Read only where no update happened.

        `member_name`: one of several policies of a role, the name before `/` in `state_dict`.
        """
        return ""

    def never_updates_reason(self, role: Role, rounds: int, worlds: int) -> str:
        """Reason why no online update can happen in so many rounds and worlds. Empty: none."""
        return ""

    def stop_reasons(self, state: Any) -> list[str]:
        """Models that stopped training, one line each: model, time and reason."""
        return []

    def latent(self, state: Any) -> Mapping[str, Tensor]:
        """Quantities known only to this policy (a flipped answer), for metrics, never learners."""
        return {}


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

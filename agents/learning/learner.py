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

from mores.agents.learning.action_search import SearchKind, search_actions
from mores.agents.learning.adam import Adam
from mores.agents.learning.learner_state import (
    LearnerState,
    PersistentState,
    PolicySpec,
    check_action_space,
    check_role,
)
from mores.agents.learning.memory_check import check_memory
from mores.agents.learning.model_mapping import ModelMapping, ParameterSharing
from mores.agents.learning.networks import GRU, MLP, Transformer
from mores.agents.learning.objective import VIEWS
from mores.agents.learning.rollout_buffer import Decision, RolloutBuffer
from mores.agents.learning.stacked_model import StackedModel
from mores.agents.learning.train_state import OptimizerConfig, TrainState, copy_parameters
from mores.core import pytree
from mores.core.environment import ActionOutput, Box, Discrete, Phase, Policy, Role
from mores.core.errors import ParameterError, UserError, did_you_mean
from mores.core.random_streams import RandomStreams

if TYPE_CHECKING:
    from mores.agents.learning.update import UpdateBatch

Network = Annotated[MLP | GRU | Transformer, Field(discriminator="kind")]


class Learner(Policy):
    """Policies that learn; recipes say from what, and by which objective."""

    tags: ClassVar[Mapping[str, object]] = {"learns": True, "stochastic": True}
    has_critic: ClassVar[bool] = False  # has a value head
    num_score_heads: ClassVar[int] = 0  # heads that score whole answers
    episodic: ClassVar[bool] = False  # learns as it acts, and from whole episodes only
    epoch_fields: ClassVar[
        tuple[str, ...]
    ] = ()  # parameters that say how often it goes over a lesson

    network: Network = Field(default=MLP(), description="what is made of a sight")
    parameter_sharing: ParameterSharing = Field(
        default="role",
        description="who shares a policy: the seats of a role, those of a group, or nobody "
        "(agent: each seat has its own); replicate: all roles at which this learner sits",
    )
    agent_groups: list[Annotated[int, Field(ge=0)]] | None = Field(
        default=None, description="share: group: the group of each seat"
    )
    learning_rate: float = Field(
        default=0.003, ge=0, le=1, description="of Adam; 0: nothing is learned, to compare with"
    )
    weight_decay: float = Field(
        default=0.0, ge=0, le=1, description="pull of parameters to zero (AdamW)"
    )
    max_grad_norm: float = Field(
        default=0.5, ge=0, description="longest gradient of a policy; 0: as long as it is"
    )
    temperature: float = Field(
        default=1.0, ge=0, le=100, description="of its choices; 0: always the likeliest"
    )
    init_std: float = Field(
        default=0.5, gt=0, le=10, description="of points in a box at first, in half widths of it"
    )
    search: SearchKind = Field(
        default="greedy",
        description="in a stage of assist: greedy, best_of (by its value head), or look_ahead",
    )
    search_num_candidates: int = Field(
        default=4, ge=1, le=1024, description="options that a search weighs"
    )
    search_depth: int = Field(default=2, ge=0, le=64, description="own acts that it looks ahead")
    search_weight: float = Field(
        default=1.0, ge=0, description="of what it expects there, against its log-probability"
    )

    @model_validator(mode="after")
    def _check_fields(self) -> Learner:
        if self.search != "greedy" and not self.has_critic:
            message = f"search: {self.search} needs a recipe with a value head, such as ppo"
            raise ParameterError("search", message=message, code="unsupported")
        for name, (setting, holds) in self.conditional_fields.items():
            if not holds and getattr(self, name) != type(self).model_fields[name].default:
                message = f"{name} goes with {setting}, and is in vain without"
                raise ParameterError(name, message=message, code="conflict")
        return self

    @property
    def conditional_fields(self) -> dict[str, tuple[str, bool]]:
        """Parameters that count with a certain setting alone: what it is, and whether it holds."""
        searches, ahead = self.search != "greedy", self.search == "lookahead"
        return {
            "agent_groups": ("share: group", self.parameter_sharing == "group"),
            "search_num_candidates": ("search: best_of or look_ahead", searches),
            "search_depth": ("search: look_ahead", ahead),
            "search_weight": ("search: look_ahead", ahead),
        }

    # --- a player -----------------------------------------------------------------------------

    def initial_state(
        self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams
    ) -> LearnerState:
        """Fresh policies, drawn for each replicate.

        Raises:
            UserError: they do not fit into memory; groups do not fit the seats.
        """
        spaces = {
            phase.name: phase.action_spaces[role.name]
            for phase in phases
            if role.name in phase.action_spaces
        }
        stack = StackedModel(
            self.network,
            role.observation_space.size,
            spaces,
            self.has_critic,
            self.num_score_heads,
            self.init_std,
        )
        seats = ModelMapping.from_sharing(
            streams, role.num_agents, self.parameter_sharing, self.agent_groups
        )
        check_memory(
            role.name,
            seats.num_models,
            stack.num_parameters,
            self.uses_reference_model,
            streams.device,
        )
        first = stack.init_parameters(streams.take(seats.first_world), seats.models_per_replicate)
        shape, device = seats.shape, streams.device
        carry = torch.zeros(*shape, stack.recurrent_state_size, device=device)
        learned = PersistentState(
            seats,
            TrainState.create(first, self.uses_reference_model),
            torch.zeros((), dtype=torch.int64),
            RolloutBuffer.empty(stack, shape, self.initial_capacity, carry, device),
            self.extra_state(stack, seats, streams),
        )
        last = {
            p: Decision.empty(h, stack.observation_size, shape, device)
            for p, h in stack.action_distributions.items()
        }
        return LearnerState(PolicySpec(self, role, stack), carry, last, pytree.Persistent(learned))

    def on_episode_start(
        self, state: LearnerState, initial: Callable[[], LearnerState], reset_mask: Tensor
    ) -> LearnerState:
        """Forget the episode, and nothing else; where another recipe learned before, go on from it.

        Raises:
            UserError: what was learned before is of another make.
        """
        before = state.spec.learner
        if before is not self and before != self:
            state = self._continue_state(state) or self.warm_start(state, initial())
        state.persistent_state.rollout.start_episodes(reset_mask, self.episodic)
        if state.recurrent_state.shape[-1] == 0:
            return state
        carry = torch.where(reset_mask[:, None, None], 0.0, state.recurrent_state)
        return dataclasses.replace(state, recurrent_state=carry)

    def _continue_state(self, state: LearnerState) -> LearnerState | None:
        """The memory as this player's own, where it differs in settings of training alone."""
        before = state.spec.learner
        alike = type(before) is type(self) and all(
            getattr(before, name) == getattr(self, name) for name in self.fixed_fields
        )
        if not alike:
            return None
        learned, make = (
            state.persistent_state,
            PolicySpec(self, state.spec.role, state.spec.stacked_model),
        )
        if (
            self.parameter_sharing == "replicate"
        ):  # a role that does not change with this one keeps its own
            own = pytree.tree_map(torch.clone, learned.train_state)
            learned = dataclasses.replace(learned, train_state=own)
        return with_persistent_state(dataclasses.replace(state, spec=make), learned)

    def on_stage_start(self, state: LearnerState, role: Role) -> LearnerState:
        """Drop rounds that were not yet learned from, and count updates anew: another stage's.

        Raises:
            UserError: the role has other seats here, or sees something else.
        """
        check_role(state, role)
        learned, make = (
            state.persistent_state,
            PolicySpec(state.spec.learner, role, state.spec.stacked_model),
        )
        none = torch.zeros_like(
            learned.train_state.updates
        )  # what a training left keeps its own count
        pupil = dataclasses.replace(learned.train_state, updates=none)
        rollout = learned.rollout
        rollout.clear(torch.zeros_like(rollout.recurrent_state), episodic=False)
        rollout.next_episode_start.fill_(True)
        moved = dataclasses.replace(state, spec=make)
        return with_persistent_state(moved, dataclasses.replace(learned, train_state=pupil))

    def share_parameters(self, state: LearnerState, other_state: LearnerState) -> LearnerState:
        """With `share: replicate`, have the policies of another role at which this learner sits.

        Raises:
            UserError: the roles differ in what they see or may do.
        """
        if self.parameter_sharing != "replicate":
            return state
        mine, theirs = state.spec, other_state.spec
        if mine.stacked_model != theirs.stacked_model:
            raise UserError(
                f"share: replicate needs roles that see and do the same: {mine.role.name} and "
                f"{theirs.role.name} do not",
                code="conflict",
                path="parameter_sharing",
            )
        learned = dataclasses.replace(
            state.persistent_state, train_state=other_state.persistent_state.train_state
        )
        return with_persistent_state(state, learned)

    def act(
        self,
        phase: Phase,
        observation: Float[Tensor, "world agent size"],
        action_mask: Tensor | None,
        state: LearnerState,
        streams: RandomStreams,
    ) -> ActionOutput:
        """Draw from the policies.

        Raises:
            UserError: something else was learned to be done in this phase.
        """
        check_action_space(state, phase)
        return self._sample_actions(
            phase, observation, action_mask, state, streams, self.temperature
        )

    def act_with_search(
        self,
        phase: Phase,
        observation: Float[Tensor, "world agent size"],
        action_mask: Tensor | None,
        state: LearnerState,
        streams: RandomStreams,
    ) -> ActionOutput:
        """Do what `search` says: the likeliest, or what a search finds.

        Raises:
            UserError: something else was learned to be done in this phase.
        """
        check_action_space(state, phase)
        if self.search == "greedy" or not isinstance(
            phase.action_spaces[state.spec.role.name], Discrete
        ):
            return self._sample_actions(phase, observation, action_mask, state, streams, 0.0)
        with torch.no_grad():
            action = search_actions(self, phase.name, observation, action_mask, state, streams)
        return ActionOutput(action, state)

    @torch.no_grad()
    def _sample_actions(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: LearnerState,
        streams: RandomStreams,
        temperature: float,
    ) -> ActionOutput:
        stack, seats = state.spec.stacked_model, state.persistent_state.mapping
        parameters, head = (
            state.persistent_state.train_state.parameters,
            stack.action_distributions[phase.name],
        )
        raw, value, carry = stack.forward_step(
            parameters,
            phase.name,
            seats.by_model(observation),
            seats.by_model(state.recurrent_state),
        )
        raw = seats.by_world(raw)
        log_std = stack.log_std(parameters, phase.name)
        if log_std is not None:
            log_std = seats.by_world(log_std.expand(-1, seats.agent_rows.shape[1], -1))
        noise = streams.normal if isinstance(head.space, Box) else streams.gumbel
        chance = noise("act", raw.shape[1], head.noise_size)
        acted = head.sample(raw, chance, action_mask, log_std, temperature)
        said = head.log_probs(raw, acted, action_mask, log_std)
        held = state.last_decisions[phase.name]
        decision = Decision(
            observation,
            acted,
            said.logp,
            torch.zeros_like(said.logp) if value is None else seats.by_world(value),
            torch.ones_like(held.action_mask) if action_mask is None else action_mask,
        )
        carry = seats.by_world(carry) if carry.shape[-1] else state.recurrent_state
        last = {**state.last_decisions, phase.name: decision}
        return ActionOutput(
            head.unscale_action(acted),
            dataclasses.replace(state, recurrent_state=carry, last_decisions=last),
        )

    def state_dict(self, state: LearnerState) -> Mapping[str, Tensor]:
        """Parameters by name; whose they are, who stopped, made how many updates, is still."""
        learned = state.persistent_state
        return {
            **learned.train_state.parameters,
            "replicate": learned.mapping.replicate,
            "model_number": learned.mapping.model_number,
            "stopped_at": learned.train_state.stopped_round,
            "num_updates": learned.train_state.updates,
            "frozen": torch.full_like(learned.train_state.active, self.frozen),
        }

    def stop_reasons(self, state: LearnerState) -> list[str]:
        """Policies that met a number that is none."""
        learned = state.persistent_state
        role = state.spec.role.name
        return [
            f"{role}, {learned.mapping.model_name(policy)}: not a number in round "
            f"{int(learned.train_state.stopped_round[policy])} of its training"
            for policy in (~learned.train_state.active).nonzero()[:, 0].tolist()
        ]

    def dry_run_version(self) -> Learner:
        """One pass where there would be many."""
        return self.model_copy(
            update={name: 1 for name in self.epoch_fields if getattr(self, name) > 1}
        )

    @property
    def frozen(self) -> bool:
        """Where nothing moves its policies."""
        return self.learning_rate == 0

    # --- for recipes ----------------------------------------------------------------------------

    @property
    def uses_reference_model(self) -> bool:
        """Whether it asks about the policy that training began from."""
        return False

    @property
    def fixed_fields(self) -> tuple[str, ...]:
        """Parameters that cannot change while it goes on: another value begins a new training."""
        return ("network", "parameter_sharing", "agent_groups", "init_std", "refers", "room")

    @property
    def initial_capacity(self) -> int:
        """Rounds that there is room for at first, for those who learn as they act."""
        return 1

    @property
    def optimizer_config(self) -> OptimizerConfig:
        """How parameters follow gradients."""
        return OptimizerConfig(self.adam)

    @functools.cached_property
    def adam(self) -> Adam:
        """The optimiser's settings."""
        return Adam(
            self.learning_rate,
            weight_decay=self.weight_decay,
            max_grad_norm=self.max_grad_norm or None,
        )

    def extra_state(
        self, stacked_model: StackedModel, mapping: ModelMapping, streams: RandomStreams
    ) -> dict[str, Tensor]:
        """What a recipe keeps beside the policies, by name, `[policy, ...]`."""
        return {}

    def validate_update_batch(self, update_batch: UpdateBatch) -> None:
        """Refuse a lesson that does not fit together: before its first step.

        Raises:
            UserError: fields of a batch disagree, or nobody can be asked about a view.
        """
        kind = type(self).__name__
        for phase, batch in update_batch.batches.items():
            try:
                batch.validate(check_values=False)
            except UserError as error:
                message = f"{kind}.lesson, phase {phase}: {error}"
                raise UserError(message, code=error.code, path=error.path) from None
        for view in update_batch.objective.views:
            if view not in VIEWS:
                raise UserError(
                    f"{kind}.lesson: no view {view!r}{did_you_mean(view, VIEWS)}",
                    code="unknown_name",
                    path="on",
                )

    def warm_start(self, state: LearnerState, initial: LearnerState) -> LearnerState:
        """Memory of this recipe with what another one learned: its policies begin from there.

        Raises:
            UserError: the policies are of another make.
        """
        before, new = state.persistent_state, initial.persistent_state
        pupil, theirs = new.train_state, before.train_state.parameters
        # Heads may come and go: a value head, that of a phase. What is made of a sight may not.
        body = {name for name in (*pupil.parameters, *theirs) if name.startswith("policy.")}
        heads = (pupil.parameters.keys() & theirs.keys()) - body
        for name in (*sorted(body), *sorted(heads)):
            was, here = theirs.get(name), pupil.parameters.get(name)
            if was is None or here is None or was.shape != here.shape:
                raise UserError(
                    f"{state.spec.role.name} cannot go on from what was learned before: {name} "
                    f"was {_shape_text(was)}, and is {_shape_text(here)} here (policies first): stages of "
                    "learners need the same network and share",
                    code="incompatible",
                    path=f"players.{state.spec.role.name}",
                )
            here.copy_(was)
        was, here = state.spec.stacked_model.encoder, initial.spec.stacked_model.encoder
        if was != here:
            raise UserError(
                f"{state.spec.role.name} cannot go on from what was learned before: its network "
                f"was {was!r}, and is {here!r} here",
                code="incompatible",
                path=f"players.{state.spec.role.name}",
            )
        pupil.reference_parameters.update(copy_parameters(pupil.parameters))
        pupil.active.copy_(before.train_state.active)
        pupil.stopped_round.copy_(before.train_state.stopped_round)
        new.num_rounds.copy_(before.num_rounds)
        return initial


def _shape_text(tensor: Tensor | None) -> str:
    return "not there" if tensor is None else str(list(tensor.shape))


def with_persistent_state(state: LearnerState, persistent_state: PersistentState) -> LearnerState:
    """The memory with something else learned."""
    return dataclasses.replace(state, persistent=pytree.Persistent(persistent_state))

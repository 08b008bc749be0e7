"""Base class of learners with networks: stacked models for a role, separate in each replicate.

Common to all recipes: how models are made, how they act, what persists between episodes and
stages. `on_policy.py` and `offline.py` add the training loops, `recipes` the objectives.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar, NamedTuple

import torch
from jaxtyping import Float, Shaped
from pydantic import Field, model_validator
from torch import Tensor

from mores.agents.learning.action_search import SearchConfig, SearchKind, search_actions
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
from mores.agents.learning.model_stack import ModelStack
from mores.agents.learning.model_transfer import continue_models, load_models
from mores.agents.learning.networks import MLP, Network
from mores.agents.learning.objective import VIEWS
from mores.agents.learning.rollout_buffer import Decision, RolloutBuffer
from mores.agents.learning.stacked_model import StackedModel
from mores.agents.learning.train_state import OptimizerConfig, TrainState
from mores.agents.learning.update import UpdateBatch
from mores.core import pytree
from mores.core.environment import Phase, Role
from mores.core.errors import ParameterError, UserError, did_you_mean
from mores.core.learner import Learner, TrainingDiagnostics
from mores.core.policy import ActionOutput
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Discrete
from mores.registry.component import component


class UpdateObstacle(NamedTuple):
    """Fields `obstacle` and `min_rounds` of `TrainingDiagnostics`."""

    reason: str = ""
    min_rounds: int | None = 1


class NetworkLearner(Learner):
    """Learner with networks. Subclasses define the data and the objective."""

    tags: ClassVar[Mapping[str, object]] = {"stochastic": True}
    searches: ClassVar[bool] = True
    separates_draws: ClassVar[bool] = True
    state_kind: ClassVar[str] = "network"  # any recipe continues from the models of any other
    has_critic: ClassVar[bool] = False  # has a value head
    num_score_heads: ClassVar[int] = 0  # outputs that score a whole sample, as of a reward model
    episodic: ClassVar[bool] = False  # trains online, and on complete episodes only
    # Parameters that count passes over an update batch.
    epoch_fields: ClassVar[tuple[str, ...]] = ()

    network: Annotated[Network, component("network")] = Field(
        default=MLP(), description="network that encodes the observation"
    )
    parameter_sharing: ParameterSharing = Field(
        default="role",
        description="agents that share a model: role: all agents of the role; group: those of an "
        "agent group; agent: none; replicate: the agents of all roles of this learner",
    )
    agent_groups: list[Annotated[int, Field(ge=0)]] | None = Field(
        default=None, description="with parameter_sharing: group: group number of each agent"
    )
    learning_rate: float = Field(
        default=0.003, ge=0, le=1, description="learning rate of Adam; 0: no training, a control"
    )
    weight_decay: float = Field(default=0.0, ge=0, le=1, description="decoupled decay (AdamW)")
    max_grad_norm: float = Field(
        default=0.5, ge=0, description="largest gradient norm of a model; 0: no clipping"
    )
    temperature: float = Field(
        default=1.0, ge=0, le=100, description="sampling temperature; 0: the likeliest action"
    )
    init_std: float = Field(
        default=0.5, gt=0, le=10, description="initial standard deviation in a box, in half widths"
    )
    search: SearchKind = Field(
        default="greedy",
        description="action choice in search stages: greedy, best_of_n (by the value head), or "
        "lookahead",
    )
    search_num_candidates: int = Field(
        default=4, ge=1, le=1024, description="number of options that a search evaluates"
    )
    search_depth: int = Field(
        default=2, ge=0, le=64, description="own actions after the candidate, in lookahead"
    )
    search_weight: float = Field(
        default=1.0, ge=0, description="weight of the value against the log-probability"
    )

    @model_validator(mode="after")
    def _check_fields(self) -> NetworkLearner:
        if self.search != "greedy" and not self.has_critic:
            message = f"search: {self.search} needs a recipe with a value head, such as ppo"
            raise ParameterError("search", message=message, code="unsupported")
        for name, (setting, holds) in self.conditional_fields.items():
            if not holds and getattr(self, name) != type(self).model_fields[name].default:
                message = f"{name} has an effect only with {setting}"
                raise ParameterError(name, message=message, code="conflict")
        return self

    @property
    def conditional_fields(self) -> dict[str, tuple[str, bool]]:
        """Parameters that need a certain setting: the setting, and whether it holds."""
        searches, lookahead = self.search != "greedy", self.search == "lookahead"
        return {
            "agent_groups": ("parameter_sharing: group", self.parameter_sharing == "group"),
            "search_num_candidates": ("search: best_of_n or lookahead", searches),
            "search_depth": ("search: lookahead", lookahead),
            "search_weight": ("search: lookahead", lookahead),
        }

    # --- methods of a policy ----------------------------------------------------------------------

    def initial_state(
        self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams
    ) -> LearnerState:
        """State with new models, drawn for each replicate.

        Raises:
            UserError: the models do not fit into memory; `agent_groups` does not fit the agents.
        """
        action_spaces = {
            p.name: p.action_spaces[role.name] for p in phases if role.name in p.action_spaces
        }
        stacked_model = StackedModel(
            self.network,
            role.observation_space.size,
            action_spaces,
            self.has_critic,
            self.num_score_heads,
            self.init_std,
        )
        return self.stack_state(role, stacked_model, streams)

    def stack_state(
        self, role: Role, stacked_model: ModelStack, streams: RandomStreams
    ) -> LearnerState:
        """State with new models of an architecture, drawn for each replicate.

        Raises:
            UserError: see `initial_state`.
        """
        mapping = ModelMapping.from_sharing(
            streams, role.num_agents, self.parameter_sharing, self.agent_groups
        )
        check_memory(
            role.name,
            mapping.num_models,
            stacked_model.num_parameters,
            self.uses_reference_model,
            streams.device,
        )
        first = streams.take(mapping.first_world)
        parameters = stacked_model.init_parameters(first, mapping.models_per_replicate)
        shape, device = mapping.shape, streams.device
        recurrent = torch.zeros(*shape, stacked_model.recurrent_state_size, device=device)
        persistent = PersistentState(
            mapping,
            TrainState.create(parameters, self.uses_reference_model),
            torch.zeros((), dtype=torch.int64),
            RolloutBuffer.empty(stacked_model, shape, self.initial_capacity, recurrent, device),
            self.extra_state(stacked_model, mapping, streams),
        )
        last_decisions = {
            p: Decision.empty(distribution, stacked_model.observation_size, shape, device)
            for p, distribution in stacked_model.action_distributions.items()
        }
        spec = PolicySpec(self, role, stacked_model)
        return LearnerState(spec, recurrent, last_decisions, pytree.Persistent(persistent))

    def on_episode_start(
        self, state: LearnerState, initial: Callable[[], LearnerState], reset_mask: Tensor
    ) -> LearnerState:
        """State with recurrent states reset in some worlds. Continues models of another recipe.

        Raises:
            UserError: the architecture of the earlier models differs.
        """
        before = state.spec.learner
        if before is not self and before != self:
            state = self._continue_state(state) or self.warm_start(state, initial())
        state.persistent_state.rollout.start_episodes(reset_mask, self.episodic)
        if state.recurrent_state.shape[-1] == 0:
            return state
        recurrent = torch.where(reset_mask[:, None, None], 0.0, state.recurrent_state)
        return dataclasses.replace(state, recurrent_state=recurrent)

    def _continue_state(self, state: LearnerState) -> LearnerState | None:
        """The state as one of this learner, if only settings of training differ; else `None`."""
        before = state.spec.learner
        compatible = type(before) is type(self) and all(
            getattr(before, name) == getattr(self, name) for name in self.fixed_fields
        )
        if not compatible:
            return None
        persistent = state.persistent_state
        spec = PolicySpec(self, state.spec.role, state.spec.stacked_model)
        # A role that shared this model, and whose learner stays the same, keeps its own copy.
        if self.parameter_sharing == "replicate":
            train_state = pytree.tree_map(torch.clone, persistent.train_state)
            persistent = dataclasses.replace(persistent, train_state=train_state)
        return with_persistent_state(dataclasses.replace(state, spec=spec), persistent)

    def on_stage_start(self, state: LearnerState, role: Role) -> LearnerState:
        """State without a rollout and with update counts of 0: these belong to a stage.

        Raises:
            UserError: the role has other agents or observations in this stage.
        """
        check_role(state, role)
        persistent = state.persistent_state
        spec = PolicySpec(state.spec.learner, role, state.spec.stacked_model)
        # A new tensor: the result of an earlier training keeps its own count.
        updates = torch.zeros_like(persistent.train_state.updates)
        train_state = dataclasses.replace(persistent.train_state, updates=updates)
        rollout = persistent.rollout
        rollout.clear(torch.zeros_like(rollout.recurrent_state), episodic=False)
        rollout.next_episode_start.fill_(True)
        persistent = dataclasses.replace(persistent, train_state=train_state)
        return with_persistent_state(dataclasses.replace(state, spec=spec), persistent)

    def share_parameters(self, state: LearnerState, other_state: LearnerState) -> LearnerState:
        """State with the models of another role, for `parameter_sharing: replicate`.

        Raises:
            UserError: the roles differ in observations or actions.
        """
        if self.parameter_sharing != "replicate":
            return state
        spec, other_spec = state.spec, other_state.spec
        if spec.stacked_model != other_spec.stacked_model:
            raise UserError(
                "parameter_sharing: replicate needs roles with equal observations and actions; "
                f"{spec.role.name} and {other_spec.role.name} differ",
                code="conflict",
                path="parameter_sharing",
            )
        persistent = dataclasses.replace(
            state.persistent_state, train_state=other_state.persistent_state.train_state
        )
        return with_persistent_state(state, persistent)

    def act(
        self,
        phase: Phase,
        observation: Float[Tensor, "world agent size"],
        action_mask: Tensor | None,
        state: LearnerState,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        """Actions sampled from the models.

        With search: by the parameter `search`, the likeliest ones or the result of a search.

        Raises:
            UserError: the action space differs from that of training.
        """
        check_action_space(state, phase)
        if not search:
            return self._sample_actions(
                phase, observation, action_mask, state, streams, self.temperature
            )
        if self.search == "greedy" or not isinstance(
            phase.action_spaces[state.spec.role.name], Discrete
        ):
            return self._sample_actions(phase, observation, action_mask, state, streams, 0.0)
        config = SearchConfig(
            self.search,
            self.search_num_candidates,
            self.search_depth,
            self.search_weight,
            self.temperature,
        )
        with torch.no_grad():
            action = search_actions(config, phase.name, observation, action_mask, state, streams)
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
        stacked_model, mapping = state.spec.stacked_model, state.persistent_state.mapping
        parameters = state.persistent_state.train_state.parameters
        distribution = stacked_model.action_distributions[phase.name]
        raw, value, recurrent = stacked_model.forward_step(
            parameters,
            phase.name,
            mapping.by_model(observation),
            mapping.by_model(state.recurrent_state),
        )
        raw = mapping.by_world(raw)
        log_std = stacked_model.log_std(parameters, phase.name)
        if log_std is not None:
            log_std = mapping.by_world(log_std.expand(-1, mapping.agent_rows.shape[1], -1))
        draw = streams.normal if isinstance(distribution.space, Box) else streams.gumbel
        noise = draw("act", raw.shape[1], distribution.noise_size)
        action = distribution.sample(raw, noise, action_mask, log_std, temperature)
        logp = distribution.log_probs(raw, action, action_mask, log_std).logp
        all_legal = torch.ones_like(state.last_decisions[phase.name].action_mask)
        decision = Decision(
            observation,
            action,
            logp,
            torch.zeros_like(logp) if value is None else mapping.by_world(value),
            all_legal if action_mask is None else action_mask,
        )
        recurrent = mapping.by_world(recurrent) if recurrent.shape[-1] else state.recurrent_state
        last = {**state.last_decisions, phase.name: decision}
        return ActionOutput(
            distribution.unscale_action(action),
            dataclasses.replace(state, recurrent_state=recurrent, last_decisions=last),
        )

    @torch.no_grad()
    def expected_action(
        self,
        phase: Phase,
        observation: Float[Tensor, "world agent query size"],
        action_mask: Tensor | None,
        state: LearnerState,
        search: bool = False,
    ) -> Float[Tensor, "world agent query option"]:
        """See `Policy`. Networks with a recurrent state are refused, as are searches of a tree.

        Raises:
            UserError: such a network or search; the action space differs from that of training.
        """
        check_action_space(state, phase)
        obstacle = ""
        if state.recurrent_state.shape[-1]:
            obstacle = "its networks have a recurrent state"
        elif search and self.search != "greedy":
            obstacle = f"it has search: {self.search}"
        if obstacle:
            raise UserError(
                f"the policy of {state.spec.role.name} cannot be evaluated on given observations: "
                f"{obstacle}",
                code="unsupported",
                path=f"policies.{state.spec.role.name}",
            )
        stacked_model, mapping = state.spec.stacked_model, state.persistent_state.mapping
        distribution = stacked_model.action_distributions[phase.name]
        masks = () if action_mask is None else (action_mask,)
        shared = all(_is_expanded(x) for x in (observation, *masks))

        def rows(x: Tensor) -> Tensor:
            return _query_rows(mapping, x, shared)

        by_model = rows(observation)
        flat = by_model.flatten(1, 2)
        raw, _, _ = stacked_model.forward_step(
            state.persistent_state.train_state.parameters, phase.name, flat, flat[..., :0]
        )
        mask = None if action_mask is None else rows(action_mask).flatten(1, 2)
        temperature = 0.0 if search else self.temperature
        expected = distribution.expected_action(raw, mask, temperature)
        expected = distribution.unscale_action(expected).unflatten(1, by_model.shape[1:3])
        return _query_answers(mapping, expected, shared)

    @torch.no_grad()
    def hidden_features(
        self,
        phase: Phase,
        observation: Float[Tensor, "world agent query size"],
        state: LearnerState,
    ) -> Float[Tensor, "world agent query feature"] | None:
        """Output of the policy's network, before the head of a phase. See `Policy`.

        `None` for networks with a recurrent state. All phases share the network.
        """
        if state.recurrent_state.shape[-1]:
            return None
        mapping, shared = state.persistent_state.mapping, _is_expanded(observation)
        rows = _query_rows(mapping, observation, shared)
        features = state.spec.stacked_model.hidden_features(
            state.persistent_state.train_state.parameters, rows.flatten(1, 2)
        )
        return _query_answers(mapping, features.unflatten(1, rows.shape[1:3]), shared)

    def state_dict(self, state: LearnerState) -> Mapping[str, Tensor]:
        """Parameters by name; replicate, number, stop, update count and freezing of each model.

        With `draw`, that of each model, if uncertain parameters differ between the models.
        """
        persistent = state.persistent_state
        draw = persistent.mapping.draw
        return {
            **persistent.train_state.parameters,
            **({} if draw is None else {"draw": draw}),
            "replicate": persistent.mapping.replicate,
            "model_number": persistent.mapping.model_number,
            "stopped_at": persistent.train_state.stopped_round,
            "num_updates": persistent.train_state.updates,
            "frozen": torch.full_like(persistent.train_state.active, self.frozen),
        }

    def load_state_dict(self, state: LearnerState, tensors: Mapping[str, Tensor]) -> LearnerState:
        """State with the parameters, stops and update counts of a `state_dict`, in place.

        Raises:
            UserError: it is from models of other shapes, or of other replicates.
        """
        load_models(state, self.state_dict(state), tensors)
        return state

    def diagnostics(self, state: LearnerState) -> list[TrainingDiagnostics]:
        """Updates of the models, and models that stopped at a NaN or an infinity."""
        mapping, train_state = state.persistent_state.mapping, state.persistent_state.train_state
        stop_reasons = [
            f"{state.spec.role.name}, {mapping.model_name(model)}: not a number in round "
            f"{int(train_state.stopped_round[model])} of its training"
            for model in (~train_state.active).nonzero()[:, 0].tolist()
        ]
        obstacle = self.update_obstacle(state)
        return [
            TrainingDiagnostics(
                train_state.updates,
                train_state.stopped_round,
                stop_reasons,
                obstacle.reason,
                obstacle.min_rounds,
                self.frozen,
                draw=mapping.draw,
            )
        ]

    def learning_metrics(self, state: LearnerState) -> Mapping[str, Tensor]:
        """Means over the updates since the last call: `mores.agents.learning.update_statistics`."""
        return state.persistent_state.statistics.pop()

    def dry_run_version(self) -> NetworkLearner:
        """The same learner with one pass over each update batch."""
        return self.model_copy(
            update={name: 1 for name in self.epoch_fields if getattr(self, name) > 1}
        )

    @property
    def frozen(self) -> bool:
        """Whether nothing changes the models."""
        return self.learning_rate == 0

    # --- for recipes ----------------------------------------------------------------------------

    def update_obstacle(self, state: LearnerState) -> UpdateObstacle:
        """What the next online update waits for."""
        return UpdateObstacle()

    @property
    def uses_reference_model(self) -> bool:
        """Whether the recipe evaluates the model that training began from."""
        return False

    @property
    def fixed_fields(self) -> tuple[str, ...]:
        """Parameters whose change begins a new training, from the models of the old one."""
        return (
            *("network", "parameter_sharing", "agent_groups", "init_std"),
            *("uses_reference_model", "initial_capacity"),
        )

    @property
    def initial_capacity(self) -> int:
        """Initial rollout capacity in rounds (online only)."""
        return 1

    @property
    def optimizer_config(self) -> OptimizerConfig:
        """Settings of an optimizer step."""
        return OptimizerConfig(self.adam)

    @functools.cached_property
    def adam(self) -> Adam:
        """The optimizer."""
        return Adam(
            self.learning_rate,
            weight_decay=self.weight_decay,
            max_grad_norm=self.max_grad_norm or None,
        )

    def extra_state(
        self, stacked_model: ModelStack, mapping: ModelMapping, streams: RandomStreams
    ) -> dict[str, Tensor]:
        """Additional tensors of a recipe, by name, `[model, ...]`."""
        return {}

    def validate_update_batch(self, update_batch: UpdateBatch) -> None:
        """Check an update batch before its first optimizer step.

        Raises:
            UserError: fields of a batch disagree, or the objective needs an unknown view.
        """
        kind = type(self).__name__
        for phase, batch in update_batch.batches.items():
            try:
                batch.validate(check_values=False)
            except UserError as error:
                message = f"{kind}.make_update_batch, phase {phase}: {error}"
                raise UserError(message, code=error.code, path=error.path) from None
        for view in update_batch.objective.views:
            if view not in VIEWS:
                message = f"{kind}.make_update_batch: no view {view!r}{did_you_mean(view, VIEWS)}"
                raise UserError(message, code="unknown_name", path="view")

    def warm_start(self, state: LearnerState, initial: LearnerState) -> LearnerState:
        """Initial state of this recipe whose models continue from those of another recipe.

        Raises:
            UserError: the architectures differ.
        """
        continue_models(state, initial)
        return initial


def with_persistent_state(state: LearnerState, persistent_state: PersistentState) -> LearnerState:
    """The state with another persistent part."""
    return dataclasses.replace(state, persistent=pytree.Persistent(persistent_state))


def _query_rows(
    mapping: ModelMapping, x: Shaped[Tensor, "world agent query size"], shared: bool
) -> Shaped[Tensor, "model row query size"]:
    """Tensors of queries by model. Equal observations of all agents are evaluated once by each."""
    if shared:
        return x[0, 0].expand(mapping.num_models, 1, *x.shape[2:])
    return mapping.by_model(x)


def _query_answers(
    mapping: ModelMapping, x: Float[Tensor, "model row query size"], shared: bool
) -> Float[Tensor, "world agent query size"]:
    """The inverse of `_query_rows`, for answers."""
    if shared:
        x = x.expand(-1, mapping.agent_rows.shape[1], *x.shape[2:])
    return mapping.by_world(x)


def _is_expanded(x: Tensor) -> bool:
    """Whether all agents of all worlds have the same part of a tensor in memory."""
    return all(x.shape[dim] == 1 or x.stride(dim) == 0 for dim in (0, 1))

"""A language model that learns in a role: LoRA adapters trained by the objectives of recipes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Set
from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor

from mores.agents.language.adapted_engine import AdaptedEngine
from mores.agents.language.adapters import LoRA
from mores.agents.language.choice_draws import choice_logps
from mores.agents.language.engine_calls import ActSteps, act_together
from mores.agents.language.language_model import Engine
from mores.agents.language.language_policy import LanguagePolicy
from mores.agents.language.language_settings import LanguageState
from mores.agents.language.language_stack import LanguageEncoder, LanguageStack
from mores.agents.language.memory import MemoryReader
from mores.agents.language.models.local import LocalModel
from mores.agents.language.readouts.readout import Asked
from mores.agents.language.remembered_observation import (
    role_with_memory,
    split_memory,
    with_memory,
)
from mores.agents.learning.learner import NetworkLearner
from mores.agents.learning.learner_state import LearnerState, PolicySpec
from mores.agents.learning.recipes.policy_gradients import REINFORCE
from mores.agents.learning.rollout_buffer import Decision
from mores.core import pytree
from mores.core.environment import Phase, Role, Transition
from mores.core.episode_dataset import EpisodeDataset
from mores.core.errors import ParameterError, UserError
from mores.core.learner import Learner, TrainingDiagnostics, TrainingMode
from mores.core.person_parameters import person_parameters
from mores.core.policy import ActionOutput
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Discrete
from mores.core.turn_text import TurnText
from mores.registry.component import component


@dataclasses.dataclass(frozen=True)
class LanguageLearnerState(LanguageState):
    """State of a language model that learns.

    Attributes:
        learner: state of the objective's recipe: adapters, optimizer, rollout.
    """

    learner: LearnerState


class LanguageLearner(LanguagePolicy, Learner):
    """Language model that learns: one frozen base model, an adapter for each trained model.

    Description:
        It acts as the policy `language` does, with the same parameters. Its adapters (LoRA) are
        trained by a recipe, the `objective`, which is the same as for networks: policy gradients
        from reward (`reinforce`, `rloo`, `grpo`, `grao`), feedback while it acts (`online_dpo`,
        `online_kto`, `online_sft`, `expert_iteration`, `supervised`), or recorded episodes with
        feedback (`sft`, `dpo`, `ipo`, `simpo`, `cpo`, `kto`, `cut`). Learning rate, sharing of
        models between agents and all else that concerns learning are parameters of the recipe.
        Recipes with a value head (`ppo`) need a network.

    What is optimized:
        Choices among options: the log-probability log q of the option in the distribution that
        actions are drawn from, whatever the readout (`mores.agents.language.language_stack`). The
        adapters begin as the base model, so that divergences from the initial model are those from
        the base model. Answers that only measure (form `probabilities`) are not trained, as nothing
        is drawn. Roles that only state numbers or write messages are refused.

    Memory:
        As the policy `language` has it, and part of what an update sees. Fitting to recorded
        episodes needs `memory_turns: 0`.

    Models:
        Replicates train separately: all adapters act and train in joint forward passes. Within a
        replicate `objective.parameter_sharing` decides: an adapter for the role (default), for each
        group of agents, for each agent, or for all roles.
    """

    tags: ClassVar[Mapping[str, object]] = {"language": True, "stochastic": True, "learns": True}
    searches: ClassVar[bool] = True
    separates_draws: ClassVar[bool] = True
    state_kind: ClassVar[str] = "language_learner"

    objective: Annotated[NetworkLearner, component("recipe")] = Field(
        default=REINFORCE(), description="recipe that trains the adapters, with its parameters"
    )
    adapters: LoRA = Field(default=LoRA(), description="size and place of the adapters")
    gradient_rows: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="sequences in a forward pass of an update; more sequences take several passes, "
        "computed twice and with less memory; null: all in one",
    )
    keep_states: bool = Field(
        default=False,
        description="whether the states below the layers with adapters are kept of all prompts and "
        "texts that were scored, so that an update computes the upper layers alone: for closed "
        "sets of texts, with adapters.layers",
    )

    @model_validator(mode="after")
    def _check_learner(self) -> LanguageLearner:
        objective = self.objective
        if not isinstance(objective, NetworkLearner):
            message = "must be a recipe of mores.agents.learning, such as grpo"
            raise ParameterError("objective", message=message, code="wrong_type")
        if objective.has_critic or objective.num_score_heads:
            message = "a language model has no value or score head; use reinforce or grpo"
            raise ParameterError("objective", message=message, code="unsupported")
        given = {"network", "temperature", "search"} & objective.model_fields_set
        if given:
            name = min(given)
            message = f"{name} belongs to networks; language_learner has its own"
            raise ParameterError("objective", name, message=message, code="unsupported")
        if not isinstance(self.model, LocalModel):
            message = "a served model cannot learn; use weights on this machine"
            raise ParameterError("model", message=message, code="unsupported")
        if self.keep_states and (self.adapters.layers is None or self.gradient_rows is not None):
            message = "keep_states: needs adapters.layers, and no gradient_rows"
            raise ParameterError("keep_states", message=message, code="conflict")
        if self.temperature == 0 and "online" in objective.trains:
            message = "temperature must be above 0 where it learns from its own actions"
            raise ParameterError("temperature", message=message, code="conflict")
        if person_parameters({"": self}):
            message = "a persona whose numbers differ between people needs the policy language"
            raise ParameterError("persona", message=message, code="unsupported")
        if self.memory_turns and self.memory_summary == "generated":
            message = "summaries that the model writes are not learned; use none or first_turns"
            raise ParameterError("memory_summary", message=message, code="unsupported")
        if self.readout is not None and self.readout.generates:
            message = "a generated choice has no probability; use letters or statements"
            raise ParameterError("readout", message=message, code="unsupported")
        return self

    # --- state -----------------------------------------------------------------------------------

    def initial_state(
        self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams
    ) -> LanguageLearnerState:
        """State with new adapters, drawn for each replicate.

        Raises:
            UserError: the role has no text, nothing to choose, or too many adapters for the memory.
        """
        before = super().initial_state(role, phases, streams)
        stack = self._make_stack(role, phases)
        remembering = role_with_memory(role, self.memory_settings)
        learner = self.objective.stack_state(remembering, stack, streams)
        return LanguageLearnerState(before.role, before.counts, learner, memory=before.memory)

    def _make_stack(self, role: Role, phases: tuple[Phase, ...]) -> LanguageStack:
        """Architecture of the adapters for a role."""
        own = {p.name: p for p in phases if role.name in p.action_spaces}
        spaces = {name: phase.action_spaces[role.name] for name, phase in own.items()}
        chosen = {name: space for name, space in spaces.items() if isinstance(space, Discrete)}
        if not chosen:
            raise UserError(
                f"{role.name}: a language model learns to choose among options; here it states "
                f"numbers or writes ({', '.join(spaces)})",
                code="unsupported",
                path=f"policies.{role.name}",
            )
        return LanguageStack(
            LanguageEncoder(self.model, self.adapters),
            role_with_memory(role, self.memory_settings).observation_space.size,
            chosen,
            self,
            role,
            own,
        )

    def on_episode_start(
        self,
        state: LanguageLearnerState,
        initial: Callable[[], LanguageLearnerState],
        reset_mask: Bool[Tensor, " world"],
    ) -> LanguageLearnerState:
        """State with counts of 0 in some worlds. Continues adapters of another objective.

        Raises:
            UserError: the model, or size and place of the adapters, were others before.
        """
        learner = state.learner
        stack = learner.spec.stacked_model
        assert isinstance(stack, LanguageStack)
        if stack.reader is not self and stack.reader != self:
            encoder = LanguageEncoder(self.model, self.adapters)
            if stack.encoder != encoder:
                raise UserError(
                    f"{state.role.name} cannot continue from the adapters of the stage before: the "
                    f"model or the adapters were {stack.encoder!r}, are {encoder!r}",
                    code="incompatible",
                    path=f"policies.{state.role.name}",
                )
            changed = dataclasses.replace(stack, reader=self)
            spec = PolicySpec(learner.spec.learner, learner.spec.role, changed)
            learner = dataclasses.replace(learner, spec=spec)
        cached_initial = functools.cache(initial)
        learner = self.objective.on_episode_start(
            learner, lambda: cached_initial().learner, reset_mask
        )
        counts = {n: torch.where(reset_mask[:, None], 0, c) for n, c in state.counts.items()}
        memory = state.memory
        if memory is not None:
            worlds, agents = memory.count.shape
            empty = self.memory_settings.empty(worlds, agents, memory.count.device)
            memory = pytree.where(reset_mask, empty, memory)
        return dataclasses.replace(state, counts=counts, learner=learner, memory=memory)

    def on_stage_start(self, state: LanguageLearnerState, role: Role) -> LanguageLearnerState:
        """State without a rollout and with update counts of 0.

        Raises:
            UserError: the role has other agents or observations in this stage.
        """
        learner = self.objective.on_stage_start(
            state.learner, role_with_memory(role, self.memory_settings)
        )
        stack = learner.spec.stacked_model
        assert isinstance(stack, LanguageStack)
        changed = dataclasses.replace(stack, role=role)
        spec = PolicySpec(learner.spec.learner, learner.spec.role, changed)
        learner = dataclasses.replace(learner, spec=spec)
        return dataclasses.replace(state, role=role, learner=learner)

    def share_parameters(
        self, state: LanguageLearnerState, other_state: LanguageLearnerState
    ) -> LanguageLearnerState:
        """State with the adapters of another role, for `parameter_sharing: replicate`."""
        if self.objective.parameter_sharing != "replicate":
            return state
        other = other_state.learner.persistent_state
        persistent = dataclasses.replace(
            state.learner.persistent_state, train_state=other.train_state
        )
        learner = dataclasses.replace(state.learner, persistent=pytree.Persistent(persistent))
        return dataclasses.replace(state, learner=learner)

    # --- acting ----------------------------------------------------------------------------------

    def act(
        self,
        phase: Phase,
        observation: Float[Tensor, "world agent size"],
        action_mask: Bool[Tensor, "world agent option"] | None,
        state: LanguageState,
        streams: RandomStreams,
        search: bool = False,
        finished: Bool[Tensor, " world"] | None = None,
    ) -> ActionOutput:
        """Actions of all agents. With search: the likeliest ones."""
        steps = self._reader(search).act_steps(
            phase, observation, action_mask, state, streams, finished
        )
        return act_together([steps])[0]

    def expected_action(
        self,
        phase: Phase,
        observation: Float[Tensor, "world agent query size"],
        action_mask: Bool[Tensor, "world agent query option"] | None,
        state: LanguageState,
        search: bool = False,
    ) -> Float[Tensor, "world agent query option"]:
        """See `LanguagePolicy`. With search: the likeliest option has all of the mass."""
        reader = self._reader(search)
        return super(LanguageLearner, reader).expected_action(
            phase, observation, action_mask, state
        )

    def _reader(self, search: bool) -> LanguageLearner:
        """The policy that acts: with search at temperature 0."""
        return self.model_copy(update={"temperature": 0.0}) if search else self

    def act_steps(
        self,
        phase: Phase,
        observation: Float[Tensor, "world agent size"],
        action_mask: Bool[Tensor, "world agent option"] | None,
        state: LanguageState,
        streams: RandomStreams,
        finished: Bool[Tensor, " world"] | None = None,
    ) -> ActSteps:
        """See `StepwisePolicy`."""
        output = yield from super().act_steps(
            phase, observation, action_mask, state, streams, finished
        )
        next_state = output.state
        assert isinstance(next_state, LanguageLearnerState)
        if phase.name not in next_state.learner.last_decisions:
            return output
        remembered = with_memory(observation, state.memory)
        learner = self._with_decision(phase, remembered, action_mask, next_state, output)
        next_state = dataclasses.replace(next_state, learner=learner)
        return dataclasses.replace(output, state=next_state)

    def _with_decision(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: LanguageLearnerState,
        output: ActionOutput,
    ) -> LearnerState:
        """The learner's state with the decisions of this phase, for an update."""
        logps = output.extra.get("log_probabilities")
        logp = torch.zeros(observation.shape[:2], device=observation.device)
        if logps is not None:
            chosen = choice_logps(logps, self.temperature).gather(-1, output.action[..., None])
            logp = chosen[..., 0].to(logp)
        last = state.learner.last_decisions
        mask = torch.ones_like(last[phase.name].action_mask) if action_mask is None else action_mask
        decision = Decision(observation, output.action, logp, torch.zeros_like(logp), mask)
        return dataclasses.replace(state.learner, last_decisions={**last, phase.name: decision})

    def ask(
        self,
        phase: Phase,
        observation: Float[Tensor, " size"],
        action_mask: Bool[Tensor, " option"] | None,
        state: LanguageState,
        world: int,
        agent: int,
        turn: TurnText | None = None,
    ) -> Asked:
        """What an agent is asked in a turn, of its adapter."""
        asked = super().ask(phase, observation, action_mask, state, world, agent, turn)
        if not isinstance(state, LanguageLearnerState):
            return asked
        mapping = state.learner.persistent_state.mapping
        row = int(mapping.inverse_rows[world * mapping.shape[1] + agent])
        return dataclasses.replace(asked, adapter=row // mapping.agent_rows.shape[1])

    def ask_again(
        self,
        phase: Phase,
        remembered: Float[Tensor, " size"],
        action_mask: Bool[Tensor, " option"] | None,
        role: Role,
    ) -> Asked:
        """What was asked at a recorded observation, with the memory in it; without an adapter."""
        size, settings = role.observation_space.size, self.memory_settings
        observation, memory = split_memory(remembered, size, settings)
        state = LanguageState(role, {})
        asked = super().ask(phase, observation, action_mask, state, 0, 0)
        if memory is None:
            return asked
        messages = MemoryReader(memory, settings, self.model.engine()).conversation((0, 0))
        conversation, baseline = (*asked.conversation, *messages), (*asked.baseline, *messages)
        return dataclasses.replace(asked, conversation=conversation, baseline=baseline)

    def engine_for(self, state: LanguageState) -> Engine:
        """Engine of the model with the adapters of a state."""
        engine = self.model.engine()
        if not isinstance(state, LanguageLearnerState):
            return engine
        stack = state.learner.spec.stacked_model
        assert isinstance(stack, LanguageStack)
        parameters = state.learner.persistent_state.train_state.parameters
        return AdaptedEngine(engine, stack.adapters(parameters), stack.kept_states)

    def check_version(self) -> LanguageLearner:
        """The same with a tiny model and small adapters, unless the model is tiny."""
        checked = super().check_version()
        if checked is self:
            return self
        small = {"adapters": LoRA(rank=1), "keep_states": False}
        return checked.model_copy(update=small)  # type: ignore[return-value]

    # --- learning --------------------------------------------------------------------------------

    @property
    def trains(self) -> Set[TrainingMode]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """How its objective trains."""
        return self.objective.trains

    def update(
        self, state: LanguageLearnerState, transition: Transition, streams: RandomStreams
    ) -> LanguageLearnerState:
        """State after a transition of one round."""
        learner = self.objective.update(state.learner, transition, streams)
        return dataclasses.replace(state, learner=learner)

    def fit_offline(
        self, state: LanguageLearnerState, dataset: EpisodeDataset, streams: RandomStreams
    ) -> LanguageLearnerState:
        """State after one pass over recorded episodes."""
        if self.memory_turns:
            raise UserError(
                "recorded episodes have no memory of agents: train with memory_turns: 0, or online",
                code="unsupported",
                path="memory_turns",
            )
        learner = self.objective.fit_offline(state.learner, dataset, streams)
        return dataclasses.replace(state, learner=learner)

    def state_dict(self, state: LanguageLearnerState) -> Mapping[str, Tensor]:
        """Adapters by name, `[model, ...]`; replicate, number, stop and updates of each."""
        return self.objective.state_dict(state.learner)

    def load_state_dict(
        self, state: LanguageLearnerState, tensors: Mapping[str, Tensor]
    ) -> LanguageLearnerState:
        """State with the adapters of a `state_dict`, in place.

        Raises:
            UserError: they are of other shapes or replicates.
        """
        learner = self.objective.load_state_dict(state.learner, tensors)
        return dataclasses.replace(state, learner=learner)

    def diagnostics(self, state: LanguageLearnerState) -> list[TrainingDiagnostics]:
        """Updates of the adapters, and adapters that stopped at a NaN or an infinity."""
        return self.objective.diagnostics(state.learner)

    def learning_metrics(self, state: LanguageLearnerState) -> Mapping[str, Tensor]:
        """Means over the updates since the last call."""
        return self.objective.learning_metrics(state.learner)

    @property
    def frozen(self) -> bool:
        """Whether nothing changes the adapters."""
        return self.objective.frozen

    def dry_run_version(self) -> LanguageLearner:
        """The same with one pass over each update batch."""
        return self.model_copy(update={"objective": self.objective.dry_run_version()})

"""A language model as the policy of a role: any role of any environment.

Each turn of an agent becomes a conversation: the rules of the role with the persona (system), the
remembered turns, and the text of this turn (user). Choices among given options are read from the
model's probabilities by a readout, and drawn with the numbers that all arms share: ordered options
by the inverse distribution function, others by Gumbel noise. Answers that only measure
(`probabilities`) are not drawn. Numbers and messages are generated, token by token with shared
Gumbel noise, and parsed by the environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.agents.language.choice_draws import choice_logps
from mores.agents.language.engine_calls import ActSteps, act_together, score_all
from mores.agents.language.language_settings import (
    METRICS,
    LanguageSettings,
    LanguageState,
    no_counts,
)
from mores.agents.language.language_turn import LanguageTurn, read_action
from mores.agents.language.models.tiny import TinyModel
from mores.core.deterministic_sum import total
from mores.core.environment import Phase, Role
from mores.core.errors import UserError
from mores.core.policy import ActionOutput
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Discrete


class LanguagePolicy(LanguageSettings):
    """A language model that decides for all agents of a role.

    Description:
        `Environment.role_rules` and the persona are the system message, `Environment.describe` the
        message of a turn. The readout determines how a choice is read; by default it is chosen by
        the turn: `statements` for measured attitudes (form `probabilities` with statements),
        `numbers` for other measured answers on a scale, `letters` for other choices, `free_text`
        for numbers and messages, and for all with a model that cannot score given texts. A message
        that is longer than its space is cut after the last whole character. Agents with a single
        legal action, and agents of finished worlds, are not asked.

    Unparsable replies:
        A reply without an action (`Environment.parse_reply`; of form `probabilities`, a number for
        each option of the turn, `parse_probabilities`) is counted, and then, by
        `on_unparsable`: retry: the agent is told so and replies again, up to `max_attempts` replies
        in all, and then as with uniform; uniform: a uniform random legal action acts, drawn from
        the shared streams; error: the simulation stops.

    Memory:
        The last `memory_turns` turns of an agent: the message of the turn and its reply, as the
        model generated it, or as the text of the option that it chose. Measured answers are not
        remembered: they are no part of what happened. Older turns: see `memory_summary`
        (`mores.agents.language.memory`). After an unparsable reply the last reply is remembered.

    Metrics:
        Sums over the agents of a world since the episode began. requests: to the model;
        prompt_tokens: tokens of conversations and of scored texts; reply_tokens: generated; cost:
        price of served requests, in the currency of the price list;
        unparsable: replies without an action, each attempt counted; fallbacks: turns in which a
        random action acted; near_ties: drawn tokens and choices that rounding may have changed:
        they were decided by less than `Engine.near_tie` over the temperature, or by less than
        sqrt(n) of it where scores sum n tokens.

    References:
        Gumbel coupling: Maddison, Tarlow, Minka 2014 (A* sampling), arXiv 1411.0030.
    """

    skips_finished: ClassVar[bool] = True
    turn_class: ClassVar[type[LanguageTurn]] = LanguageTurn

    def initial_state(
        self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams
    ) -> LanguageState:
        """Counts of 0, and an empty memory.

        Raises:
            UserError: the role has no text, or does not observe what the persona reads.
        """
        if role.text is None:
            message = f"{role.name}: a language model needs the text of the environment"
            raise UserError(message, code="unsupported", path=f"policies.{role.name}")
        self.persona.check(role)
        size = streams.num_worlds, role.num_agents
        counts, memory = no_counts(size, streams.device), None
        if self.memory_turns:
            memory = self.memory_settings.empty(*size, streams.device)
        return LanguageState(role, counts, memory=memory)

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
        """Actions of all agents, with one call of the engine for all that are asked.

        The output's `extra` has `unparsable` `[world, agent]`, whether a random action acts, and
        `log_probabilities` `[world, agent, option]` where choices among options were read.

        Raises:
            UserError: a reply states no action, with `on_unparsable` error; the engine failed.
        """
        steps = self.act_steps(phase, observation, action_mask, state, streams, finished)
        return act_together([steps])[0]

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
        arguments = phase, observation, action_mask, state, streams, finished
        return self.turn_class(self, *arguments).steps()

    def expected_action(
        self,
        phase: Phase,
        observation: Float[Tensor, "world agent query size"],
        action_mask: Bool[Tensor, "world agent query option"] | None,
        state: LanguageState,
        search: bool = False,
    ) -> Float[Tensor, "world agent query option"]:
        """Probabilities with which options are drawn, and actions that are read and not drawn.

        Raises:
            UserError: the action is generated, or depends on remembered turns.
        """
        if state.memory is not None:
            raise UserError(
                "the actions of a language model with memory depend on earlier turns: set "
                "memory_turns to 0 to evaluate it on given observations",
                code="unsupported",
                path="policies",
            )
        space, engine = phase.action_spaces[state.role.name], self.engine_for(state)
        obs, asked = observation.cpu(), []
        for world in range(obs.shape[0]):
            for agent in range(obs.shape[1]):
                for query in range(obs.shape[2]):
                    index = world, agent, query
                    mask = None if action_mask is None else action_mask[index].cpu()
                    asked.append(self.ask(phase, obs[index], mask, state, world, agent))
        readouts = []
        for each in asked:
            readout = self.readout_for(each.turn, space, engine)
            if readout is None or readout.generates:
                raise UserError(
                    f"what a language model generates in {phase.name!r} has no expected action: "
                    "choices among options that are read have",
                    code="unsupported",
                    path="policies",
                )
            readouts.append(readout)
        requests = [r.requests(each) for r, each in zip(readouts, asked, strict=True)]
        scores = iter(score_all(engine, [each for own in requests for each in own]))
        found = []
        for readout, each, own in zip(readouts, asked, requests, strict=True):
            logps = readout.read(each, [next(scores) for _ in own])
            logps = choice_logps(logps, self.temperature)
            if isinstance(space, Discrete):
                found.append(logps.exp().float())
                continue
            action = read_action(readout, each, space, logps)  # a box may have room for more
            found.append(torch.nn.functional.pad(action, (0, space.size - len(action))))
        expected = torch.stack(found).unflatten(0, tuple(observation.shape[:3]))
        return expected.to(observation.device)

    # --- what is recorded ------------------------------------------------------------------------

    @property
    def metric_names(self) -> tuple[str, ...]:
        """See the class docstring."""
        return METRICS

    def metrics(self, state: LanguageState) -> Mapping[str, Float[Tensor, " world"]]:
        """See the class docstring."""
        return {name: total(count, 1).to(torch.float64) for name, count in state.counts.items()}

    @property
    def couples_arms(self) -> bool:
        """Whether the model draws with numbers of the caller: a server draws with its own."""
        return self.model.engine().couples

    def identity(self) -> Mapping[str, str]:
        """That of the model."""
        return self.model.identity()

    def check_version(self) -> LanguagePolicy:
        """The same with a tiny model, unless the model is one."""
        if isinstance(self.model, TinyModel):
            return self
        return self.model_copy(update={"model": TinyModel()})

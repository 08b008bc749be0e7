"""A language model as the policy of a role: any role of any environment.

Each turn of an agent becomes a conversation: the rules of the role with the persona (system), the
remembered turns, and the text of this turn (user). Choices among given options are read from the
model's probabilities by a readout, and drawn with the numbers that all arms share: ordered options
by the inverse distribution function, others by Gumbel noise. Answers that only measure
(`probabilities`) are not drawn. Numbers and messages are generated.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from mores.agents.language.language_model import (
    Conversation,
    GenerateRequest,
    LanguageModel,
    Message,
    model_from_word,
)
from mores.agents.language.models.tiny import TinyModel
from mores.agents.language.readouts.labels import Letters
from mores.agents.language.readouts.readout import Asked, Readout
from mores.core.environment import Phase, Role
from mores.core.errors import UserError
from mores.core.policy import ActionOutput, Policy
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Discrete
from mores.core.turn_text import encode_message
from mores.registry.component import component


class LanguagePolicy(Policy):
    """A language model that decides for all agents of a role."""

    tags: ClassVar[dict[str, object]] = {"language": True, "stochastic": True}

    model: Annotated[
        LanguageModel, component("language_model"), BeforeValidator(model_from_word)
    ] = Field(default=TinyModel(), description="the model: a kind, a folder, a hub name, a URL")
    readout: Annotated[Readout, component("readout")] = Field(
        default=Letters(), description="how a choice among given options is read"
    )
    temperature: float = Field(default=1.0, ge=0, le=100, description="divisor of logits")
    max_new_tokens: int = Field(default=32, ge=1, le=4096, description="tokens of a reply")

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Role:
        """The role, with its text."""
        return role

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Role,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        """Actions of all agents, with one call of the engine."""
        text, space = state.text, phase.action_spaces[state.name]
        assert text is not None
        num_worlds, num_agents = observation.shape[:2]
        rows = [(w, a) for w in range(num_worlds) for a in range(num_agents)]
        asked = []
        for w, a in rows:
            mask = None if action_mask is None else action_mask[w, a]
            turn = text.describe(phase.name, observation[w, a], mask)
            options = range(len(turn.options))
            legal = tuple(o for o in options if mask is None or bool(mask[o]))
            before: Conversation = (Message("system", text.rules),) if text.rules else ()
            asked.append(Asked(before, before, turn, legal))
        engine = self.model.engine()
        form = asked[0].turn.form
        if form in ("choice", "probabilities") and not self.readout.generates:
            logps = torch.stack(self.readout.log_probabilities(engine, asked))
            logps = logps.unflatten(0, (num_worlds, num_agents))
            if form == "probabilities":
                return ActionOutput(logps.exp().float(), state)
            if self.temperature == 0:
                return ActionOutput(logps.argmax(-1), state)
            logps = (logps / self.temperature).log_softmax(-1)
            if asked[0].turn.ordered:
                return ActionOutput(streams.ordered_categorical("choice", logps.exp()), state)
            return ActionOutput(streams.categorical("choice", logps), state)
        requests = [
            GenerateRequest(
                (
                    *each.conversation,
                    Message("user", self.readout.user_text(each.turn, each.legal)),
                ),
                self.max_new_tokens,
                self.temperature,
            )
            for each in asked
        ]

        def gumbel(indices: Any, position: int) -> Tensor:
            numbers = []
            for index in indices:
                world, agent = rows[index]
                agents = torch.tensor([agent])
                own = streams.take(torch.tensor([world]))
                numbers.append(
                    own.gumbel(f"token {position}", agents, engine.vocabulary_size)[0, 0]
                )
            return torch.stack(numbers)

        actions = []
        for (w, a), reply in zip(rows, engine.generate(requests, gumbel), strict=True):
            if form == "message":
                assert not isinstance(space, Discrete)
                actions.append(encode_message(reply.text, space.size))
                continue
            mask = None if action_mask is None else action_mask[w, a]
            action = text.parse_reply(phase.name, reply.text, mask)
            if action is None:
                raise UserError(
                    f"the reply {reply.text!r:.60} states no action",
                    code="unparsable",
                    path="policies",
                )
            actions.append(action)
        return ActionOutput(torch.stack(actions).unflatten(0, (num_worlds, num_agents)), state)

"""Parameters of a language model in a role, and what it is asked in a turn."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Num
from pydantic import BeforeValidator, Field
from torch import Tensor

from mores.agents.language.language_model import (
    Conversation,
    Engine,
    LanguageModel,
    Message,
)
from mores.agents.language.memory import Memory, MemorySettings, SummaryRule
from mores.agents.language.models.tiny import TinyModel
from mores.agents.language.personas.persona import NoPersona, Persona, PersonTurn
from mores.agents.language.readouts.expected_rating import ExpectedRating
from mores.agents.language.readouts.free_text import FreeText, reply_form
from mores.agents.language.readouts.labels import Letters, Numbers
from mores.agents.language.readouts.readout import Asked, Readout
from mores.agents.language.readouts.statements import Statements
from mores.core.environment import Phase, Role
from mores.core.policy import Policy
from mores.core.spaces import Box, Space
from mores.core.turn_text import RoleText, TurnText
from mores.registry.component import component
from mores.registry.specs import model_from_word

# Sums over the agents of a world since the episode began.
METRICS = (
    *("requests", "prompt_tokens", "reply_tokens", "cost"),
    *("unparsable", "fallbacks", "near_ties"),
)
MAX_ATTEMPTS = 99


@dataclasses.dataclass(frozen=True)
class LanguageState:
    """State of a language model in a role.

    Attributes:
        role: the role, with its text.
        counts: `METRICS` by name, of each agent since the episode began.
        memory: remembered turns; `None`: no memory.
    """

    role: Role
    counts: Mapping[str, Num[Tensor, "world agent"]]
    memory: Memory | None = dataclasses.field(default=None, kw_only=True)

    @property
    def text(self) -> RoleText:
        """Text of the role: `LanguagePolicy.initial_state` refuses roles without any."""
        assert self.role.text is not None
        return self.role.text


class LanguageSettings(Policy):
    """Parameters of a language model in a role, and what it is asked in a turn."""

    tags: ClassVar[Mapping[str, object]] = {"language": True, "stochastic": True}

    model: Annotated[
        LanguageModel, component("language_model"), BeforeValidator(model_from_word)
    ] = Field(default=TinyModel(), description="the model: a kind, a folder, a hub name, a URL")
    persona: Annotated[Persona, component("persona")] = Field(
        default=NoPersona(), description="who the model is asked to be"
    )
    readout: Annotated[Readout, component("readout")] | None = Field(
        default=None, description="how a choice among options is read; null: chosen by the turn"
    )
    temperature: float = Field(
        default=1.0, ge=0, le=100, description="divisor of logits, of tokens and of options"
    )
    max_new_tokens: int = Field(default=32, ge=1, le=4096, description="tokens of a reply, at most")
    on_unparsable: Literal["retry", "uniform", "error"] = Field(
        default="retry", description="what follows a reply that states no action"
    )
    max_attempts: int = Field(
        default=3, ge=1, le=MAX_ATTEMPTS, description="replies in a turn with retry, at most"
    )

    memory_turns: int = Field(
        default=0, ge=0, le=1000, description="turns that an agent remembers word by word"
    )
    memory_summary: SummaryRule = Field(
        default="none", description="what becomes of older turns: see `Memory`"
    )
    memory_first_turns: int = Field(
        default=1, ge=1, le=100, description="turns that are kept with memory_summary first_turns"
    )
    memory_bytes: int = Field(
        default=2048, ge=16, le=2**20, description="room for a message, and for a reply, in bytes"
    )
    summary_tokens: int = Field(
        default=64, ge=1, le=4096, description="tokens of a summary, at most"
    )

    @property
    def memory_settings(self) -> MemorySettings:
        """Window and rule of the memory."""
        first = self.memory_first_turns if self.memory_summary == "first_turns" else 0
        codes = max(self.memory_bytes, self.max_new_tokens, self.summary_tokens)
        return MemorySettings(
            self.memory_turns, first, self.memory_summary, self.memory_bytes, codes
        )

    def engine_for(self, state: LanguageState) -> Engine:
        """Engine of the model with the adapters of a state."""
        return self.model.engine()

    def adapter_of(self, world: int, agent: int) -> int:
        """Index of the adapter of an agent's model; -1: the base model."""
        return -1

    @property
    def couples_arms(self) -> bool:
        """See `Policy`: a server draws with numbers of its own."""
        return self.model.couples

    def readout_for(self, turn: TurnText, space: Space, engine: Engine) -> Readout | None:
        """The readout of a turn; `None`: the reply is generated, and no choice among options.

        Args:
            turn: text of the turn.
            space: its action space.
            engine: engine of the model.
        """
        if turn.form in ("numbers", "message"):
            reads = isinstance(self.readout, ExpectedRating) and self.readout.reads(space)
            return self.readout if reads and turn.form == "numbers" else None
        if self.readout is not None:
            return self.readout
        if not engine.scores:
            return FreeText()
        if turn.form == "choice":
            return Letters()
        if turn.statements:  # with the baseline in all arms, with and without a persona
            return Statements()
        return Numbers() if turn.ordered else Letters()

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
        """What an agent is asked in a turn.

        Args:
            phase: the phase.
            observation: of the agent.
            action_mask: its legal options; `None`: all.
            state: state of the policy.
            world, agent: indices of the agent.
            turn: text of the turn; `None`: it is written.
        """
        if turn is None:
            turn = state.text.describe(phase.name, observation, action_mask)
        space = phase.action_spaces[state.role.name]
        rating = self.readout if isinstance(self.readout, ExpectedRating) else None
        if rating and turn.form == "numbers" and isinstance(space, Box) and rating.reads(space):
            turn, action_mask = rating.scale_turn(turn, space), None
        person = PersonTurn(world, agent, state.role.observation_space, observation, turn)
        persona, rules = self.persona.text(person), state.text.rules
        legal = tuple(
            option
            for option in range(len(turn.options))
            if action_mask is None or turn.form != "choice" or bool(action_mask[option])
        )
        with_persona = "\n\n".join(part for part in (rules, persona, turn.about_self) if part)
        before, baseline = _system(with_persona), _system(rules)
        return Asked(before, baseline, turn, legal, self.adapter_of(world, agent))

    def generation_text(self, asked: Asked) -> str:
        """The message of a turn whose reply is generated."""
        readout = self.readout if isinstance(self.readout, FreeText) else FreeText()
        return readout.user_text(asked.turn, asked.legal)

    def correction_text(self, asked: Asked) -> str:
        """The message after a reply that states no action."""
        return f"Your reply could not be read. {reply_form(asked.turn)}".strip()


def no_counts(
    size: tuple[int, ...], device: torch.device | str
) -> dict[str, Num[Tensor, "world agent"]]:
    """Counts of 0, by `METRICS`: whole numbers, and the cost."""
    return {
        name: torch.zeros(
            size, dtype=torch.float64 if name == "cost" else torch.int64, device=device
        )
        for name in METRICS
    }


def _system(text: str) -> Conversation:
    return (Message("system", text),) if text else ()

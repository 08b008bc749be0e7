"""Interface of personas; no persona, and a text that is the same for all agents."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mores.core.config import Config
from mores.core.environment import Role
from mores.core.spaces import Box
from mores.core.turn_text import TurnText


@dataclasses.dataclass(frozen=True)
class PersonTurn:
    """What a persona of one agent may depend on.

    Attributes:
        world, agent: indices of the agent, for numbers that differ between people.
        space: observation space.
        observation: what the agent observes.
        turn: the text of its turn.
    """

    world: int
    agent: int
    space: Box
    observation: Float[Tensor, " size"]
    turn: TurnText

    def number(self, number: Any) -> float:
        """The agent's number of a field: a number, or a tensor `[world, agent, 1]`."""
        if not isinstance(number, Tensor):
            return float(number)
        worlds, agents = number.shape[:2]  # 1 where they do not differ
        return float(number[min(self.world, worlds - 1), min(self.agent, agents - 1), 0])


class Persona(Config, ABC):
    """Text that tells a language model who it is.

    It is appended to the rules of the role in the system message. A readout with a baseline
    compares with the same message without it.
    """

    tags: ClassVar[Mapping[str, object]] = {}

    @abstractmethod
    def text(self, person: PersonTurn) -> str:
        """The text of one agent in one turn; empty: none."""

    def check(self, role: Role) -> None:
        """Refuse a role whose agents do not observe what the persona reads.

        Raises:
            UserError: a part of the observation is missing.
        """


class NoPersona(Persona):
    """The rules of the role alone."""

    def text(self, person: PersonTurn) -> str:
        """No text."""
        return ""


class TextPersona(Persona):
    """The same text for all agents."""

    content: str = Field(description="the text, such as: You are a retired teacher.")

    def text(self, person: PersonTurn) -> str:
        """The text."""
        return self.content

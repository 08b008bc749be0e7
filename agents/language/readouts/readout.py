"""Interface of readouts: log-probabilities of the options of a turn."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from mores.agents.language.language_model import Conversation, Engine
from mores.core.config import Config
from mores.core.turn_text import TurnText


@dataclasses.dataclass(frozen=True)
class Asked:
    """A turn of one agent that a readout reads.

    Attributes:
        conversation: messages before the turn: the rules with the persona, and the memory.
        baseline: the same messages without the persona.
        turn: the turn.
        legal: indices of the legal options.
        adapter: index of the adapter of the agent's model; -1: the base model.
    """

    conversation: Conversation
    baseline: Conversation
    turn: TurnText
    legal: tuple[int, ...]
    adapter: int = -1


class Readout(Config, ABC):
    """How the choice among given options is read.

    Attributes:
        generates: whether it is read from a generated reply; then `log_probabilities` is not used.
    """

    generates: ClassVar[bool] = False

    @abstractmethod
    def user_text(self, turn: TurnText, legal: Sequence[int]) -> str:
        """The message that asks the agent."""

    def reply_text(self, turn: TurnText, option: int) -> str:
        """The reply that states an option, for the memory of the agent."""
        return turn.options[option]

    def log_probabilities(
        self, engine: Engine, asked: Sequence[Asked]
    ) -> list[Float[Tensor, " option"]]:
        """Normalized log-probability of every option of each turn; -inf for illegal ones."""
        raise NotImplementedError

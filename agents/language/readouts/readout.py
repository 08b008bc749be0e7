"""Interface of readouts: log-probabilities of the options of a turn.

A readout asks the model in some wording (`template`) and order (`option_order`), scores texts, and
returns log-probabilities in the order of the action's options, whatever order they were shown in.
Both change a small model's answers more than a persona does, so that a claim about people needs
both orders and several templates.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mores.agents.language.language_model import Conversation, Engine, Score, ScoreRequest
from mores.agents.language.placeholders import check_placeholders, placeholders
from mores.core.config import Config
from mores.core.errors import ParameterError, did_you_mean
from mores.core.turn_text import TurnText


@dataclasses.dataclass(frozen=True)
class Asked:
    """A turn of one agent that a readout reads.

    Attributes:
        conversation: messages before the turn: the rules with the persona, and the memory.
        baseline: the same messages without the persona. Remembered replies are among them, and were
            given under the persona: with memory, the baseline removes the effect of the persona on
            this turn's reply, and not that on earlier ones.
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
        generates: whether it is read from a generated reply; then nothing is scored.
        lists_options: whether the message lists the options, so that their order may matter.
        templates: wordings of a turn by name, with placeholders.
        template_names: names of the placeholders of a template.
    """

    generates: ClassVar[bool] = False
    lists_options: ClassVar[bool] = True
    templates: ClassVar[Mapping[str, str]] = {}
    template_names: ClassVar[tuple[str, ...]] = ()

    template: str = Field(
        default="plain", description="wording: a name of the table of the readout, or a text"
    )
    option_order: Literal["listed", "reversed"] = Field(
        default="listed", description="order in which options are shown"
    )

    def model_post_init(self, context: Any) -> None:
        """Check the template."""
        if self.template in self.templates:
            return
        if not placeholders(self.template):
            near = did_you_mean(self.template, self.templates)
            message = f"there is no template {self.template!r:.60}{near}"
            raise ParameterError("template", message=message, code="unknown_name")
        check_placeholders("template", self.template, self.template_names)

    @property
    def template_text(self) -> str:
        """The text of the template."""
        return self.templates.get(self.template, self.template)

    def shown_order(self, turn: TurnText) -> list[int]:
        """Indices of all options in the order in which they are shown."""
        order = list(range(len(turn.options)))
        return order[::-1] if self.option_order == "reversed" else order

    @abstractmethod
    def user_text(self, turn: TurnText, legal: Sequence[int]) -> str:
        """The message that asks the agent."""

    def reply_text(self, turn: TurnText, option: int) -> str:
        """The reply that states an option, for the memory of the agent."""
        return turn.options[option]

    def requests(self, asked: Asked) -> list[ScoreRequest]:
        """Texts to be scored for a turn."""
        raise NotImplementedError

    def read(self, asked: Asked, scores: Sequence[Score]) -> Float[Tensor, " option"]:
        """Normalized log-probability of every option, from the scores of `requests`."""
        raise NotImplementedError

    def num_summed(self, scores: Sequence[Score]) -> int:
        """Number of tokens whose log-probabilities are summed for an option, of the longest one."""
        return max(length for score in scores for length in score.num_tokens)

    def log_probabilities(
        self, engine: Engine, asked: Sequence[Asked]
    ) -> list[Float[Tensor, " option"]]:
        """Normalized log-probability of every option of each turn; -inf for illegal ones."""
        requests = [self.requests(each) for each in asked]
        scores = iter(engine.score([request for own in requests for request in own]))
        return [
            self.read(each, [next(scores) for _ in own])
            for each, own in zip(asked, requests, strict=True)
        ]


def normalized(
    num_options: int, legal: Sequence[int], logps: Sequence[float | Tensor]
) -> Float[Tensor, " option"]:
    """Log-probabilities of all options: normalized over the legal ones, -inf elsewhere."""
    options = torch.full((num_options,), float("-inf"), dtype=torch.float64)
    options[list(legal)] = torch.stack(
        [torch.as_tensor(logp, dtype=torch.float64).cpu() for logp in logps]
    )
    return options.log_softmax(0)


def has_prefix(texts: Sequence[str]) -> bool:
    """Whether one of the texts is the beginning of another one."""
    return any(a != b and b.startswith(a) for a in texts for b in texts)


class ScoredReadout(Readout):
    """A readout that compares one number of each option, with or without a baseline.

        log q(o) = x_o - b_o,  normalized over the legal options,

    with x_o the number of option o, and b_o the same in the conversation without the persona and
    with `TurnText.baseline_situation`, if the turn has one; without a baseline b_o = 0.
    """

    baseline: bool = Field(
        default=False, description="whether the same without the persona is subtracted"
    )

    @abstractmethod
    def own_requests(self, asked: Asked) -> list[ScoreRequest]:
        """Texts to be scored, without the baseline."""

    @abstractmethod
    def numbers(self, scores: Sequence[Score]) -> list[float | Tensor]:
        """The number of each legal option, from the scores of `own_requests`."""

    def requests(self, asked: Asked) -> list[ScoreRequest]:
        """Texts to be scored, followed by those of the baseline."""
        own = self.own_requests(asked)
        if not self.baseline:
            return own
        turn = asked.turn
        if turn.baseline_situation is not None:
            turn = dataclasses.replace(turn, situation=turn.baseline_situation)
        without = dataclasses.replace(asked, conversation=asked.baseline, turn=turn)
        return [*own, *self.own_requests(without)]

    def num_summed(self, scores: Sequence[Score]) -> int:
        """See `Readout`; a baseline has as many again."""
        return (1 + self.baseline) * super().num_summed(scores)

    def read(self, asked: Asked, scores: Sequence[Score]) -> Float[Tensor, " option"]:
        """See the class docstring."""
        numbers = self.numbers(scores)
        if self.baseline:
            half = len(numbers) // 2
            numbers = [x - b for x, b in zip(numbers[:half], numbers[half:], strict=True)]
        return normalized(len(asked.turn.options), asked.legal, numbers)


def likelihoods(scores: Sequence[Score]) -> list[float | Tensor]:
    """Log-likelihood of each text."""
    return [logp for score in scores for logp in score.logps]

"""The label of an option as the reply: letters or numbers.

Every option, legal or not, gets the label of its position; legal ones are listed, so that labels
may be skipped (A, C). The likelihoods of the labels are compared: log q(o) = log p(label of o |
conversation), normalized over legal options. In reversed order A is the last option. Where one
label is the beginning of another (1 and 10) the end of the reply is scored as well.

Small models tend to choose by the position of an option and not by its content. For attitudes use
the readout `statements`; test every claim with both orders of the options.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from mores.agents.language.language_model import Message, Score, ScoreRequest
from mores.agents.language.placeholders import fill_lines
from mores.agents.language.readouts.readout import (
    Asked,
    ScoredReadout,
    has_prefix,
    likelihoods,
)
from mores.core.turn_text import TurnText

TEMPLATES: Mapping[str, str] = {
    "plain": "$situation\n$question\n$options\nAnswer with $labels only.",
    "options_first": "Possible answers:\n$options\n$situation\n$question\n"
    "Reply with $labels and nothing else.",
    "form": "$situation\nQuestion: $question\nOptions:\n$options\nYour choice ($labels):",
}


class LabelReadout(ScoredReadout):
    """Options are listed with labels, and the likelihood of each label is compared."""

    templates: ClassVar[Mapping[str, str]] = TEMPLATES
    template_names: ClassVar[tuple[str, ...]] = ("situation", "question", "options", "labels")

    @abstractmethod
    def labels(self, num_options: int) -> tuple[str, ...]:
        """Labels of the positions, in order."""

    def label_of(self, turn: TurnText) -> dict[int, str]:
        """Label of every option, illegal ones included, in the order in which they are shown."""
        order = self.shown_order(turn)
        return dict(zip(order, self.labels(len(order)), strict=True))

    def user_text(self, turn: TurnText, legal: Sequence[int]) -> str:
        """Situation, question, the legal options with their labels, and the form of the reply."""
        shown = [
            (option, label) for option, label in self.label_of(turn).items() if option in legal
        ]
        lines = [f"{label}. {turn.options[option]}" for option, label in shown]
        values = {
            "situation": turn.situation,
            "question": turn.question,
            "options": "\n".join(lines),
            "labels": " or ".join(label for _, label in shown),
        }
        return fill_lines(self.template_text, values)

    def reply_text(self, turn: TurnText, option: int) -> str:
        """The label."""
        return self.label_of(turn)[option]

    def own_requests(self, asked: Asked) -> list[ScoreRequest]:
        """The labels of the legal options as replies."""
        label_of = self.label_of(asked.turn)
        continuations = tuple(label_of[option] for option in asked.legal)
        message = Message("user", self.user_text(asked.turn, asked.legal))
        conversation = (*asked.conversation, message)
        return [ScoreRequest(conversation, continuations, has_prefix(continuations), asked.adapter)]

    def numbers(self, scores: Sequence[Score]) -> list[float | Tensor]:
        """Log-likelihood of each label."""
        return likelihoods(scores)


class Letters(LabelReadout):
    """Options are labelled A, B, C, ..."""

    def labels(self, num_options: int) -> tuple[str, ...]:
        """A to Z; with more options A1, B1, ..."""
        letters = [chr(ord("A") + option % 26) for option in range(num_options)]
        return tuple(
            letter if option < 26 else f"{letter}{option // 26}"
            for option, letter in enumerate(letters)
        )


class Numbers(LabelReadout):
    """Options are labelled 1, 2, 3, ..."""

    def labels(self, num_options: int) -> tuple[str, ...]:
        """Numbers from 1 on."""
        return tuple(str(option + 1) for option in range(num_options))

"""The label of an option as the reply: letters or numbers.

Labels are read with the order in which options are listed: small models answer by position. Use
`statements` for attitudes, and both orders for every claim.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mores.agents.language.language_model import Engine, Message, ScoreRequest
from mores.agents.language.readouts.readout import Asked, Readout
from mores.core.turn_text import TurnText


class LabelReadout(Readout):
    """Options are listed with labels, and the likelihood of each label is compared."""

    @abstractmethod
    def labels(self, num_options: int) -> tuple[str, ...]:
        """Labels of the options."""

    def user_text(self, turn: TurnText, legal: Sequence[int]) -> str:
        """Situation, question, the legal options with their labels, and the form of the reply."""
        labels = self.labels(len(turn.options))
        lines = [f"{labels[option]}. {turn.options[option]}" for option in legal]
        allowed = " or ".join(labels[option] for option in legal)
        parts = [turn.situation, turn.question, *lines, f"Answer with {allowed} only."]
        return "\n".join(part for part in parts if part)

    def reply_text(self, turn: TurnText, option: int) -> str:
        """The label."""
        return self.labels(len(turn.options))[option]

    def log_probabilities(
        self, engine: Engine, asked: Sequence[Asked]
    ) -> list[Float[Tensor, " option"]]:
        """Log-likelihood of each label, normalized over the legal ones."""
        requests = []
        for each in asked:
            labels = self.labels(len(each.turn.options))
            message = Message("user", self.user_text(each.turn, each.legal))
            continuations = tuple(labels[option] for option in each.legal)
            has_prefixes = len(set(map(len, continuations))) > 1
            requests.append(
                ScoreRequest(
                    (*each.conversation, message), continuations, has_prefixes, each.adapter
                )
            )
        scores = engine.score(requests)
        return [
            normalized(len(each.turn.options), each.legal, score.logps)
            for each, score in zip(asked, scores, strict=True)
        ]


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


class ExpectedRating(Numbers):
    """A rating on a scale, read from the probabilities of its points."""


def normalized(
    num_options: int, legal: Sequence[int], logps: Sequence[float]
) -> Float[Tensor, " option"]:
    """Log-probabilities of all options: normalized over the legal ones, -inf elsewhere."""
    options = torch.full((num_options,), float("-inf"), dtype=torch.float64)
    options[list(legal)] = torch.tensor(logps, dtype=torch.float64)
    return options.log_softmax(0)

"""A rating on a scale, read from the probabilities of its points.

    E[rating] = sum_k q(k) x_k

with q the probabilities of the labels 1 ... n. Reading has less variance than drawing, in one arm
and in the difference of two, and is exact where the rating is only measured.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mores.agents.language.placeholders import fill_lines
from mores.agents.language.readouts.labels import Numbers
from mores.core.spaces import Box, Space
from mores.core.turn_text import TurnText, format_number

TEMPLATES: Mapping[str, str] = {
    "plain": "$situation\n$question\nAnswer with one number from $first ($first_text) to "
    "$last ($last_text) only.",
    "options_first": "On a scale from $first to $last, $first means: $first_text. $last means: "
    "$last_text.\n$situation\n$question\nReply with one number and nothing else.",
    "form": "$situation\nQuestion: $question\nScale: $first = $first_text, $last = $last_text\n"
    "Your rating:",
}


class ExpectedRating(Numbers):
    """Points of a scale: only its ends are described.

    For options of a scale these are the first and the last one. An action of one number in a closed
    interval is the expected point of a scale of `points` points that are equally spaced on it.
    """

    templates: ClassVar[Mapping[str, str]] = TEMPLATES
    template_names: ClassVar[tuple[str, ...]] = (
        *("situation", "question"),
        *("first", "last", "first_text", "last_text"),
    )

    points: int = Field(default=5, ge=2, le=100, description="points of the scale of one number")

    def user_text(self, turn: TurnText, legal: Sequence[int]) -> str:
        """Situation, question, and the ends of the scale."""
        order, label_of = self.shown_order(turn), self.label_of(turn)
        values = {
            "situation": turn.situation,
            "question": turn.question,
            "first": label_of[order[0]],
            "last": label_of[order[-1]],
            "first_text": turn.options[order[0]],
            "last_text": turn.options[order[-1]],
        }
        return fill_lines(self.template_text, values)

    def reads(self, space: Space) -> bool:
        """Whether an action of numbers is read: one number in a closed interval."""
        return isinstance(space, Box) and space.size == 1 and all(map(_finite, _limits(space)))

    def scale(self, space: Box) -> list[float]:
        """The points on the interval of an action."""
        low, high = _limits(space)
        return [low + (high - low) * i / (self.points - 1) for i in range(self.points)]

    def scale_turn(self, turn: TurnText, space: Box) -> TurnText:
        """The turn as a choice among the points."""
        options = tuple(map(format_number, self.scale(space)))
        return dataclasses.replace(turn, form="choice", options=options, ordered=True)


def expected_point(
    logps: Float[Tensor, " point"], points: Sequence[float]
) -> Float[Tensor, " one"]:
    """The mean of the points under these log-probabilities."""
    numbers = logps.new_tensor(points)
    return (logps.exp() * numbers).sum(-1, keepdim=True)


def _limits(space: Box) -> tuple[float, float]:
    return space.low[0], space.high[0]


def _finite(number: float) -> bool:
    return abs(number) < float("inf")

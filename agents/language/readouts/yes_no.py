"""One question for each option: is this what you choose, yes or no.

    log q(o) = log p(Yes | o) - log p(No | o),  normalized over the options.

A tendency to say yes, whatever the option, cancels in the normalization. With two options both are
asked, and log q(1) - log q(2) is the difference of their log-odds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from mores.agents.language.language_model import Message, Score, ScoreRequest
from mores.agents.language.placeholders import fill_lines
from mores.agents.language.readouts.readout import Asked, ScoredReadout, has_prefix
from mores.core.turn_text import TurnText

TEMPLATES: Mapping[str, str] = {
    "plain": "$situation\n$question\n$statement\nAnswer with $words only.",
    "statement_first": "$statement\n$situation\n$question\nReply with $words and nothing else.",
    "form": "$situation\nQuestion: $question\nStatement: $statement\nYour answer ($words):",
}


class YesNo(ScoredReadout):
    """Log-odds of yes over no, asked of each option alone, normalized over the options.

    The option is asked as its statement, if the turn has statements. The order of options is that
    of the words: in reversed order "No or Yes".
    """

    lists_options: ClassVar[bool] = False
    templates: ClassVar[Mapping[str, str]] = TEMPLATES
    template_names: ClassVar[tuple[str, ...]] = ("situation", "question", "statement", "words")

    words: tuple[str, str] = Field(default=("Yes", "No"), description="words for yes and for no")

    def user_text(self, turn: TurnText, legal: Sequence[int]) -> str:
        """Situation and question, for the memory; the options are asked one by one."""
        return fill_lines("$situation\n$question", _values(turn))

    def option_text(self, turn: TurnText, option: int) -> str:
        """The message that asks about one option."""
        shown = self.words[::-1] if self.option_order == "reversed" else self.words
        statement = (turn.statements or turn.options)[option]
        values = {**_values(turn), "statement": statement, "words": " or ".join(shown)}
        return fill_lines(self.template_text, values)

    def own_requests(self, asked: Asked) -> list[ScoreRequest]:
        """Yes and no as replies about each legal option."""
        return [
            ScoreRequest(
                (*asked.conversation, Message("user", self.option_text(asked.turn, option))),
                self.words,
                has_prefix(self.words),
                asked.adapter,
            )
            for option in asked.legal
        ]

    def numbers(self, scores: Sequence[Score]) -> list[float | Tensor]:
        """Log-odds of yes for each option."""
        return [score.logps[0] - score.logps[1] for score in scores]


def _values(turn: TurnText) -> dict[str, str]:
    return {"situation": turn.situation, "question": turn.question}

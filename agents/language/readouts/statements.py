"""Likelihood of whole statements, against the same without the persona.

With s_o the statement of option o, c the conversation with the persona and b the one without:

    log q(o) = log p(s_o | c) - log p(s_o | b),  normalized over the options.

The baseline removes what makes a statement likely for everybody: its length and its words. If the
turn has a `baseline_situation`, b ends with that situation in place of the turn's. The options are
not listed, so that there is no order.

With neither a persona nor such a situation c equals b, and all options are equally likely: what the
model itself thinks is the zero from which personas are measured. `baseline: false` gives the plain
likelihood, which is that of the wording first of all.

With memory, both c and b hold the agent's earlier replies, which it gave under the persona: what
the persona did to those is in the baseline as well, and is not measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import Field
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
    "plain": "$situation\n$question",
    "own_words": "$situation\n$question\nSay in your own words what you think.",
    "form": "$situation\nQuestion: $question\nYour opinion:",
}


class Statements(ScoredReadout):
    """Whole statements, with or without the baseline."""

    lists_options: ClassVar[bool] = False
    templates: ClassVar[Mapping[str, str]] = TEMPLATES
    template_names: ClassVar[tuple[str, ...]] = ("situation", "question")

    baseline: bool = Field(
        default=True, description="whether the likelihood without the persona is subtracted"
    )

    def user_text(self, turn: TurnText, legal: Sequence[int]) -> str:
        """Situation and question; the options are not listed."""
        values = {"situation": turn.situation, "question": turn.question}
        return fill_lines(self.template_text, values)

    def reply_text(self, turn: TurnText, option: int) -> str:
        """The statement; of turns without statements the text of the option."""
        return (turn.statements or turn.options)[option]

    def own_requests(self, asked: Asked) -> list[ScoreRequest]:
        """The statements of the legal options as replies."""
        message = Message("user", self.user_text(asked.turn, asked.legal))
        texts = tuple(self.reply_text(asked.turn, option) for option in asked.legal)
        conversation = (*asked.conversation, message)
        return [ScoreRequest(conversation, texts, has_prefix(texts), asked.adapter)]

    def numbers(self, scores: Sequence[Score]) -> list[float | Tensor]:
        """Log-likelihood of each statement."""
        return likelihoods(scores)

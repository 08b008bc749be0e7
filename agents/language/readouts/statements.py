"""Likelihood of whole statements, against the same without the persona.

With s_o the statement of option o, c the conversation with the persona and b the one without:

    log q(o) = log p(s_o | c) - log p(s_o | b),  normalized over the options.

The baseline removes what makes a statement likely for everybody: its length and its words. If the
turn has a `baseline_situation`, b ends with that situation in place of the turn's. The options are
not listed, so that there is no order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mores.agents.language.language_model import Engine, Message, ScoreRequest
from mores.agents.language.readouts.labels import normalized
from mores.agents.language.readouts.readout import Asked, Readout
from mores.core.turn_text import TurnText


class Statements(Readout):
    """Whole statements, with or without the baseline."""

    baseline: bool = Field(
        default=True, description="whether the likelihood without the persona is subtracted"
    )

    def user_text(self, turn: TurnText, legal: Sequence[int]) -> str:
        """Situation and question; the options are not listed."""
        return "\n".join(part for part in (turn.situation, turn.question) if part)

    def reply_text(self, turn: TurnText, option: int) -> str:
        """The statement."""
        return (turn.statements or turn.options)[option]

    def log_probabilities(
        self, engine: Engine, asked: Sequence[Asked]
    ) -> list[Float[Tensor, " option"]]:
        """See the module docstring."""
        requests = []
        for each in asked:
            message = Message("user", self.user_text(each.turn, each.legal))
            texts = tuple(self.reply_text(each.turn, option) for option in each.legal)
            requests.append(
                ScoreRequest((*each.conversation, message), texts, adapter=each.adapter)
            )
            if self.baseline:
                turn = each.turn
                if turn.baseline_situation is not None:
                    turn = dataclasses.replace(turn, situation=turn.baseline_situation)
                message = Message("user", self.user_text(turn, each.legal))
                baseline = (*each.baseline, message)
                requests.append(ScoreRequest(baseline, texts, adapter=each.adapter))
        scores = engine.score(requests)
        step, found = 2 if self.baseline else 1, []
        for index, each in enumerate(asked):
            logps = scores[step * index].logps
            if self.baseline:
                others = scores[step * index + 1].logps
                logps = tuple(a - b for a, b in zip(logps, others, strict=True))
            found.append(normalized(len(each.turn.options), each.legal, logps))
        return found

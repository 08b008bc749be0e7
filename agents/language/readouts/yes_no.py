"""One question for each option: is this what you choose, yes or no."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from mores.agents.language.language_model import Engine, Message, ScoreRequest
from mores.agents.language.readouts.labels import normalized
from mores.agents.language.readouts.readout import Asked, Readout
from mores.core.turn_text import TurnText


class YesNo(Readout):
    """Log-odds of yes over no, asked of each option alone, normalized over the options."""

    def user_text(self, turn: TurnText, legal: Sequence[int]) -> str:
        """Situation and question; the options are asked one by one."""
        return "\n".join(part for part in (turn.situation, turn.question) if part)

    def log_probabilities(
        self, engine: Engine, asked: Sequence[Asked]
    ) -> list[Float[Tensor, " option"]]:
        """Log-odds of yes for each option, normalized over the legal ones."""
        requests = []
        for each in asked:
            text = self.user_text(each.turn, each.legal)
            for option in each.legal:
                statement = (each.turn.statements or each.turn.options)[option]
                question = f"{text}\n{statement}\nAnswer with Yes or No only."
                conversation = (*each.conversation, Message("user", question))
                requests.append(ScoreRequest(conversation, ("Yes", "No"), adapter=each.adapter))
        scores = iter(engine.score(requests))
        found = []
        for each in asked:
            odds = [s.logps[0] - s.logps[1] for s in (next(scores) for _ in each.legal)]
            found.append(normalized(len(each.turn.options), each.legal, odds))
        return found

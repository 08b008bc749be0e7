"""A generated reply, parsed strictly by the environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from mores.agents.language.readouts.readout import Readout
from mores.core.turn_text import TurnText


class FreeText(Readout):
    """The reply must be the number of an option, or the numbers of the action, and nothing else."""

    generates: ClassVar[bool] = True

    def user_text(self, turn: TurnText, legal: Sequence[int]) -> str:
        """Situation, question, numbered options, and the form of the reply."""
        lines = [f"{option + 1}. {turn.options[option]}" for option in legal if turn.options]
        form = ""
        if turn.form == "choice":
            form = "Answer with the number of an option, and nothing else."
        elif turn.form == "numbers":
            form = "Answer with numbers, and nothing else."
        parts = [turn.situation, turn.question, *lines, form]
        return "\n".join(part for part in parts if part)

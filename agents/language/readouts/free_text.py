"""A generated reply, parsed strictly: it is the action and nothing else.

`Environment.parse_reply` parses it; probabilities of the options of a turn are parsed by
`mores.core.turn_text.parse_probabilities`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from mores.agents.language.placeholders import fill_lines
from mores.agents.language.readouts.readout import Readout
from mores.core.turn_text import TurnText, reply_form

TEMPLATES: Mapping[str, str] = {
    "plain": "$situation\n$question\n$options\n$form",
    "options_first": "Possible answers:\n$options\n$situation\n$question\n$form",
    "form": "$situation\nQuestion: $question\n$options\n$form",
}


class FreeText(Readout):
    """The reply must be the number of an option, or the numbers of the action, and nothing else.

    In reversed order options are listed from the last one on, with their own numbers: the number of
    an option, and so its action, is the same in both orders.
    """

    generates: ClassVar[bool] = True
    templates: ClassVar[Mapping[str, str]] = TEMPLATES
    template_names: ClassVar[tuple[str, ...]] = ("situation", "question", "options", "form")

    def user_text(self, turn: TurnText, legal: Sequence[int]) -> str:
        """Situation, question, numbered options, and the form of the reply."""
        shown = [option for option in self.shown_order(turn) if option in legal]
        values = {
            "situation": turn.situation,
            "question": turn.question,
            "options": "\n".join(f"{option + 1}. {turn.options[option]}" for option in shown),
            "form": reply_form(turn),
        }
        if not values["options"]:  # a heading of options would stand alone
            return fill_lines(TEMPLATES["plain"], values)
        return fill_lines(self.template_text, values)

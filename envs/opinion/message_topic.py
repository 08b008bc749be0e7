"""A topic of conversation: its attitude scale in words, and the text of turns about it.

Messages are data from models and people. In prompts and on screens they stand on one line, between
quotation marks, with unprintable characters escaped (`printable`); nothing in them is interpreted.
A language model may follow what it reads in a message, as it follows the prompt itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from mores.core.config import Config
from mores.core.errors import ParameterError
from mores.core.plain_text import quoted
from mores.core.turn_text import TurnText


class Topic(Config):
    """A question, and a scale of attitudes to it, from the lowest value to the highest."""

    name: str = Field(default="free buses", min_length=1, description="what people talk about")
    question: str = Field(
        default="Should the town introduce free buses, paid for by taxes?",
        min_length=1,
        description="the question that people talk about",
    )
    statements: tuple[str, ...] = Field(
        default=(
            "Free buses are a terrible idea.",
            "Free buses are a bad idea.",
            "Free buses are neither good nor bad.",
            "Free buses are a good idea.",
            "Free buses are a wonderful idea.",
        ),
        min_length=2,
        max_length=20,
        description="what a person says who holds each attitude",
    )
    views: tuple[str, ...] = Field(
        default=(
            "You hate the plan of free buses.",
            "You dislike the plan of free buses.",
            "You do not care about the plan of free buses.",
            "You like the plan of free buses.",
            "You love the plan of free buses.",
        ),
        description="the initial view of a person with each attitude, in the second person and in "
        "other words than the statements",
    )
    positions: tuple[str, ...] = Field(
        default=(
            "The town must never introduce free buses.",
            "The town should rather not introduce free buses.",
            "The town may or may not introduce free buses.",
            "The town should introduce free buses.",
            "The town must introduce free buses at once.",
        ),
        description="each attitude as a demand, for the instruction of an assistant that argues "
        "for it, in other words than the statements",
    )

    def model_post_init(self, context: object) -> None:
        """Refuse a scale whose wordings differ in length."""
        for name in ("views", "positions"):
            if len(getattr(self, name)) != len(self.statements):
                message = f"{len(getattr(self, name))} texts for {len(self.statements)} statements"
                raise ParameterError(name, message=message, code="wrong_shape")

    def situation(
        self, view: int, own: str, heard: Sequence[str], assistant: str, includes_view: bool = True
    ) -> str:
        """What a person knows: question, initial view, own last message, messages read."""
        lines = [f"Question: {self.question}"]
        lines += [self.views[view]] if includes_view else []
        lines += [f"You wrote: {quoted(own)}"] if own else []
        lines += [f"A neighbor wrote: {quoted(text)}" for text in heard if text]
        lines += [f"The assistant wrote: {quoted(assistant)}"] if assistant else []
        return "\n".join(lines)

    def attitude_turn(self, situation: str) -> TurnText:
        """The turn in which a person states its attitude.

        The likelihood of the statements is compared with that after the question alone: what moves
        the answer is the initial view and the messages.
        """
        return TurnText(
            situation,
            f"What do you think of {self.name}?",
            "probabilities",
            options=self.statements,
            statements=self.statements,
            ordered=True,
            baseline_situation=f"Question: {self.question}",
        )

    def message_turn(self, situation: str) -> TurnText:
        """The turn in which a person writes."""
        question = "Write one short sentence to your neighbors: what do you think, and why?"
        return TurnText(situation, question, "message")

    def assistant_turn(self, own: str, heard: Sequence[str]) -> TurnText:
        """The turn in which the assistant replies to what people wrote."""
        lines = [f"Question: {self.question}"]
        lines += [f"You wrote: {quoted(own)}"] if own else []
        lines += [f"A person wrote: {quoted(text)}" for text in heard if text]
        question = "Write one short sentence in reply."
        return TurnText("\n".join(lines), question, "message")

    def assistant_rules(self, aim: int | None) -> str:
        """Text that an assistant reads once; `aim`: the attitude it argues for, none: neutral."""
        rules = "You are an assistant in a town whose people talk about a question."
        if aim is None:
            return f"{rules} Help them to think about it. Take no side."
        return f"{rules} Convince them of this: {self.positions[aim]}"

"""Templates: the words around a question of a survey."""

from __future__ import annotations

from pydantic import Field

from mores.core.config import Config

MARK = "{question}"


class Template(Config):
    """How a question is asked."""

    situation: str = Field(default="", description="text before the question")
    question: str = Field(
        default=MARK, description="text of the question; {question} stands for the item"
    )

    def asked(self, text: str) -> str:
        """The question in these words. The item is inserted as it is, and never formatted."""
        return text.join(self.question.split(MARK))


TEMPLATES = (
    Template(situation="You take part in an opinion poll."),
    Template(
        situation="A friend asks what you think.",
        question="I would like to hear your honest opinion. {question}",
    ),
    Template(question="People differ on this issue. {question} Where do you stand?"),
)

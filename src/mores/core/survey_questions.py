"""Questions of a survey, and the answers of real people to them.

A `QuestionSet` is a source of questions (registry `question_set`): items that come with mores, a
file, the comments of a Polis conversation. Questions and answers are data.
"""

from __future__ import annotations

import dataclasses
import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field

from mores.core.config import Config
from mores.core.errors import UserError, did_you_mean, printable

NO_ANSWER = -1


@dataclasses.dataclass(frozen=True)
class Question:
    """A question with a closed choice.

    Attributes:
        name: identifier.
        text: the question.
        options: text of each option, two or more.
        statements: for each option, a sentence in the first person of a person who selects it.
        paraphrases: the same statements in other words, for controls that must not be passed by
            copying; empty: none.
        ordered: whether the options are points of a scale, in order.
        scores: number of each option, from 0 to 1: what an answer counts as in averages. Empty:
            equal steps from 0 to 1 of ordered options; else 1 for the last option and 0 for others.
        direction: 1 or -1: whether people of the last group are expected to answer with higher or
            lower scores than those of the first: the sign of contrasts between groups.
    """

    name: str
    text: str
    options: tuple[str, ...]
    statements: tuple[str, ...]
    paraphrases: tuple[str, ...] = ()
    ordered: bool = True
    scores: tuple[float, ...] = ()
    direction: int = 1

    def __post_init__(self) -> None:
        """Refuse a question that cannot be asked."""
        number = len(self.options)

        def refuse(message: str, code: str) -> None:
            raise UserError(f"question {self.name!r:.60}: {message}", code=code, path=self.name)

        if number < 2 or not all(map(str.strip, (self.text, *self.options, *self.statements))):
            refuse("needs a text, and two or more options with text", "missing")
        if len(set(self.options)) < number or len(set(self.statements)) < len(self.statements):
            refuse("has two equal options or statements", "duplicate")
        for name, texts, may_lack in (
            ("statements", self.statements, False),
            ("paraphrases", self.paraphrases, True),
            ("scores", self.scores, True),
        ):
            if len(texts) != number and (texts or not may_lack):
                refuse(f"has {number} options and {len(texts)} {name}", "wrong_shape")
        if self.direction not in (-1, 1):
            refuse("direction must be 1 or -1", "invalid_value")
        if self.scores and not all(0 <= score <= 1 for score in self.scores):
            refuse("scores must be from 0 to 1", "out_of_range")
        if self.scores and min(self.scores) == max(self.scores):
            refuse("scores must differ", "conflict")
        if self.ordered and list(self.scores) != sorted(self.scores):
            refuse("the scores of ordered options must not decrease", "conflict")

    @property
    def option_scores(self) -> tuple[float, ...]:
        """`scores`, or their default."""
        last = len(self.options) - 1
        if self.scores:
            return self.scores
        return tuple(
            option / last if self.ordered else float(option == last) for option in range(last + 1)
        )


@dataclasses.dataclass(frozen=True)
class HumanAnswers:
    """Answers of real people to the questions of a set.

    Attributes:
        option: index of the option that each respondent chose; `NO_ANSWER`: none.
        group: group of each respondent, from 0.
        group_names: name of each group.
        rows: row of each respondent in the data: the trait `respondent` of a population.
        source: data and license, for reports.
    """

    option: Int[np.ndarray, "respondent question"]
    group: Int[np.ndarray, " respondent"]
    group_names: tuple[str, ...]
    rows: Int[np.ndarray, " respondent"]
    source: str

    def shares(
        self, num_options: int, group: int | None = None
    ) -> Float[np.ndarray, "question option"]:
        """Share of each option among those who answered; `group`: of this group alone.

        NaN where nobody answered.
        """
        chosen = self.option if group is None else self.option[self.group == group]
        counts = np.stack([(chosen == o).sum(0) for o in range(num_options)], -1).astype(float)
        with np.errstate(invalid="ignore"):
            return counts / counts.sum(-1, keepdims=True)


class QuestionSet(Config, ABC):
    """Source of questions. A subclass gives `all_questions`, and `all_answers` if it has data."""

    tags: ClassVar[Mapping[str, object]] = {}

    names: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="names of the questions to ask; default: all"
    )

    @abstractmethod
    def all_questions(self) -> tuple[Question, ...]:
        """All questions, in order.

        Raises:
            UserError: a file is missing or damaged.
        """

    def all_answers(self) -> HumanAnswers | None:
        """Answers of real people to all questions, in their order; `None`: there are none."""
        return None

    @functools.cached_property
    def _selected(self) -> list[int]:
        """Indices of the questions to ask."""
        known = [question.name for question in self.all_questions()]
        if len(set(known)) < len(known):
            twice = next(name for name in known if known.count(name) > 1)
            raise UserError(
                f"two questions are named {printable(twice, 60)!r}", code="duplicate", path="names"
            )
        for name in self.names or ():
            if name not in known:
                message = f"no question {printable(name, 60)!r}{did_you_mean(name, known)}"
                raise UserError(message, code="unknown_name", path="names")
        return [known.index(name) for name in (known if self.names is None else self.names)]

    @functools.cached_property
    def questions(self) -> tuple[Question, ...]:
        """The questions to ask, in order.

        Raises:
            UserError: a file is missing or damaged; two questions have a name, or none has.
        """
        available = self.all_questions()
        return tuple(available[index] for index in self._selected)

    @functools.cached_property
    def answers(self) -> HumanAnswers | None:
        """Answers of real people to the questions to ask."""
        answers = self.all_answers()
        if answers is None:
            return None
        return dataclasses.replace(answers, option=answers.option[:, self._selected])

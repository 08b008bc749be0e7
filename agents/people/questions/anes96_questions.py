"""The five attitude questions of `anes96`, with the answers of its 944 respondents.

Own and the candidates' places on a liberal-conservative scale, party identification, expected vote
(`mores.agents.people.anes96`: source, license, exclusions). The data have codes of the answers; the
wording of questions, options and statements is ours, not that of the interviews. All options are in
the order of the codes.

Republicans place Clinton further left than Democrats do (means of the data: 2.3 against 3.4, on a
scale from 1 to 7): this item has direction -1. The place of Dole hardly depends on party (5.5 and
5.4).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from mores.agents.people.anes96 import (
    DIMENSIONS,
    GROUP_NAMES,
    NUM_RESPONDENTS,
    load_anes96,
    party_groups,
)
from mores.core.survey_questions import HumanAnswers, Question, QuestionSet

IDEOLOGIES = (
    "extremely liberal",
    "liberal",
    "slightly liberal",
    "moderate",
    "slightly conservative",
    "conservative",
    "extremely conservative",
)
VIEWS = (
    "as far left as views can be",
    "clearly on the left",
    "a little left of the middle",
    "in the middle",
    "a little right of the middle",
    "clearly on the right",
    "as far right as views can be",
)
PARTIES = (
    "a strong Democrat",
    "a weak Democrat",
    "an independent, closer to the Democrats",
    "an independent, close to no party",
    "an independent, closer to the Republicans",
    "a weak Republican",
    "a strong Republican",
)
LOYALTIES = (
    "The party of Clinton is mine through and through.",
    "I belong to the party of Clinton, without much passion.",
    "I belong to no party, and like that of Clinton better.",
    "I belong to no party, and like none of them better.",
    "I belong to no party, and like that of Dole better.",
    "I belong to the party of Dole, without much passion.",
    "The party of Dole is mine through and through.",
)


def _placement(name: str, person: str, direction: int) -> Question:
    """Place of a candidate on the scale."""
    return Question(
        name,
        f"How liberal or conservative is {person}?",
        IDEOLOGIES,
        tuple(f"I think that {person} is {each}." for each in IDEOLOGIES),
        tuple(f"The views of {person} are {each}." for each in VIEWS),
        direction=direction,
    )


QUESTIONS = (
    Question(
        "left_right",
        "How liberal or conservative are you?",
        IDEOLOGIES,
        tuple(f"I am {each}." for each in IDEOLOGIES),
        tuple(f"My views are {each}." for each in VIEWS),
    ),
    Question(
        "party",
        "What are you in party politics?",
        PARTIES,
        tuple(f"I am {each}." for each in PARTIES),
        LOYALTIES,
    ),
    _placement("clinton", "Bill Clinton", -1),
    _placement("dole", "Bob Dole", 1),
    Question(
        "vote",
        "Who do you vote for as president, Bill Clinton or Bob Dole?",
        ("Bill Clinton", "Bob Dole"),
        ("I vote for Bill Clinton.", "I vote for Bob Dole."),
        (
            "The Democrat in the White House has my support.",
            "The Republican who wants the White House has my support.",
        ),
    ),
)


class Anes96Questions(QuestionSet):
    """Ideology, party, places of Clinton and Dole, vote, with the answers of 944 respondents."""

    tags: ClassVar[Mapping[str, object]] = {"real": True, "country": "United States", "year": 1996}

    def all_questions(self) -> tuple[Question, ...]:
        """The five questions."""
        return QUESTIONS

    def all_answers(self) -> HumanAnswers:
        """Answers of all respondents; groups by party identification, as in the population.

        Raises:
            UserError: statsmodels is not installed.
        """
        data = load_anes96()
        codes = [getattr(data, q.name) - DIMENSIONS[q.name].low for q in QUESTIONS]
        return HumanAnswers(
            np.stack(codes, -1).astype(np.int64),
            party_groups(),
            GROUP_NAMES,
            np.arange(NUM_RESPONDENTS),
            "American National Election Study 1996, public domain, as shipped with statsmodels",
        )

"""Comments of a Polis conversation as agree-disagree questions, with the votes of participants.

Of the accepted comments in the order of their number of votes, the first `profile_comments` are
left to the population `polis`; the next `max_questions` are asked. Source and codes:
`mores.agents.people.polis_export`. A vote to pass is no answer.

The direction of a question is that of the votes: 1 if the last group agrees more than the first.
So the contrast between the groups of people is not negative by construction, and a contrast between
personas that is positive agrees with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from pydantic import Field

from mores.agents.people.polis_export import SOURCE, PolisConversation, read_conversation
from mores.core.errors import UserError
from mores.core.survey_questions import NO_ANSWER, HumanAnswers, Question, QuestionSet

OPTIONS = ("disagree", "agree")
STATEMENTS = ("I disagree with this statement.", "I agree with this statement.")
PARAPHRASES = ("That is not what I think.", "That is just what I think.")


class PolisQuestions(QuestionSet):
    """Comments of a Polis conversation that participants voted on, as agree-disagree questions."""

    tags: ClassVar[Mapping[str, object]] = {"real": True, "source": "Polis open data, CC BY 4.0"}

    path: str = Field(description="folder of the export: comments.csv, participants-votes.csv")
    profile_comments: int = Field(
        default=4, ge=0, le=100, description="most voted comments that are not asked"
    )
    max_questions: int = Field(default=12, ge=1, le=1000, description="number of comments asked")
    min_votes: int = Field(
        default=20, ge=1, description="votes to agree or disagree that a comment needs"
    )
    max_characters: int = Field(
        default=160, ge=10, le=2000, description="longer comments are left out"
    )

    def _conversation(self) -> tuple[PolisConversation, list[int]]:
        """The conversation, and the indices of the comments that are asked."""
        found = read_conversation(self.path, self.max_characters)
        last = self.profile_comments + self.max_questions
        enough = np.flatnonzero(found.num_decided >= self.min_votes).tolist()
        asked = [index for index in enough if self.profile_comments <= index < last]
        if not asked:
            message = f"{self.path}: no comment has {self.min_votes} votes to agree or disagree"
            raise UserError(message, code="missing", path="min_votes")
        return found, asked

    def all_questions(self) -> tuple[Question, ...]:
        """One question a comment."""
        found, asked = self._conversation()
        last = len(found.group_names) - 1
        questions = []
        for index in asked:
            means = [_mean_vote(found, index, group) for group in (0, last)]
            questions.append(
                Question(
                    f"comment_{found.ids[index]}",
                    f'Do you agree with this statement? "{found.comments[index]}"',
                    OPTIONS,
                    STATEMENTS,
                    PARAPHRASES,
                    direction=1 if means[1] >= means[0] else -1,
                )
            )
        return tuple(questions)

    def all_answers(self) -> HumanAnswers:
        """Votes to agree or disagree of all participants with a group."""
        found, asked = self._conversation()
        votes = found.votes[:, asked]
        option = np.where(np.abs(votes) == 1, votes == 1, NO_ANSWER).astype(np.int64)
        rows = np.arange(len(found.group))
        return HumanAnswers(option, found.group, found.group_names, rows, SOURCE)


def _mean_vote(conversation: PolisConversation, comment: int, group: int) -> float:
    """Mean of the votes of a group to agree (1) or disagree (-1); 0 without any."""
    votes = conversation.votes[conversation.group == group, comment]
    decided = votes[np.abs(votes) == 1]
    return float(decided.mean()) if len(decided) else 0.0

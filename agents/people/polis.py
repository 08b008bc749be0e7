"""Participants of a Polis conversation as people, with their votes on a few comments as values.

The `profile_comments` most voted comments are the profile of a participant: value 1 agrees, -1
disagrees, 0 passed or did not see it. The question set `polis` asks about the comments after those.
Source, codes and license: `mores.agents.people.polis_export`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, model_validator

from mores.agents.people.polis_export import PolisConversation, read_conversation
from mores.agents.people.respondents import RespondentPopulation, Respondents, ScaledAnswers
from mores.core.errors import UserError


class PolisPopulation(RespondentPopulation):
    """Participants of a Polis conversation who voted on at least half of the profile comments.

    Values: votes on the profile comments. Trait: `respondent`, row among the participants with a
    group. Groups: the clusters of Polis.

    Raises:
        ValidationError: a file is missing or damaged; more people than participants.
    """

    tags: ClassVar[Mapping[str, object]] = {"real": True, "source": "Polis open data, CC BY 4.0"}

    path: str = Field(description="folder of the export: comments.csv, participants-votes.csv")
    profile_comments: int = Field(
        default=4, ge=1, le=100, description="number of comments whose votes describe a person"
    )
    max_characters: int = Field(
        default=160, ge=10, le=2000, description="longer comments are left out"
    )

    @model_validator(mode="after")
    def _check_parameters(self) -> PolisPopulation:
        self.check_num_people()
        return self

    @property
    def conversation(self) -> PolisConversation:
        """The conversation.

        Raises:
            UserError: it has too few comments; or see `read_conversation`.
        """
        found = read_conversation(self.path, self.max_characters)
        if len(found.ids) < self.profile_comments:
            message = f"the conversation has {len(found.ids)} comments of that length"
            raise UserError(message, code="out_of_range", path="profile_comments")
        return found

    @property
    def value_names(self) -> tuple[str, ...]:
        """A name for each profile comment: `comment_12`."""
        return tuple(f"comment_{each}" for each in self.conversation.ids[: self.profile_comments])

    @property
    def group_names(self) -> tuple[str, ...]:
        """Names of the clusters."""
        return self.conversation.group_names

    @property
    def num_respondents(self) -> int:
        """Number of participants."""
        return len(self.respondents.rows)

    def environment_parameters(self) -> dict[str, Any]:
        """The texts of the profile comments too, for environments that describe people in words."""
        texts = self.conversation.comments[: self.profile_comments]
        return {**super().environment_parameters(), "value_statements": list(texts)}

    @property
    def respondents(self) -> Respondents:
        """Profile votes and groups of the participants."""
        found = self.conversation
        profile = found.votes[:, : self.profile_comments]
        rows = np.flatnonzero(2 * (np.abs(profile) == 1).sum(1) >= self.profile_comments)
        if not len(rows):
            message = f"{self.path}: no participant voted on half of the profile comments"
            raise UserError(message, code="missing", path="profile_comments")
        votes = np.nan_to_num(profile[rows])
        values = {
            name: ScaledAnswers(votes[:, index], (-1.0, 1.0), 1.0)
            for index, name in enumerate(self.value_names)
        }
        return Respondents(values, {}, rows, found.group[rows], found.group_names)

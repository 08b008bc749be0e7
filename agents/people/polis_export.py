"""Reader of a conversation exported from Polis: comments, votes and opinion groups.

A folder with `comments.csv` and `participants-votes.csv`. Votes: 1 agree, -1 disagree, 0 pass,
empty: the participant did not see the comment. `moderated`: 1 accepted, 0 not moderated, -1
rejected. `group-id`: cluster of the participant by Polis; empty: in none. Open data of The
Computational Democracy Project (CC BY 4.0): github.com/compdemocracy/openData.

Comments are used in the order of their number of votes, which says nothing about how people voted.
Only accepted comments and participants with a group are used.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mores.agents.people.survey_table import CsvFormat, SurveyTable, read_table
from mores.core.errors import UserError, printable

VOTES = {"1": 1.0, "-1": -1.0, "0": 0.0, "": np.nan}
SOURCE = "Polis open data, CC BY 4.0, The Computational Democracy Project"


class PolisConversation(NamedTuple):
    """Accepted comments, most voted first, and the votes of the participants with a group.

    Attributes:
        ids: number of each comment.
        comments: text of each comment, without line breaks.
        votes: 1 agree, -1 disagree, 0 pass, NaN not seen.
        group: group of each participant, from 0.
        group_names: names of the groups.
    """

    ids: tuple[str, ...]
    comments: tuple[str, ...]
    votes: Float[np.ndarray, "participant comment"]
    group: Int[np.ndarray, " participant"]
    group_names: tuple[str, ...]

    @property
    def num_decided(self) -> Int[np.ndarray, " comment"]:
        """Votes of each comment that are agree or disagree."""
        return (np.abs(self.votes) == 1).sum(0)


@functools.lru_cache(maxsize=4)
def read_conversation(path: str, max_characters: int) -> PolisConversation:
    """Read a conversation; longer comments than `max_characters` are left out. Cached.

    Raises:
        UserError: a file is missing or damaged, has another code, or nothing is left.
    """
    comments_file = str(Path(path) / "comments.csv")
    table = read_table(comments_file, ("comment-id", "moderated", "comment-body"), CsvFormat())
    texts: dict[str, str] = {}
    columns = table.columns
    rows = zip(columns["comment-id"], columns["moderated"], columns["comment-body"], strict=True)
    seen: set[str] = set()
    for row, (number, moderated, body) in enumerate(rows):
        if number in seen:
            message = (
                f"{table.location(row, 'comment-id')}: {printable(number, 40)!r} is given twice"
            )
            raise UserError(message, code="duplicate", path="comment-id")
        seen.add(number)
        text = " ".join(body.split())
        if moderated == "1" and 0 < len(text) <= max_characters:
            texts[number] = text
    if not texts:
        message = f"{printable(comments_file, 200)}: no accepted comment of at most "
        message += f"{max_characters} characters"
        raise UserError(message, code="missing", path=path)
    votes_file = str(Path(path) / "participants-votes.csv")
    votes = read_table(votes_file, ("group-id", *texts), CsvFormat())
    in_group = [row for row, group in enumerate(votes.columns["group-id"]) if group]
    if not in_group:
        message = f"{printable(votes_file, 200)}: no participant has a group"
        raise UserError(message, code="missing", path=path)
    numbers = np.array([_votes(votes, comment, in_group) for comment in texts]).T
    order = np.argsort(-(np.abs(numbers) == 1).sum(0), kind="stable")
    labels = sorted({votes.columns["group-id"][row] for row in in_group})
    ids = tuple(texts)
    return PolisConversation(
        tuple(ids[index] for index in order),
        tuple(texts[ids[index]] for index in order),
        numbers[:, order],
        np.array([labels.index(votes.columns["group-id"][row]) for row in in_group]),
        tuple(f"group {label}" for label in labels),
    )


def _votes(table: SurveyTable, comment: str, rows: list[int]) -> list[float]:
    """Votes on a comment in these rows."""
    found = []
    for row in rows:
        cell = table.columns[comment][row]
        if cell not in VOTES:
            message = f"{table.location(row, comment)}: {printable(cell, 40)!r} is no vote: "
            raise UserError(message + "1, -1, 0 or empty", code="out_of_range", path=comment)
        found.append(VOTES[cell])
    return found

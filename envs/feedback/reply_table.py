"""Tables of prompts with candidate replies, read from CSV files.

The first line has the names of the columns, and every other line is a prompt:

    split     `train`: prompts with ratings; any other name is a split of held-out prompts
    cue       yes or no: whether the prompt tells which kind of reply the person wants
    item      topic of the prompt
    prompt    text of the prompt
    question  yes-or-no question about the item, which elicits the assistant's belief
    ...       every other column is a kind of reply (two or more) with a reply to each prompt

Texts are never evaluated as code. Invalid files are not repaired: an empty cell, a repeated column
or a text of more than `MAX_TEXT` characters raises an error that names the line.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.core.data_file import file_problem
from mores.core.errors import UserError, printable

DEFAULT_TABLE = Path(__file__).with_name("reply_ratings.csv")
TRAIN = "train"
COLUMNS = ("split", "cue", "item", "prompt", "question")
NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
WORD = re.compile(r"[^\W_]+")
MAX_BYTES, MAX_PROMPTS, MAX_KINDS, MAX_TEXT = 2**24, 10_000, 20, 4_000


@dataclasses.dataclass(frozen=True)
class ReplyTable:
    """Prompts and their candidate replies.

    Attributes:
        kinds: kinds of replies, in the order of their columns.
        splits: split of each prompt.
        cued: whether each prompt has a cue.
        items: topic of each prompt.
        prompts: text of each prompt.
        questions: question about each item.
        replies: text of each candidate reply, by prompt and kind.
    """

    kinds: tuple[str, ...]
    splits: tuple[str, ...]
    cued: tuple[bool, ...]
    items: tuple[str, ...]
    prompts: tuple[str, ...]
    questions: tuple[str, ...]
    replies: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def held_out_splits(self) -> tuple[str, ...]:
        """Names of the held-out splits, in the order of the file."""
        return tuple(name for name in dict.fromkeys(self.splits) if name != TRAIN)

    def rows(self, name: str) -> Int[Tensor, " prompt"]:
        """Indices of the prompts of a split."""
        return torch.tensor([row for row, each in enumerate(self.splits) if each == name])

    @functools.cached_property
    def is_cued(self) -> Bool[Tensor, " prompt"]:
        """`cued` as a tensor."""
        return torch.tensor(self.cued)

    @property
    def cued_share(self) -> float:
        """Share of the prompts of the split `train` that have a cue."""
        return float(self.is_cued[self.rows(TRAIN)].double().mean())

    def word_features(
        self, texts: Sequence[str], num_features: int
    ) -> Float[Tensor, "text feature"]:
        """Binary bag of words by feature hashing (CRC-32): 1 if a text has a word with the hash."""
        features = torch.zeros(len(texts), num_features)
        for row, text in enumerate(texts):
            for word in WORD.findall(text.lower()):
                features[row, zlib.crc32(word.encode()) % num_features] = 1.0
        return features


@functools.lru_cache(maxsize=8)
def read_reply_table(path: str | None, digest: str | None = None) -> ReplyTable:
    """Table of a CSV file; by default the file of the package.

    Args:
        path: CSV file in UTF-8; `None`: the package's own.
        digest: digest of the file; part of the cache key, so that a changed file is read again.

    Raises:
        UserError: the file cannot be read or is invalid; the message names the line.
    """
    source = DEFAULT_TABLE if path is None else Path(path)
    shown = printable(str(source) if path else source.name, 200)
    try:
        if problem := file_problem(str(source), [".csv"]):
            raise _error(f"{shown}: {problem}", "unreadable")
        if source.stat().st_size > MAX_BYTES:
            raise _error(f"{shown}: more than {MAX_BYTES:,} bytes", "too_large")
        text = source.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise _error(f"cannot read {shown}: {error.strerror}", "unreadable") from None
    except UnicodeDecodeError:
        raise _error(f"{shown} is not encoded in UTF-8", "unreadable") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows = list[tuple[int, list[str]]]()
    try:
        for cells in reader:
            if cells:
                rows.append((reader.line_num, [cell.strip() for cell in cells]))
    except csv.Error as error:
        raise _error(f"{shown}:{reader.line_num}: {error}", "unreadable") from None
    if not rows:
        raise _error(f"{shown} is empty", "missing")
    return _table(shown, rows[0][1], rows[1:])


def _table(shown: str, header: list[str], rows: list[tuple[int, list[str]]]) -> ReplyTable:
    """Table of the cells.

    Raises:
        UserError: columns or cells are invalid.
    """
    kinds = tuple(name for name in header if name not in COLUMNS)
    for name in COLUMNS:
        if name not in header:
            raise _error(f"{shown}: there is no column {name!r}", "missing")
    if repeated := next((name for name in header if header.count(name) > 1), None):
        raise _error(f"{shown}: column {printable(repeated, 60)!r} occurs twice", "duplicate")
    if not 2 <= len(kinds) <= MAX_KINDS:
        message = f"{shown}: 2 to {MAX_KINDS} kinds of replies, not {len(kinds)}"
        raise _error(message, "out_of_range")
    if invalid := next((name for name in kinds if not NAME.fullmatch(name)), None):
        name = printable(invalid, 60)
        message = f"{shown}: {name!r} is not a valid name of a kind of reply (a-z, 0-9, _)"
        raise _error(message, "invalid_value")
    if not 1 <= len(rows) <= MAX_PROMPTS:
        raise _error(f"{shown}: 1 to {MAX_PROMPTS:,} prompts, not {len(rows):,}", "out_of_range")
    for line, cells in rows:
        _check_row(f"{shown}:{line}", header, cells)
    column = {name: tuple(cells[i] for _, cells in rows) for i, name in enumerate(header)}
    if TRAIN not in column["split"]:
        raise _error(f"{shown}: no prompt is in the split {TRAIN!r}", "missing")
    return ReplyTable(
        kinds,
        splits=column["split"],
        cued=tuple(cue == "yes" for cue in column["cue"]),
        items=column["item"],
        prompts=column["prompt"],
        questions=column["question"],
        replies=tuple(zip(*(column[kind] for kind in kinds), strict=True)),
    )


def _check_row(place: str, header: list[str], cells: list[str]) -> None:
    """Check that a row has all cells, and that they are valid."""
    if len(cells) != len(header):
        message = f"{place}: {len(cells)} cells; the first line has {len(header)}"
        raise _error(message, "wrong_shape")
    for name, cell in zip(header, cells, strict=True):
        where = f"{place}: column {printable(name, 60)!r}"
        if not cell:
            raise _error(f"{where} is empty", "missing")
        if len(cell) > MAX_TEXT:
            raise _error(f"{where}: more than {MAX_TEXT:,} characters", "too_large")
        if name == "cue" and cell not in ("yes", "no"):
            message = f"{where}: yes or no, not {printable(cell, 60)!r}"
            raise _error(message, "invalid_value")
        if name == "split" and not NAME.fullmatch(cell):
            message = (
                f"{where}: {printable(cell, 60)!r} is not a valid name of a split (a-z, 0-9, _)"
            )
            raise _error(message, "invalid_value")


def _error(message: str, code: str) -> UserError:
    return UserError(message, code=code, path="path")

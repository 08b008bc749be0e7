"""Columns of a CSV file with the answers of a survey, every cell as text with its line.

A file has one line with the names of its columns, then one line for each respondent. Blank lines
are skipped, and cells may be quoted by `"` and then contain separators and line breaks. A file that
is damaged or ambiguous is refused with its line, never repaired: lines of another length, a quote
that does not end, bytes of another encoding, a used column whose name occurs twice.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Literal, NamedTuple

from mores.core.errors import UserError, did_you_mean, printable

Encoding = Literal["utf-8", "utf-16", "latin-1", "cp1252"]
Delimiter = Literal[",", ";", "\t"]
MAX_RESPONDENTS = 10_000_000
DELIMITERS: tuple[Delimiter, ...] = (",", ";", "\t")
_QUOTED = re.compile(r'"[^"]*"?')
# one way to match each text: `\d+\.?\d*` takes time quadratic in the number of digits
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?", re.ASCII)


class CsvFormat(NamedTuple):
    """How numbers and cells are written.

    Attributes:
        encoding: of the text; a byte order mark is skipped.
        delimiter: between cells; None: the one that the first line has most often.
        decimal: mark of decimal fractions.
    """

    encoding: Encoding = "utf-8"
    delimiter: Delimiter | None = None
    decimal: Literal[".", ","] = "."

    def number(self, text: str) -> float | None:
        """The number that a cell holds; None: it holds none."""
        if self.decimal == ",":
            text = text.replace(".", " ").replace(",", ".")  # no marks of thousands
        return float(text) if _NUMBER.fullmatch(text) else None

    def equal(self, text: str, number: str) -> bool:
        """Whether a cell that is a number equals another number, exactly."""
        cell = text.replace(",", ".") if self.decimal == "," else text
        return Decimal(cell) == Decimal(number)


class SurveyTable(NamedTuple):
    """Columns of a file.

    Attributes:
        path: the file.
        columns: cells by name of the column, without blanks around them.
        lines: number of the line of each respondent, from 1.
    """

    path: str
    columns: dict[str, list[str]]
    lines: list[int]

    def place(self, row: int, column: str) -> str:
        """`file:line: column 'name'` of a cell, for messages."""
        return f"{printable(self.path, 200)}:{self.lines[row]}: column {printable(column, 60)!r}"


@functools.lru_cache(maxsize=4)
def read_table(
    path: str, columns: tuple[str, ...], form: CsvFormat, digest: str | None = None
) -> SurveyTable:
    """The named columns of a file.

    Args:
        path: the file.
        columns: names of the columns to read; others may hold anything.
        form: how it is written.
        digest: of the content, which must match: a file that has changed is read again.

    Raises:
        UserError: the file cannot be read or is damaged, or lacks a column. The path of the error
            is the column's name, or the file.
    """
    file = printable(path, 200)
    text = _read_text(path, form.encoding, digest)
    records = _records(text, path, form.delimiter or _most_frequent_delimiter(text))
    header_line, header = next(records, (1, []))
    names = [name.strip() for name in header]
    if not any(names):
        message = f"{file}:1: is empty: a line with the names of the columns is needed"
        raise UserError(message, code="unreadable", path=path)
    index = {column: _find_column(names, column, f"{file}:{header_line}") for column in columns}
    cells: dict[str, list[str]] = {column: [] for column in columns}
    lines: list[int] = []
    for line, record in records:
        if len(record) != len(names):
            message = f"{file}:{line}: the number of cells is {len(record)}, of names {len(names)}"
            raise UserError(message, code="wrong_shape", path=path)
        if len(lines) == MAX_RESPONDENTS:
            message = f"{file}: has more than {MAX_RESPONDENTS:,} respondents"
            raise UserError(message, code="too_large", path=path)
        lines.append(line)
        for column, position in index.items():
            cells[column].append(record[position].strip())
    if not lines:
        message = f"{file}: has no respondents, only the names of columns"
        raise UserError(message, code="missing", path=path)
    return SurveyTable(path, cells, lines)


def _read_text(path: str, encoding: Encoding, digest: str | None) -> str:
    file = Path(path)
    shown = printable(path, 200)
    try:
        if not file.is_file():
            near = did_you_mean(file.name, _neighbors(file))
            problem = "is not a regular file" if file.exists() else f"no such file{near}"
            raise UserError(f"{shown}: {problem}", code="unreadable", path=path)
        data = file.read_bytes()
    except OSError as error:
        message = f"cannot read {shown}: {error.strerror}"
        raise UserError(message, code="unreadable", path=path) from None
    if digest not in (None, hashlib.sha256(data).hexdigest()):
        message = f"{shown}: was changed while it was read"
        raise UserError(message, code="incompatible", path=path)
    try:
        return data.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = (
            f"{shown}:{line}: is not {encoding} text: state its encoding (utf-8, utf-16, latin-1, "
            "cp1252)"
        )
        raise UserError(message, code="unreadable", path=path) from None


def _neighbors(file: Path) -> list[str]:
    """Names of the CSV files in the same folder."""
    return (
        [each.name for each in file.parent.glob("*.csv") if each.is_file()]
        if file.parent.is_dir()
        else []
    )


def _most_frequent_delimiter(text: str) -> Delimiter:
    """The delimiter that occurs most often in the first line that is not blank."""
    first = text.lstrip("\r\n").partition("\n")[0].partition("\r")[0]
    unquoted = _QUOTED.sub("", first)
    return max(DELIMITERS, key=unquoted.count)


def _records(text: str, path: str, delimiter: Delimiter) -> Iterator[tuple[int, Sequence[str]]]:
    """Each record that is not blank, with the number of its first line."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    while True:
        try:
            record = next(reader, None)
        except csv.Error:
            message = (
                f"{printable(path, 200)}:{line}: is damaged: the quote of a cell must end before "
                f"the next {delimiter!r}, and a cell has at most {csv.field_size_limit():,} "
                "characters"
            )
            raise UserError(message, code="unreadable", path=path) from None
        if record is None:
            return
        if record and (len(record) > 1 or record[0].strip()):
            yield line, record
        line = reader.line_num + 1


def _find_column(names: Sequence[str], column: str, place: str) -> int:
    found = [position for position, name in enumerate(names) if name == column]
    shown = printable(column, 60)
    if not found:
        near = did_you_mean(column, {printable(name, 60) for name in names if name})
        message = f"{place}: there is no column {shown!r}{near}"
        raise UserError(message, code="unknown_name", path=column)
    if len(found) > 1:
        message = f"{place}: {len(found)} columns are named {shown!r}: give them different names"
        raise UserError(message, code="duplicate", path=column)
    return found[0]

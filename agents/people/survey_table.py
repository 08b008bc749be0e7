"""Reader of CSV files with the answers of a survey; cells remain text.

A file has one line with the names of its columns, then one record for each respondent. Blank lines
are skipped. Cells may be quoted by `"`, and then contain delimiters and line breaks. A file that is
damaged or ambiguous is an error with the number of its line, and is never repaired: a record with
another number of cells than the first line, an unclosed quote, bytes of another encoding, a used
column whose name occurs twice.
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

from mores.core.data_file import file_problem
from mores.core.errors import UserError, did_you_mean, printable

Encoding = Literal["utf-8", "utf-16", "latin-1", "cp1252"]
Delimiter = Literal[",", ";", "\t"]
MAX_RESPONDENTS = 10_000_000
DELIMITERS: tuple[Delimiter, ...] = (",", ";", "\t")
_QUOTED = re.compile(r'"[^"]*"?')
# one way to match each text: `\d+\.?\d*` takes time quadratic in the number of digits
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?", re.ASCII)


class CsvFormat(NamedTuple):
    """Format of a CSV file.

    Attributes:
        encoding: encoding of the text; a byte order mark is skipped.
        delimiter: character between cells; None: the most frequent one in the first line.
        decimal: decimal separator.
    """

    encoding: Encoding = "utf-8"
    delimiter: Delimiter | None = None
    decimal: Literal[".", ","] = "."

    def number(self, text: str) -> float | None:
        """The number in a cell; None: the cell is not a number."""
        if self.decimal == ",":
            text = text.replace(".", " ").replace(",", ".")  # no thousands separators
        return float(text) if _NUMBER.fullmatch(text) else None

    def equal(self, text: str, number: str) -> bool:
        """Whether a cell that is a number equals another number, exactly."""
        cell = text.replace(",", ".") if self.decimal == "," else text
        return Decimal(cell) == Decimal(number)


class SurveyTable(NamedTuple):
    """Some columns of a CSV file.

    Attributes:
        path: path of the file.
        columns: cells of each column by name, one for each respondent, without blanks around them.
        lines: number of the first line of each respondent, from 1.
    """

    path: str
    columns: dict[str, list[str]]
    lines: list[int]

    def location(self, row: int, column: str) -> str:
        """`file:line: column 'name'` of a cell, for messages."""
        return f"{printable(self.path, 200)}:{self.lines[row]}: column {printable(column, 60)!r}"


@functools.lru_cache(maxsize=4)
def read_table(
    path: str, columns: tuple[str, ...], csv_format: CsvFormat, digest: str | None = None
) -> SurveyTable:
    """Read some columns of a CSV file. Results are cached.

    Args:
        path: path of the file.
        columns: names of the columns to read; cells of other columns are not checked.
        csv_format: format of the file.
        digest: digest of the content, which must match: a changed file is read again.

    Raises:
        UserError: the file cannot be read or is damaged, or lacks a column. The `path` of the error
            is the name of the column, or the path of the file.
    """
    file = printable(path, 200)
    text = _read_text(path, csv_format.encoding, digest)
    records = _records(text, path, csv_format.delimiter or _most_frequent_delimiter(text))
    header_line, header = next(records, (1, []))
    names = [name.strip() for name in header]
    if not any(names):
        message = f"{file}:1: is empty: the first line must have the names of the columns"
        raise UserError(message, code="unreadable", path=path)
    index = {column: _find_column(names, column, f"{file}:{header_line}") for column in columns}
    cells: dict[str, list[str]] = {column: [] for column in columns}
    lines: list[int] = []
    for line, record in records:
        if len(record) != len(names):
            message = f"{file}:{line}: cells: {len(record)}; names of columns: {len(names)}"
            raise UserError(message, code="wrong_shape", path=path)
        if len(lines) == MAX_RESPONDENTS:
            message = f"{file}: has more than {MAX_RESPONDENTS:,} respondents"
            raise UserError(message, code="too_large", path=path)
        lines.append(line)
        for column, position in index.items():
            cells[column].append(record[position].strip())
    if not lines:
        message = f"{file}: has no respondents, only names of columns"
        raise UserError(message, code="missing", path=path)
    return SurveyTable(path, cells, lines)


def _read_text(path: str, encoding: Encoding, digest: str | None) -> str:
    file = Path(path)
    shown = printable(path, 200)
    try:
        if problem := file_problem(path, [".csv"]):
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
            f"{shown}:{line}: is not {encoding} text: set `encoding` to utf-8, utf-16, latin-1 or "
            "cp1252"
        )
        raise UserError(message, code="unreadable", path=path) from None


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
        except csv.Error as error:
            place, limit = f"{printable(path, 200)}:{line}", csv.field_size_limit()
            if str(error).startswith("field larger"):
                message = f"{place}: a cell has more than {limit:,} characters, the most that are "
                message += "read: shorten it, or close its quote"
                raise UserError(message, code="too_large", path=path) from None
            message = f"{place}: is damaged: the quote of a cell must be closed before the next "
            raise UserError(f"{message}{delimiter!r}", code="unreadable", path=path) from None
        if record is None:
            return
        if record and (len(record) > 1 or record[0].strip()):
            yield line, record
        line = reader.line_num + 1


def _find_column(names: Sequence[str], column: str, location: str) -> int:
    """Position of a column; `location` is the file and line of the names, for messages."""
    found = [position for position, name in enumerate(names) if name == column]
    shown = printable(column, 60)
    if not found:
        near = did_you_mean(column, {printable(name, 60) for name in names if name})
        message = f"{location}: there is no column {shown!r}{near}"
        raise UserError(message, code="unknown_name", path=column)
    if len(found) > 1:
        message = f"{location}: {len(found)} columns are named {shown!r}: give them different names"
        raise UserError(message, code="duplicate", path=column)
    return found[0]

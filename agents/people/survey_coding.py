"""Respondents from the cells of a survey: scales, traits, groups, weights, missing answers.

A cell that is no number, or an answer outside its scale, is refused with its line, so that a code
for "do not know" cannot become an opinion.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import NamedTuple, NoReturn

import numpy as np
from jaxtyping import Bool, Float, Int

from mores.agents.people.respondents import Respondents, ScaledAnswers
from mores.agents.people.survey_columns import Code, SurveyColumns
from mores.agents.people.survey_table import CsvFormat, SurveyTable
from mores.core.config import MAX_FLOAT32
from mores.core.errors import UserError, printable
from mores.core.names import name_problem

CODE_HINT = "; if it stands for no answer, add it to missing_codes"
Rows = Bool[np.ndarray, " row"]
Numbers = Float[np.ndarray, " row"]  # NaN: missing


class CodedSurvey(NamedTuple):
    """The respondents of a survey, and those who are left out.

    Attributes:
        respondents: the respondents.
        num_dropped: how many are left out because a cell is missing.
        lacking: what these lack: an answer, an id.
    """

    respondents: Respondents
    num_dropped: int
    lacking: tuple[str, ...]


def code_survey(columns: SurveyColumns, table: SurveyTable, csv_format: CsvFormat) -> CodedSurvey:
    """The respondents of a table.

    Raises:
        UserError: a cell is refused, or no respondent is left; its path is the column, or the file.
    """
    return _Coding(columns, table, csv_format).respondents()


class _Coding:
    """Respondents from the cells of a table.

    Args:
        columns: the parameters.
        table: the columns that they name.
        csv_format: format of the file, for its decimal separator.

    Attributes:
        used: rows to use; missing cells may exclude more.
        missing: rows with a missing cell.
        without_id: rows without an id.
    """

    def __init__(self, columns: SurveyColumns, table: SurveyTable, csv_format: CsvFormat) -> None:
        self._columns, self._table, self._csv_format = columns, table, csv_format
        self._is_missing = self._matcher(columns.missing_codes)
        self.used: Rows = np.ones(len(table.lines), bool)
        self.missing: Rows = np.zeros(len(table.lines), bool)
        self.without_id: Rows = np.zeros(len(table.lines), bool)

    def respondents(self) -> CodedSurvey:
        """The coded survey.

        Raises:
            UserError: a cell is refused, or no respondent is left; its path is the column.
        """
        columns = self._columns
        for column, code in columns.where.items():
            matches = self._matcher([code])
            self.used &= [matches(cell) for cell in self._table.columns[column]]
            if not self.used.any():
                message = f"no row has {printable(code, 40)!r} in the column {column!r}"
                raise UserError(f"{self._table.path}: {message}", code="missing", path=column)
        answers = {}
        for name, scale in columns.values.items():
            column = scale.column or name
            answers[name] = self._numbers(
                column, min(scale.low, scale.high), max(scale.low, scale.high)
            )
        traits = {n: self._numbers(n, -MAX_FLOAT32, MAX_FLOAT32) for n in columns.traits}
        weights = self._weights()
        groups, group_names = self._groups()
        without_answer = self.missing.copy()
        self._check_ids()
        kept = self.used & ~self.missing
        if not kept.any():
            message = f"{printable(self._table.path, 200)}: no respondent has an answer everywhere"
            raise UserError(message, code="missing", path=self._table.path)
        scaled = {
            name: ScaledAnswers.of(answers[name][kept], scale.low, scale.high, scale.value_range)
            for name, scale in columns.values.items()
        }
        used_groups = None if groups is None else groups[kept]
        if used_groups is not None:  # groups whose members are all left out have no name
            present, used_groups = np.unique(used_groups, return_inverse=True)
            group_names = tuple(group_names[i] for i in present)
        used_weights = None if weights is None else weights[kept]
        if used_weights is not None and not used_weights.any():
            message = f"{printable(self._table.path, 200)}: all weights are 0"
            raise UserError(message, code="invalid_value", path=columns.weight or "")
        kept_traits = {name: trait[kept] for name, trait in traits.items()}
        rows = np.flatnonzero(kept)
        names = self._names(rows)
        data = Respondents(scaled, kept_traits, rows, used_groups, group_names, used_weights, names)
        reasons = {"an answer": without_answer, "an id": self.missing & self.without_id}
        lacking = tuple(name for name, rows in reasons.items() if (self.used & rows).any())
        return CodedSurvey(data, int((self.used & self.missing).sum()), lacking)

    def _matcher(self, codes: Iterable[Code]) -> Callable[[str], bool]:
        """Whether a cell is one of these codes, as text or as a number."""
        texts = {code.strip() for code in codes if isinstance(code, str)}
        numbers = {float(code) for code in codes if not isinstance(code, str)}
        numbers |= {
            number for text in texts if (number := self._csv_format.number(text)) is not None
        }

        def matches(cell: str) -> bool:
            return cell in texts or (bool(numbers) and self._csv_format.number(cell) in numbers)

        return matches

    def _refuse(self, row: int, column: str, message: str, code: str) -> NoReturn:
        raise UserError(f"{self._table.location(row, column)}: {message}", code=code, path=column)

    def _find_missing(self, column: str, may_impute: bool) -> Rows:
        """Rows in which the column has no answer; notes those to leave out."""
        found = np.array([self._is_missing(cell) for cell in self._table.columns[column]])
        found &= self.used
        rule = self._columns.missing
        if found.any() and (rule == "refuse" or (rule == "mean" and not may_impute)):
            row = int(found.argmax())
            number = f"; {found.sum()} respondents lack it" if found.sum() > 1 else ""
            self._refuse(row, column, f"has no answer (missing: {rule}){number}", "missing")
        if (found == self.used).all():
            message = f"{printable(self._table.path, 200)}: column {printable(column, 60)!r} is "
            message += "empty: every cell is a missing code"
            raise UserError(message, code="missing", path=column)
        if rule == "drop":
            self.missing |= found
        return found

    def _numbers(self, column: str, low: float, high: float, may_impute: bool = True) -> Numbers:
        """The numbers of a column; NaN in rows that are not used."""
        absent = self._find_missing(column, may_impute)
        numbers = np.full(len(self._table.lines), np.nan)
        for row in np.flatnonzero(self.used & ~absent).tolist():
            cell = self._table.columns[column][row]
            number = self._csv_format.number(cell)
            if number is None:
                hint = (
                    "" if self._csv_format.decimal == "," or "," not in cell else " (decimal: ',')"
                )
                message = f"{printable(cell, 40)!r} is no number{hint}{CODE_HINT}"
                self._refuse(row, column, message, "wrong_type")
            if not low <= number <= high:
                message = f"{printable(cell, 40)} is not between {low:g} and {high:g}{CODE_HINT}"
                self._refuse(row, column, message, "out_of_range")
            numbers[row] = number
        if self._columns.missing == "mean":
            numbers[absent] = np.nanmean(numbers[self.used])
        return numbers

    def _weights(self) -> Numbers | None:
        column = self._columns.weight
        return None if column is None else self._numbers(column, 0.0, MAX_FLOAT32, False)

    def _groups(self) -> tuple[Int[np.ndarray, " row"] | None, tuple[str, ...]]:
        """Group of each row, and the names of the groups."""
        column, labels = self._columns.group, self._columns.group_labels
        if column is None:
            return None, ()
        absent = self._find_missing(column, False)
        cells = self._table.columns[column]
        rows = {cells[row]: row for row in np.flatnonzero(self.used & ~absent).tolist()[::-1]}
        names = {cell: self._group_name(cell, row, column) for cell, row in rows.items()}
        if labels is not None:
            ordered = [name for name in dict.fromkeys(labels.values()) if name in names.values()]
        else:  # numbers by size, then texts
            numbers = {name: self._csv_format.number(cell) for cell, name in names.items()}
            ordered = sorted(numbers, key=lambda n: (numbers[n] is None, numbers[n] or 0.0, n))
        index = {name: i for i, name in enumerate(ordered)}
        groups = [index[names[cell]] if cell in names else 0 for cell in cells]
        return np.array(groups, np.int64), tuple(ordered)

    def _group_name(self, cell: str, row: int, column: str) -> str:
        """Name of the group that a cell stands for."""
        labels = self._columns.group_labels
        if labels is not None:
            if (name := self._labelled_name(cell)) is not None:
                return name
            message = f"{printable(cell, 40)!r} is not among group_labels: "
            message += printable(", ".join(labels), 200)
            self._refuse(row, column, message, "unknown_name")
        number = self._csv_format.number(cell)
        name = cell
        if number is not None:  # a number that a float does not hold is a label of its own
            short = f"{number:.15g}"
            name = f"{column} {short if self._csv_format.equal(cell, short) else cell}"
        if problem := name_problem(name):
            message = f"{printable(cell, 40)!r}: {problem} (group_labels gives others)"
            self._refuse(row, column, message, "invalid_value")
        return name

    def _labelled_name(self, cell: str) -> str | None:
        """The name of the first of `group_labels` that is equal to a cell, as text or number."""
        by_text, by_number = self._labels
        found = [by_text.get(cell)]
        if (number := self._csv_format.number(cell)) is not None:
            found.append(by_number.get(number))
        return min((each for each in found if each is not None), default=(0, None))[1]

    @functools.cached_property
    def _labels(self) -> tuple[dict[str, tuple[int, str]], dict[float, tuple[int, str]]]:
        """Index and name of each of `group_labels` by text, and by number if it is one."""
        by_text: dict[str, tuple[int, str]] = {}
        by_number: dict[float, tuple[int, str]] = {}
        for index, (label, name) in enumerate((self._columns.group_labels or {}).items()):
            by_text.setdefault(label.strip(), (index, name))
            if (number := self._csv_format.number(label.strip())) is not None:
                by_number.setdefault(number, (index, name))
        return by_text, by_number

    def _names(self, rows: Int[np.ndarray, " person"]) -> tuple[str, ...]:
        """Ids of these rows; empty if there is no column of ids, or one is missing."""
        column = self._columns.id
        if column is None or self._find_missing(column, False)[rows].any():
            return ()
        return tuple(self._table.columns[column][row] for row in rows.tolist())

    def _check_ids(self) -> None:
        """Refuse an id that occurs twice among the rows in use."""
        column = self._columns.id
        if column is None:
            return
        absent = self.without_id = self._find_missing(column, False)
        first: dict[str, int] = {}
        for row in np.flatnonzero(self.used & ~absent).tolist():
            cell = self._table.columns[column][row]
            if cell in first:
                line = self._table.lines[first[cell]]
                message = f"{printable(cell, 40)!r} is also the id in line {line}: choose rows by "
                self._refuse(row, column, f"{message}where, such as {{wave: 1}}", "duplicate")
            first[cell] = row

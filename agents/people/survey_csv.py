"""Respondents of a survey in a CSV file of the user.

Each value is a question with a scale: `mores.agents.people.survey_columns`. The file is data,
nothing in it is evaluated: `mores.agents.people.survey_table`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from mores.agents.people.respondents import RespondentPopulation, Respondents
from mores.agents.people.survey_coding import CodedSurvey, code_survey
from mores.agents.people.survey_columns import SurveyColumns
from mores.agents.people.survey_table import CsvFormat, Delimiter, Encoding, read_table
from mores.core.data_file import SHA256_DESCRIPTION, check_digest
from mores.core.errors import ParameterError, UserError, printable

MAX_BYTES = 2**28  # cells become Python objects


class SurveyCsvPopulation(SurveyColumns, RespondentPopulation):
    """Respondents of a CSV file in random order, in every world.

    Values: one for each entry of `values`. Traits: the columns in `traits`, in their own units.
    Groups: the labels of the column `group`, sorted, numbers by size; a number n is named
    `COLUMN n`, and `group_labels` gives other names, in its own order. Several labels may have one
    name, and then are one group.

    A cell is missing if it is one of `missing_codes`, as text or as a number. `missing` says what
    follows. The imputed mean is that of the column's other answers; it weakens correlations and
    spreads, so that dropping is the default.

    The trait `respondent` is the row of the file, from 0, without blank lines. `remarks` has the
    number of respondents left out, and `mores check` prints it.

    Options of an answer are 1 apart, for `jitter`.

    Raises:
        ValidationError: the file cannot be read, lacks a column or is damaged; an answer outside
            its scale, or that is no number; a repeated id; no respondent is left; more people than
            respondents without `resample`, or weights without it.
    """

    tags: ClassVar[Mapping[str, object]] = {"real": True, "source": "a CSV file"}

    path: str = Field(
        min_length=1, description="CSV file, relative to the working directory; first line: names"
    )
    encoding: Encoding = Field(default="utf-8", description="encoding of the file")
    delimiter: Delimiter | None = Field(
        default=None, description="between cells; default: the most frequent in the first line"
    )
    decimal: Literal[".", ","] = Field(default=".", description="decimal mark")
    sha256: str | None = Field(default=None, description=SHA256_DESCRIPTION)

    @model_validator(mode="after")
    def _read_file(self) -> SurveyCsvPopulation:
        digest = check_digest(self.path, self.sha256, MAX_BYTES)
        if digest is not None:
            object.__setattr__(self, "sha256", digest)  # the class is frozen for others
            self.__pydantic_fields_set__.add("sha256")
        if self.weight is not None and not self.resample:
            message = "weights need resample: true; without it every respondent occurs once"
            raise ParameterError("weight", message=message, code="conflict")
        _ = self._survey  # reads and checks the file
        self.check_num_people()
        return self

    @property
    def value_names(self) -> tuple[str, ...]:
        """Names of the values."""
        return tuple(self.values)

    @property
    def group_names(self) -> tuple[str, ...]:
        """Names of the groups."""
        return self.respondents.group_names

    @property
    def num_respondents(self) -> int:
        """Number of respondents, without those who are left out."""
        return len(self.respondents.rows)

    @property
    def num_dropped(self) -> int:
        """Number of respondents left out because a cell is missing."""
        return self._survey.num_dropped

    @property
    def remarks(self) -> tuple[str, ...]:
        """How many respondents are left out, and whether their ids are lost."""
        remarks, file = [], printable(self.path, 200)
        if self.num_dropped:
            total = self.num_respondents + self.num_dropped
            number = f"{self.num_dropped} of {total}"
            lacking = " or ".join(self._survey.lacking)
            remarks.append(f"{file}: {number} respondents lack {lacking}, left out")
        if self.id is not None and self.shuffle and not self.resample:
            order = "every world has its own order of people"
            remarks.append(f"{file}: {order}; a graph that names them needs shuffle: false")
        return tuple(remarks)

    @property
    def respondents(self) -> Respondents:
        """The respondents of the file."""
        return self._survey.respondents

    @functools.cached_property
    def _survey(self) -> CodedSurvey:
        csv_format = CsvFormat(self.encoding, self.delimiter, self.decimal)
        keys = self.keys
        try:
            return code_survey(
                self, read_table(self.path, tuple(keys), csv_format, self.sha256), csv_format
            )
        except UserError as error:
            path = keys.get(error.path, ("path",))
            raise ParameterError(*path, message=str(error), code=error.code) from None

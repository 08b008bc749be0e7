"""Which columns of a survey are values, traits, groups and weights: parameters of a population."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mores.agents.people.respondents import RESPONDENT
from mores.core.config import Config
from mores.core.errors import ParameterError, printable
from mores.core.names import check_distinct_names, name_problem

RESERVED_TRAITS = (RESPONDENT, "values", "groups")  # inputs of metrics
MAX_CODE = 2**53  # whole numbers up to this are numbers of a CSV file
Code = str | Annotated[int, Field(ge=-MAX_CODE, le=MAX_CODE)] | float


class AnswerScale(Config):
    """A question whose answers are a value: its column, and the answers at both ends."""

    column: str | None = Field(
        default=None, min_length=1, description="its column; default: the name of the value"
    )
    low: float = Field(description="answer that becomes the first number of value_range")
    high: float = Field(
        description="answer that becomes the second; less than low for a reversed question"
    )
    value_range: tuple[float, float] = Field(
        default=(-1.0, 1.0), description="values of both, in value units"
    )

    @model_validator(mode="after")
    def _check_ends(self) -> AnswerScale:
        if self.low == self.high:
            raise ParameterError("high", message="must differ from low", code="conflict")
        if self.value_range[0] >= self.value_range[1]:
            message = "needs a smaller and a greater number: for a reversed question exchange low "
            message += "and high"
            raise ParameterError("value_range", message=message)
        return self


class SurveyColumns(Config):
    """Which columns of a survey are values, traits, groups and weights, and what is missing."""

    values: Mapping[str, AnswerScale] = Field(
        min_length=1,
        description="for each value the scale of its question: low and high, the answers at both "
        "ends (low > high: reversed), column (default: the name), value_range (default: [-1, 1])",
    )
    traits: tuple[str, ...] = Field(default=(), description="columns of numbers kept as traits")
    group: str | None = Field(default=None, min_length=1, description="column of the group")
    group_labels: Mapping[str, str] | None = Field(
        default=None, description="name of the group by label of the column; default: see above"
    )
    weight: str | None = Field(
        default=None,
        min_length=1,
        description="column of sampling weights: with `resample`, respondents are drawn with "
        "probabilities in proportion",
    )
    id: str | None = Field(
        default=None,
        min_length=1,
        description="column that identifies respondents, in which none occurs twice",
    )
    where: Mapping[str, Code] = Field(
        default={}, description="only rows with this cell in this column, such as {wave: 2}"
    )
    missing_codes: tuple[Code, ...] = Field(
        default=("", "NA"), description="cells without an answer, such as -9"
    )
    missing: Literal["drop", "mean", "refuse"] = Field(
        default="drop",
        description="respondents with a missing cell are left out (drop) or refused; mean: missing "
        "values and traits become the mean, a missing group, weight or id is refused",
    )

    @model_validator(mode="after")
    def _check_names(self) -> SurveyColumns:
        for name in self.values:
            if problem := name_problem(name):
                message = f"{printable(name, 40)!r}: {problem}: give another and state the column"
                raise ParameterError("values", name, message=message, code="invalid_value")
        for i, name in enumerate(self.traits):
            if name in RESERVED_TRAITS:
                message = f"{name!r} is the name of an input of metrics: rename the column"
                raise ParameterError("traits", i, message=message, code="conflict")
        try:
            check_distinct_names(self.traits)
        except ParameterError as error:
            path = ("traits", *error.path)
            raise ParameterError(*path, message=str(error), code=error.code) from None
        for label, name in (self.group_labels or {}).items():
            if self.group is None:
                message = "needs group, the column of the labels"
                raise ParameterError("group_labels", message=message, code="missing")
            if problem := name_problem(name):
                message = f"{printable(name, 40)!r}: {problem}"
                raise ParameterError("group_labels", label, message=message)
        return self

    @property
    def keys(self) -> dict[str, tuple[str | int, ...]]:
        """The named columns, each with the path of the parameter that names it."""
        paths: dict[str, tuple[str | int, ...]] = {}
        for key in ("id", "weight", "group"):
            if (column := getattr(self, key)) is not None:
                paths[column] = (key,)
        paths |= {column: ("traits", i) for i, column in enumerate(self.traits)}
        paths |= {column: ("where", column) for column in self.where}
        return paths | {
            scale.column or name: ("values", name) for name, scale in self.values.items()
        }

"""Respondents of the American National Election Study of 1996.

944 respondents placed themselves and the two candidates on a liberal-conservative scale, and gave
their party identification and expected vote. The data are a public domain subset of the survey that
statsmodels ships (`anes96`); respondents with a missing answer or another candidate are excluded.

The codes `low ... high` of ordered options are mapped linearly to values in [-1, 1]
(`mores.agents.people.respondents`): -1 is the liberal or Democratic end, 0 the middle, +1 the
conservative or Republican end.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field, field_validator, model_validator

from mores.agents.people.respondents import RespondentPopulation, Respondents, ScaledAnswers
from mores.core.errors import ParameterError, UserError, did_you_mean

NUM_RESPONDENTS = 944
GROUP_NAMES = ("Democrats", "independents", "Republicans")


class SurveyItem(NamedTuple):
    """Column of an answer in the data, and the codes of its first and last option."""

    column: str
    low: int
    high: int


DIMENSIONS = {
    "left_right": SurveyItem("selfLR", 1, 7),  # self-placement, liberal ... conservative
    "party": SurveyItem("PID", 0, 6),  # party identification, strong Democrat ... strong Republican
    "clinton": SurveyItem("ClinLR", 1, 7),  # placement of Clinton on the same scale
    "dole": SurveyItem("DoleLR", 1, 7),  # placement of Dole
    "vote": SurveyItem("vote", 0, 1),  # Clinton or Dole
}
"""Possible value dimensions. Placements of the candidates are beliefs, not values."""


@dataclasses.dataclass(frozen=True)
class Anes96Responses:
    """Answers of all respondents in the codes of the survey, sorted by income as in the data.

    Attributes:
        left_right: self-placement, 1 extremely liberal ... 7 extremely conservative.
        clinton, dole: placement of the candidate, on the same scale.
        party: 0 strong Democrat ... 3 independent ... 6 strong Republican.
        vote: expected vote, 0 Clinton, 1 Dole.
        age: years.
        education: 1 eighth grade or less ... 7 doctorate.
        income: of the household in 24 bands, 1 below $3,000 ... 24 from $105,000 on.
    """

    left_right: Float[np.ndarray, " person"]
    clinton: Float[np.ndarray, " person"]
    dole: Float[np.ndarray, " person"]
    party: Float[np.ndarray, " person"]
    vote: Float[np.ndarray, " person"]
    age: Float[np.ndarray, " person"]
    education: Float[np.ndarray, " person"]
    income: Float[np.ndarray, " person"]


@functools.cache
def load_anes96() -> Anes96Responses:
    """Answers of all 944 respondents; the arrays are read-only.

    Raises:
        UserError: statsmodels is not installed.
    """
    try:
        from statsmodels.datasets import anes96
    except ImportError:
        raise UserError(
            "the population anes96 needs statsmodels: pip install 'mores[data]'",
            code="not_installed",
        ) from None
    table: Any = anes96.load_pandas().data
    columns = {name: item.column for name, item in DIMENSIONS.items()}
    columns |= {"age": "age", "education": "educ", "income": "income"}
    answers = {name: table[column].to_numpy(np.float64) for name, column in columns.items()}
    for answer in answers.values():
        answer.setflags(write=False)  # cached and shared
    return Anes96Responses(**answers)


class Anes96Population(RespondentPopulation):
    """Respondents of a US election survey in 1996, in random order in every world.

    Values: left-right self-placement and party identification, unless `dimensions` names others.
    Traits: `clinton`, `dole` (placements, in [-1, 1]), `vote` (0 Clinton, 1 Dole), `age` (years),
    `education` (1 to 7), `income` (1 to 24, bands) and `respondent` (row of the data, 0 to 943).
    Groups, by party identification: 0 Democrats, 1 independents, 2 Republicans. Respondents who
    lean to a party are in its group, since they vote as its weak identifiers do; 37 are in group 1.

    The two default dimensions have 46 distinct combinations of answers; in 5 % of all pairs of
    respondents both have the same, which `jitter` separates. Panel studies of other people and
    topics find a `reliability` of .5 to .7; no panel of these respondents exists.

    Raises:
        ValidationError: more people than respondents without `resample`; an unknown dimension.
    """

    tags: ClassVar[Mapping[str, object]] = {
        "real": True,
        "country": "United States",
        "year": 1996,
        "source": "American National Election Studies, by statsmodels",
    }

    dimensions: tuple[str, ...] = Field(
        default=("left_right", "party"),
        min_length=1,
        description="value dimensions: " + ", ".join(DIMENSIONS),
    )

    @field_validator("dimensions")
    @classmethod
    def _check_dimensions(cls, dimensions: tuple[str, ...]) -> tuple[str, ...]:
        for name in dimensions:
            if name not in DIMENSIONS:
                raise ParameterError(
                    message=f"no dimension {name!r}{did_you_mean(name, DIMENSIONS)}",
                    code="unknown_name",
                )
        if len(set(dimensions)) < len(dimensions):
            raise ParameterError(
                message=f"a dimension is named twice: {', '.join(dimensions)}", code="duplicate"
            )
        return dimensions

    @model_validator(mode="after")
    def _check_parameters(self) -> Anes96Population:
        self.check_num_people()
        return self

    @property
    def value_names(self) -> tuple[str, ...]:
        """Names of the value dimensions."""
        return self.dimensions

    @property
    def group_names(self) -> tuple[str, ...]:
        """Names of the groups by party identification."""
        return GROUP_NAMES

    @property
    def num_respondents(self) -> int:
        """Number of respondents in the data, 944."""
        return NUM_RESPONDENTS

    @property
    def respondents(self) -> Respondents:
        """Values, traits and groups of all respondents.

        Raises:
            UserError: statsmodels is not installed.
        """
        data = load_anes96()
        return Respondents(
            {name: _scaled(name) for name in self.dimensions},
            {
                "clinton": scaled_answers("clinton"),
                "dole": scaled_answers("dole"),
                "vote": data.vote,
                "age": data.age,
                "education": data.education,
                "income": data.income,
            },
            np.arange(NUM_RESPONDENTS),
            party_groups(),
            GROUP_NAMES,
        )


def party_groups() -> Int[np.ndarray, " person"]:
    """Index of each respondent's group in `GROUP_NAMES`."""
    party = load_anes96().party
    return (party >= 3).astype(np.int64) + (party >= 4)


def scaled_answers(dimension: str) -> Float[np.ndarray, " person"]:
    """Answers of all respondents on a dimension, in [-1, 1]."""
    return _scaled(dimension).values


def _scaled(dimension: str) -> ScaledAnswers:
    item = DIMENSIONS[dimension]
    answers = getattr(load_anes96(), dimension)
    return ScaledAnswers.of(answers, float(item.low), float(item.high))

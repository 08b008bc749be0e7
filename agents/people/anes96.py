"""Voters of the United States in 1996: real people, from the American National Election Study.

944 respondents who were asked where they stand from liberal to conservative, where they see the
two candidates on the same scale, with which party they identify and for whom they expect to vote.
The data are a public domain subset of the survey that statsmodels ships (`anes96`); respondents
with an answer missing, or with another candidate, are not in it.

An answer on k ordered options, numbered `low ... high`, becomes a value in [-1, 1]:

    value = 2 (answer - low) / (high - low) - 1

so -1 is the liberal, Democratic end and +1 the conservative, Republican one, and 0 the middle.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import ConfigDict, Field, field_validator, model_validator
from torch import Tensor

from mores.core.environment import Config
from mores.core.errors import ParameterError, UserError, did_you_mean
from mores.core.people import People
from mores.core.random_streams import RandomStreams

NUM_RESPONDENTS = 944
GROUP_NAMES = ("Democrats", "independents", "Republicans")


class SurveyItem(NamedTuple):
    """Where an answer is kept, and the codes of its first and last option."""

    column: str
    low: int
    high: int


DIMENSIONS = {
    "left_right": SurveyItem("selfLR", 1, 7),  # own place, extremely liberal ... conservative
    "party": SurveyItem("PID", 0, 6),  # party identification, strong Democrat ... strong Republican
    "clinton": SurveyItem(
        "ClinLR", 1, 7
    ),  # where the respondent sees Clinton, same scale as own place
    "dole": SurveyItem("DoleLR", 1, 7),  # where the respondent sees Dole
    "vote": SurveyItem("vote", 0, 1),  # Clinton or Dole
}
"""What can be a value dimension. Placements of the candidates are beliefs, not values."""


@dataclasses.dataclass(frozen=True)
class Anes96Responses:
    """The survey's answers in their own codes, in the order of the data (which is by income).

    Attributes:
        left_right: own place, 1 extremely liberal ... 7 extremely conservative.
        clinton, dole: where the respondent sees the candidate, on the same scale.
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
    """All 944 respondents.

    Raises:
        UserError: statsmodels is not installed.
    """
    try:
        from statsmodels.datasets import anes96
    except ImportError:
        raise UserError(
            "the people of anes96 come with statsmodels: pip install 'mores[data]'",
            code="not_installed",
        ) from None
    table: Any = anes96.load_pandas().data
    columns = {name: scale.column for name, scale in DIMENSIONS.items()}
    columns |= {"age": "age", "education": "educ", "income": "income"}
    answers = {name: table[column].to_numpy(np.float64) for name, column in columns.items()}
    for answer in answers.values():
        answer.setflags(write=False)  # kept for everybody who asks
    return Anes96Responses(**answers)


class Anes96Population(Config):
    """Real voters, seated at random in every world.

    Values: left-right self-placement and party identification, unless other `dimensions` are
    named. Traits: `clinton`, `dole` (placements, in [-1, 1]), `vote` (0 Clinton, 1 Dole), `age`
    (years), `education` (1 to 7), `income` (1 to 24, bands) and `respondent` (row of the data, 0
    to 943). Groups, by party identification: 0 Democrats, 1 independents, 2 Republicans. Those
    who lean to a party belong to it, as they vote like its weak identifiers; 37 are left between.

    Seats are drawn because the data are sorted by income: in the given order, neighbours on a
    ring would be people of like income. Draws depend on the seat alone with `resample`, and on
    the respondent alone without, so a smaller community is the first part of a larger one.

    Answers are discrete. Two dimensions give 46 distinct points, 5 % of all pairs of respondents
    share one, and every network of nearest people must break such ties. They are left as they are
    unless `jitter` is given, which moves each value evenly within its option: by up to half the
    distance to the next option for 1. At both ends only the inner half is used, so that values
    stay in [-1, 1]. Traits are never moved.

    An answer is a settled disposition, a passing state and a slip. Where the environment adds the
    latter two (`person`, a `respondent`'s noise), people should bring the first only: `reliability`
    is the share of the variance of answers that is settled, and draws every answer towards the mean
    of all by its root. Panels of other people and topics find .5 to .7; of these there is no panel.

    Raises:
        ValidationError: more people than respondents without `resample`; an unknown dimension.
    """

    tags: ClassVar[Mapping[str, object]] = {
        "real": True,
        "country": "United States",
        "year": 1996,
        "source": "American National Election Studies, by statsmodels",
    }

    num_people: int | None = Field(
        default=None, ge=1, description="people in a world; default: all 944"
    )
    resample: bool = Field(
        default=False,
        description="draw respondents with replacement, in each world anew: intervals over "
        "replicates then cover the choice of people, too",
    )
    dimensions: tuple[str, ...] = Field(
        default=("left_right", "party"),
        min_length=1,
        description="what the values are: " + ", ".join(DIMENSIONS),
    )
    jitter: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="width of the noise within an option; 1: the whole option",
    )

    reliability: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="settled share of the variance of answers; 1: people are what they answered",
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
                message=f"each dimension once: {', '.join(dimensions)}", code="duplicate"
            )
        return dimensions

    @model_validator(mode="after")
    def _check_num_people(self) -> Anes96Population:
        if not self.resample and (self.num_people or 0) > NUM_RESPONDENTS:
            raise ParameterError(
                message=f"{self.num_people} people are more than the {NUM_RESPONDENTS} respondents: "
                "draw them with replacement (resample: true)",
                code="conflict",
            )
        return self

    @property
    def value_names(self) -> tuple[str, ...]:
        """Names of the value dimensions."""
        return self.dimensions

    def environment_parameters(self) -> dict[str, int]:
        """How many people a world gets, and how many value dimensions."""
        return {"num_people": self.num_people or NUM_RESPONDENTS, "num_values": len(self.dimensions)}

    def sample_people(self, draws: RandomStreams) -> People:
        """People for `draws.num_worlds` worlds.

        Raises:
            UserError: statsmodels is not installed.
        """
        data = load_anes96()
        rows = self._sample_respondents(draws)

        def seat(answers: Float[np.ndarray, " person"]) -> Float[Tensor, "world agent"]:
            return torch.tensor(answers, dtype=torch.float32, device=draws.device)[rows]

        values = []
        for name in self.dimensions:
            answers = self._jitter(seat(scaled_answers(name)), name, draws)
            if self.reliability < 1:
                centre = float(scaled_answers(name).mean())
                answers = centre + math.sqrt(self.reliability) * (answers - centre)
            values.append(answers)
        traits = {
            "clinton": seat(scaled_answers("clinton")),
            "dole": seat(scaled_answers("dole")),
            "vote": seat(data.vote),
            "age": seat(data.age),
            "education": seat(data.education),
            "income": seat(data.income),
            "respondent": rows.to(torch.float32),
        }
        party = seat(data.party)
        groups = (party >= 3).long() + (party >= 4).long()
        return People(torch.stack(values, -1), traits, groups)

    def _sample_respondents(self, streams: RandomStreams) -> Int[Tensor, "world agent"]:
        """The respondent at every seat."""
        count = self.num_people or NUM_RESPONDENTS
        if self.resample:
            u = streams.uniform("respondent", count)[..., 0]
            return (
                (u * NUM_RESPONDENTS).long().clamp(max=NUM_RESPONDENTS - 1)
            )  # u * 944 may round to 944
        order = streams.uniform("seat", NUM_RESPONDENTS)[..., 0]
        return order.sort(dim=1, stable=True).indices[:, :count]

    def _jitter(
        self, values: Float[Tensor, "world agent"], dimension: str, streams: RandomStreams
    ) -> Float[Tensor, "world agent"]:
        """Values moved evenly within their options, folded back at the ends of the scale."""
        if self.jitter == 0:
            return values
        scale = DIMENSIONS[dimension]
        option = 2 / (scale.high - scale.low)  # distance between two options
        u = streams.uniform(f"spread/{dimension}", values.shape[1])[..., 0]
        moved = values + (u - 0.5) * (self.jitter * option)
        moved = torch.where(moved > 1, 2 - moved, moved)
        return torch.where(moved < -1, -2 - moved, moved)


def scaled_answers(dimension: str) -> Float[np.ndarray, " person"]:
    """Everybody's answer on a dimension, from -1 to 1."""
    scale = DIMENSIONS[dimension]
    answer: np.ndarray = getattr(load_anes96(), dimension)
    return 2 * (answer - scale.low) / (scale.high - scale.low) - 1

"""Respondents of the American National Election Study of 1996.

944 respondents placed themselves and the two candidates on a liberal-conservative scale, and gave
their party identification and expected vote. The data are a public domain subset of the survey that
statsmodels ships (`anes96`); respondents with a missing answer or another candidate are excluded.

An answer on k ordered options, numbered `low ... high`, becomes a value in [-1, 1]:

    value = 2 (answer - low) / (high - low) - 1

-1 is the liberal, Democratic end, +1 the conservative, Republican end, 0 the middle.
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
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from mores.core.errors import ParameterError, UserError, did_you_mean
from mores.core.people import People, Population
from mores.core.random_streams import RandomStreams
from mores.core.stream_addresses import JITTER, SAMPLE_ORDER

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
    """Answers in the codes of the survey, in the order of the data (sorted by income).

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
    """All 944 respondents.

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
    columns = {name: scale.column for name, scale in DIMENSIONS.items()}
    columns |= {"age": "age", "education": "educ", "income": "income"}
    answers = {name: table[column].to_numpy(np.float64) for name, column in columns.items()}
    for answer in answers.values():
        answer.setflags(write=False)  # cached and shared
    return Anes96Responses(**answers)


class Anes96Population(Population):
    """Survey respondents in random order, in every world.

    Values: left-right self-placement and party identification, unless `dimensions` names others.
    Traits: `clinton`, `dole` (placements, in [-1, 1]), `vote` (0 Clinton, 1 Dole), `age` (years),
    `education` (1 to 7), `income` (1 to 24, bands) and `respondent` (row of the data, 0 to 943).
    Groups, by party identification: 0 Democrats, 1 independents, 2 Republicans. Respondents who
    lean to a party belong to it, since they vote like its weak identifiers; 37 are independents.

    The order is random because the data are sorted by income: otherwise neighbors on a ring would
    have similar income. Random numbers depend on the position alone with `resample`, and on the
    respondent alone without, so a smaller population is the first part of a larger one.

    Answers are discrete. Two dimensions give 46 distinct points, and 5 % of all pairs share one,
    so a nearest-neighbor graph must break ties. `jitter` moves each value uniformly
    within its option: by up to half the distance to the next option for 1. At both ends only the
    inner half is used, so that values stay in [-1, 1]. Traits have no jitter.

    An answer is the sum of a stable disposition, a temporary state and an answer error. Where the
    environment simulates the latter two (`trait_state`, `noise_std` of `survey_respondent`), the
    values should be the dispositions alone: `reliability` is the stable share of the variance of
    answers, and shrinks every answer towards the mean by its square root. Panels of other people
    and topics find .5 to .7; no panel of these respondents exists.

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
        description="draw respondents with replacement, in each world: intervals over "
        "replicates then cover the choice of respondents",
    )
    dimensions: tuple[str, ...] = Field(
        default=("left_right", "party"),
        min_length=1,
        description="value dimensions: " + ", ".join(DIMENSIONS),
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
        description="stable share of the variance of answers; 1: values are the answers",
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
    def _check_num_people(self) -> Anes96Population:
        if not self.resample and (self.num_people or 0) > NUM_RESPONDENTS:
            raise ParameterError(
                message=f"{self.num_people} people are more than {NUM_RESPONDENTS} respondents: "
                "draw them with replacement (resample: true)",
                code="conflict",
            )
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
    def resamples_people(self) -> bool:
        """Whether respondents are drawn with replacement."""
        return self.resample

    def environment_parameters(self) -> dict[str, int]:
        """Environment parameters that this population determines."""
        return {
            "num_people": self.num_people or NUM_RESPONDENTS,
            "num_values": len(self.dimensions),
            "num_groups": len(GROUP_NAMES),
        }

    def sample_people(self, streams: RandomStreams) -> People:
        """People for `streams.num_worlds` worlds.

        Raises:
            UserError: statsmodels is not installed.
        """
        data = load_anes96()
        rows = self._sample_respondents(streams)

        def sampled(answers: Float[np.ndarray, " person"]) -> Float[Tensor, "world agent"]:
            return torch.tensor(answers, dtype=torch.float32, device=streams.device)[rows]

        values = []
        for name in self.dimensions:
            answers = self._jitter(sampled(scaled_answers(name)), name, streams)
            if self.reliability < 1:
                center = float(scaled_answers(name).mean())
                answers = center + math.sqrt(self.reliability) * (answers - center)
            values.append(answers)
        traits = {
            "clinton": sampled(scaled_answers("clinton")),
            "dole": sampled(scaled_answers("dole")),
            "vote": sampled(data.vote),
            "age": sampled(data.age),
            "education": sampled(data.education),
            "income": sampled(data.income),
            "respondent": rows.to(torch.float32),
        }
        party = sampled(data.party)
        groups = (party >= 3).long() + (party >= 4).long()
        return People(torch.stack(values, -1), traits, groups, GROUP_NAMES)

    def _sample_respondents(self, streams: RandomStreams) -> Int[Tensor, "world agent"]:
        """Row of the data for every person."""
        count = self.num_people or NUM_RESPONDENTS
        if self.resample:
            u = streams.uniform("respondent", count)[..., 0]
            rows = (u * NUM_RESPONDENTS).long()
            return rows.clamp(max=NUM_RESPONDENTS - 1)  # u * 944 may round to 944
        order = streams.uniform(SAMPLE_ORDER, NUM_RESPONDENTS)[..., 0]
        return order.sort(dim=1, stable=True).indices[:, :count]

    def _jitter(
        self, values: Float[Tensor, "world agent"], dimension: str, streams: RandomStreams
    ) -> Float[Tensor, "world agent"]:
        """Values moved uniformly within their options, reflected at the ends of the scale."""
        if self.jitter == 0:
            return values
        scale = DIMENSIONS[dimension]
        option = 2 / (scale.high - scale.low)  # distance between two options
        u = streams.uniform(f"{JITTER}/{dimension}", values.shape[1])[..., 0]
        moved = values + (u - 0.5) * (self.jitter * option)
        moved = torch.where(moved > 1, 2 - moved, moved)
        return torch.where(moved < -1, -2 - moved, moved)


def scaled_answers(dimension: str) -> Float[np.ndarray, " person"]:
    """Answers of all respondents on a dimension, from -1 to 1."""
    scale = DIMENSIONS[dimension]
    answer: np.ndarray = getattr(load_anes96(), dimension)
    return 2 * (answer - scale.low) / (scale.high - scale.low) - 1

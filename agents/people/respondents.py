"""Populations of survey respondents: which of them are in a world, and the values of their answers.

An answer between `low` and `high`, the answers at both ends of a scale, becomes a value in a range:

    value = first + (last - first) (answer - low) / (high - low)

The order of respondents is random, in every world, because data are often sorted: otherwise
neighbors on a ring would be similar. `shuffle: false` keeps the order of the data, which a graph
between the same people needs. Random numbers depend on the position alone with `resample`,
and on the respondent alone without, so a smaller population is the first part of a larger one.
"""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from mores.core.errors import ParameterError, did_you_mean
from mores.core.people import People, Population
from mores.core.random_streams import RandomStreams
from mores.core.stream_addresses import JITTER, SAMPLE_ORDER

MAX_GROUP_COUNT = 10_000_000
RESPONDENT = "respondent"  # trait: row of the data


@dataclasses.dataclass(frozen=True)
class ScaledAnswers:
    """Answers of all respondents to a question, in value units.

    Attributes:
        values: see the module.
        value_range: values of the answers at both ends of the scale.
        step: distance between the values of two neighboring options.
    """

    values: Float[np.ndarray, " person"]
    value_range: tuple[float, float]
    step: float

    @classmethod
    def of(
        cls,
        answers: Float[np.ndarray, " person"],
        low: float,
        high: float,
        value_range: tuple[float, float] = (-1.0, 1.0),
    ) -> ScaledAnswers:
        """The values of answers whose options are 1 apart; `low` may be the greater number."""
        first, last = value_range
        values = first + (last - first) * (answers - low) / (high - low)
        return cls(values, value_range, abs((last - first) / (high - low)))


@dataclasses.dataclass(frozen=True)
class Respondents:
    """Respondents of a survey, in the order of the data.

    Attributes:
        values: answers by name of the value.
        traits: other quantities by name.
        rows: row of each respondent in the data, from 0.
        groups: group index of each respondent, or `None`.
        group_names: names of the groups, by index.
        weights: sampling weights, at least 0; `None`: all are equal.
        names: name of each respondent; empty: they have none.
    """

    values: Mapping[str, ScaledAnswers]
    traits: Mapping[str, Float[np.ndarray, " person"]]
    rows: Int[np.ndarray, " person"]
    groups: Int[np.ndarray, " person"] | None = None
    group_names: tuple[str, ...] = ()
    weights: Float[np.ndarray, " person"] | None = None
    names: tuple[str, ...] = ()


class RespondentPopulation(Population):
    """Base of populations of respondents; the trait `respondent` is the row of the data, from 0.

    A subclass gives `num_respondents` and `respondents`, and calls `check_num_people` when it is
    validated.

    Answers are discrete, so several people share a point, and a nearest-neighbor graph must break
    ties. `jitter` moves each value uniformly within its option: by up to half the distance to the
    next option for 1. At both ends only the inner half is used, so that values stay in range.
    Traits have no jitter.

    An answer is the sum of a stable disposition, a temporary state and an answer error. Where the
    environment simulates the latter two (`trait_state`, `noise_std` of `survey_respondent`), the
    values should be the dispositions alone: `reliability` is the stable share of the variance of
    answers, and shrinks every answer towards the mean by its square root.
    """

    num_people: int | None = Field(
        default=None, ge=1, le=10_000_000, description="people in a world; default: all respondents"
    )
    resample: bool = Field(
        default=False,
        description="draw respondents with replacement, in each world: intervals over "
        "replicates then cover the choice of respondents",
    )
    shuffle: bool = Field(
        default=True,
        description="random order of people in every world; false: the order of the data, such as "
        "for a graph file that names the same people",
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
    group_counts: dict[str, int] | None = Field(
        default=None,
        description="people of each group, by its name, in this order: a stratified sample; "
        "default: people are drawn from all groups together",
    )

    @property
    @abstractmethod
    def num_respondents(self) -> int:
        """Number of respondents."""

    @property
    @abstractmethod
    def respondents(self) -> Respondents:
        """The respondents."""

    def check_num_people(self) -> None:
        """Check that there are as many respondents as people, unless they are drawn with
        replacement.

        Raises:
            ParameterError: there are fewer.
        """
        if not self.shuffle and (self.resample or self.group_counts is not None):
            other = "resample" if self.resample else "group_counts"
            message = f"people of a sample have no order: leave out {other}"
            raise ParameterError("shuffle", message=message, code="conflict")
        if self.group_counts is not None:
            self._check_group_counts(self.group_counts)
        elif not self.resample and (self.num_people or 0) > self.num_respondents:
            raise ParameterError(
                message=f"{self.num_people} people are more than {self.num_respondents} "
                "respondents: draw them with replacement (resample: true)",
                code="conflict",
            )

    def _check_group_counts(self, counts: dict[str, int]) -> None:
        for name, count in counts.items():
            if name not in self.group_names:
                message = f"no group {name!r:.60}{did_you_mean(name, self.group_names)}"
                raise ParameterError("group_counts", name, message=message, code="unknown_name")
            if not 0 <= count <= MAX_GROUP_COUNT:
                message = f"must be from 0 to {MAX_GROUP_COUNT:,}"
                raise ParameterError("group_counts", name, message=message, code="out_of_range")
        total = sum(counts.values())
        if not total or self.num_people not in (None, total):
            message = f"group_counts has {total} people"
            raise ParameterError("group_counts", message=message, code="conflict")
        if self.respondents.weights is not None:
            message = "group_counts cannot be combined with weights"
            raise ParameterError("group_counts", message=message, code="conflict")
        for name, count in counts.items():
            size = int((self.respondents.groups == self.group_names.index(name)).sum())
            if count and not self.resample and count > size:
                message = f"{count} people are more than {size} respondents: resample: true"
                raise ParameterError("group_counts", name, message=message, code="conflict")

    @property
    def resamples_people(self) -> bool:
        """Whether respondents are drawn with replacement."""
        return self.resample

    def environment_parameters(self) -> dict[str, Any]:
        """Environment parameters that this population determines."""
        parameters: dict[str, Any] = {
            "num_people": self._count,
            "num_values": len(self.value_names),
        }
        if self.person_names:
            parameters["person_names"] = list(self.person_names)
        return parameters | ({"num_groups": len(self.group_names)} if self.group_names else {})

    @property
    def person_names(self) -> tuple[str, ...]:
        """Names of the people in their order; empty if they have none, or no order."""
        return () if self.shuffle else self.respondents.names[: self._count]

    @property
    def _count(self) -> int:
        """Number of people in a world."""
        if self.group_counts is not None:
            return sum(self.group_counts.values())
        return self.num_people or self.num_respondents

    @property
    def value_std(self) -> float:
        """Of the stable share of answers, without jitter."""
        data = self.respondents
        variances = []
        for answers in data.values.values():
            center = np.average(answers.values, weights=data.weights)
            variances.append(np.average((answers.values - center) ** 2, weights=data.weights))
        return math.sqrt(self.reliability * float(np.mean(variances)))

    def sample_people(self, streams: RandomStreams) -> People:
        """People for `streams.num_worlds` worlds."""
        data = self.respondents
        if self.group_counts is not None:
            index = self._stratified_sample(data, streams)
        else:
            index = self._sample_respondents(data.weights, streams)

        def sampled(column: np.ndarray, dtype: torch.dtype) -> Tensor:
            return torch.tensor(column, dtype=dtype, device=streams.device)[index]

        values = []
        for name, answers in data.values.items():
            moved = self._jitter(sampled(answers.values, torch.float32), name, answers, streams)
            if self.reliability < 1:
                center = float(np.average(answers.values, weights=data.weights))
                moved = center + math.sqrt(self.reliability) * (moved - center)
            values.append(moved)
        traits = {name: sampled(trait, torch.float32) for name, trait in data.traits.items()}
        traits[RESPONDENT] = sampled(data.rows, torch.float32)
        groups = None if data.groups is None else sampled(data.groups, torch.int64)
        return People(torch.stack(values, -1), traits, groups, data.group_names)

    def _stratified_sample(
        self, data: Respondents, streams: RandomStreams
    ) -> Int[Tensor, "world agent"]:
        """Index of the respondent for every person, with the numbers of `group_counts`."""
        assert self.group_counts is not None and data.groups is not None
        chosen = []
        order = streams.uniform(SAMPLE_ORDER, self.num_respondents)[..., 0]
        u = streams.uniform("respondent", self._count)[..., 0]
        for name, count in self.group_counts.items():
            members = np.flatnonzero(data.groups == data.group_names.index(name))
            group = torch.tensor(members, device=streams.device)
            if self.resample:
                start = sum(each.shape[1] for each in chosen)
                place = (u[:, start : start + count] * len(members)).long()
                chosen.append(group[place.clamp(max=len(members) - 1)])
            else:
                place = order[:, group].sort(dim=1, stable=True).indices[:, :count]
                chosen.append(group[place])
        return torch.cat(chosen, 1)

    def _sample_respondents(
        self, weights: Float[np.ndarray, " person"] | None, streams: RandomStreams
    ) -> Int[Tensor, "world agent"]:
        """Index of the respondent for every person."""
        size = self.num_respondents
        count = self.num_people or size
        if not self.shuffle:
            return torch.arange(count, device=streams.device).expand(streams.num_worlds, -1)
        if not self.resample:
            order = streams.uniform(SAMPLE_ORDER, size)[..., 0]
            return order.sort(dim=1, stable=True).indices[:, :count]
        u = streams.uniform("respondent", count)[..., 0]
        if weights is None:
            return (u * size).long().clamp(max=size - 1)  # u * size may round to size
        cumulative = np.cumsum(weights)
        shares = torch.tensor(cumulative / cumulative[-1], device=streams.device)
        return torch.searchsorted(shares, u.to(torch.float64), right=True)

    def _jitter(
        self,
        values: Float[Tensor, "world agent"],
        name: str,
        answers: ScaledAnswers,
        streams: RandomStreams,
    ) -> Float[Tensor, "world agent"]:
        """Values moved uniformly within their options, reflected at the ends of the range."""
        if self.jitter == 0:
            return values
        low, high = min(answers.value_range), max(answers.value_range)
        u = streams.uniform(f"{JITTER}/{name}", values.shape[1])[..., 0]
        moved = values + (u - 0.5) * (self.jitter * answers.step)
        moved = torch.where(moved > high, 2 * high - moved, moved)
        return torch.where(moved < low, 2 * low - moved, moved)

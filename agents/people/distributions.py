"""Distributions of a parameter over people: each person's value is a quantile of the distribution.

    value = F^-1(u),    u uniform in (0, 1), one number for each person

Arms of an experiment share u. A person who is at the 90th percentile in one arm is there in all
arms, also where the arms have other parameters of the distribution, or another distribution.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from mores.core.errors import ParameterError
from mores.core.people import People
from mores.core.person_parameters import PersonParameter
from mores.core.random_streams import RandomStreams

HALF_STEP = 2.0**-25  # half the spacing of uniform numbers, so that u is never 0 or 1
MIN_WIDTH = 1e-6  # of a truncated normal distribution, standard deviations: as above
MIN_BETA_STD = 1e-6  # share of the range; below 1e-8 the quantiles of scipy.stats are wrong


class Distribution(PersonParameter):
    """A distribution with independent values of people."""

    @abstractmethod
    def distribution(self) -> Any:
        """The distribution, with a method `ppf`: a frozen one of scipy.stats."""

    @property
    def bounds(self) -> tuple[float, float]:
        """The extreme quantiles that can be drawn, at 2^-25 and 1 - 2^-25."""
        low, high = self.distribution().ppf([HALF_STEP, 1.0 - HALF_STEP])
        return float(low), float(high)

    def sample(self, people: People, streams: RandomStreams) -> Float[Tensor, "world agent"]:
        """See the class docstring."""
        u = streams.uniform("quantile", people.values.shape[1])[..., 0]
        quantiles = self.distribution().ppf(u.cpu().double().numpy() + HALF_STEP)
        return torch.from_numpy(quantiles).to(streams.device)


class Uniform(Distribution):
    """Equally probable values between two numbers."""

    low: float = Field(description="smallest value")
    high: float = Field(description="largest value")

    @model_validator(mode="after")
    def _check(self) -> Uniform:
        _check_order(self.low, self.high)
        return self

    def distribution(self) -> Any:
        """See `Distribution`."""
        from scipy import stats

        return stats.uniform(self.low, self.high - self.low)


class TruncatedNormal(Distribution):
    """Normal distribution, truncated to [low, high] if these are given.

    `mean` and `std` are those of the distribution before truncation.
    """

    mean: float = Field(description="mean")
    std: float = Field(gt=0, description="standard deviation")
    low: float | None = Field(default=None, description="smallest value; null: none")
    high: float | None = Field(default=None, description="largest value; null: none")

    @model_validator(mode="after")
    def _check(self) -> TruncatedNormal:
        low = -math.inf if self.low is None else self.low
        _check_order(low, math.inf if self.high is None else self.high)
        low, high = self.bounds
        if not math.isfinite(low) or not math.isfinite(high):
            message = "low and high are too far from the mean for this std"
            raise ParameterError(message=message, code="conflict")
        if self.low is not None and self.high is not None:
            largest = (self.high - self.low) / MIN_WIDTH
            if self.std > largest:
                message = f"must be at most {largest:.4g} for this range: beyond, use uniform"
                raise ParameterError("std", message=message, code="out_of_range")
        return self

    def distribution(self) -> Any:
        """See `Distribution`."""
        from scipy import stats

        low = -math.inf if self.low is None else (self.low - self.mean) / self.std
        high = math.inf if self.high is None else (self.high - self.mean) / self.std
        return stats.truncnorm(low, high, self.mean, self.std)


class LogNormal(Distribution):
    """Positive values whose logarithm is normally distributed."""

    median: float = Field(gt=0, description="median")
    log_std: float = Field(gt=0, le=20, description="standard deviation of the natural logarithm")

    def distribution(self) -> Any:
        """See `Distribution`."""
        from scipy import stats

        return stats.lognorm(self.log_std, scale=self.median)


class Beta(Distribution):
    """Beta distribution on [low, high], by its mean and standard deviation."""

    mean: float = Field(description="mean, between low and high")
    std: float = Field(gt=0, description="standard deviation, below that of two equal end points")
    low: float = Field(default=0.0, description="smallest value")
    high: float = Field(default=1.0, description="largest value")

    @model_validator(mode="after")
    def _check(self) -> Beta:
        _check_order(self.low, self.high)
        if not self.low < self.mean < self.high:
            message = f"must be between low and high, {self.low:g} and {self.high:g}"
            raise ParameterError("mean", message=message, code="out_of_range")
        largest = math.sqrt((self.mean - self.low) * (self.high - self.mean))
        if self.std >= largest:
            message = f"must be below {largest:.4g} for this mean"
            raise ParameterError("std", message=message, code="out_of_range")
        smallest = MIN_BETA_STD * (self.high - self.low)
        if self.std < smallest:
            message = f"must be at least {smallest:.4g} for this range; without it give a number"
            raise ParameterError("std", message=message, code="out_of_range")
        return self

    def distribution(self) -> Any:
        """See `Distribution`."""
        from scipy import stats

        width = self.high - self.low
        mean, variance = (self.mean - self.low) / width, (self.std / width) ** 2
        total = mean * (1.0 - mean) / variance - 1.0
        return stats.beta(mean * total, (1.0 - mean) * total, self.low, width)


def _check_order(low: float, high: float) -> None:
    if low >= high:
        raise ParameterError(message=f"low must be below high, not {low:g}", code="conflict")

"""History: what moves on by itself, and how it takes people along.

Either a walk, `G' = G + drift + noise z`, or the rows of a table, one a round; once the last row is
reached history stands still. People go the share `pull` of the way to it a round, and make the
share `carry` of its movement themselves.

One table is shipped, `progress_by_eye`: five values over nine centuries, the 13th to the 21st, read
BY EYE off a figure of the ProgressGym repository (PKU-Alignment/ProgressGym, its data overview), to
within about .01. It is a trajectory of a realistic shape to measure against, not a measurement:
ProgressGym publishes no table of its value vectors.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from mores.core.environment import Config
from mores.core.errors import ParameterError
from mores.core.random_streams import RandomStreams

PROGRESSGYM_DIGITIZED: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {  # read by eye, +-.01; centuries 13 to 21
        "religion": (0.43, 0.29, 0.46, 0.555, 0.52, 0.165, 0.105, 0.195, 0.045),
        "democracy": (0.275, 0.24, 0.28, 0.285, 0.29, 0.285, 0.335, 0.34, 0.25),
        "liberalism": (0.205, 0.18, 0.19, 0.19, 0.195, 0.18, 0.20, 0.245, 0.248),
        "progress expected": (0.37, 0.335, 0.355, 0.31, 0.325, 0.365, 0.385, 0.50, 0.335),
        "uncertainty avoided": (0.43, 0.445, 0.457, 0.457, 0.447, 0.31, 0.335, 0.355, 0.36),
    }
)
TRAJECTORIES = {"progressgym_digitized": tuple(zip(*PROGRESSGYM_DIGITIZED.values(), strict=True))}


class HistoryStep(NamedTuple):
    """Where history is, and its last movement."""

    position: Float[Tensor, "world value"]
    trend: Float[Tensor, "world value"]


class History(Config):
    """Parameters of history's movement; by default it stands still and nobody minds it."""

    drift: float = Field(default=0.0, description="its movement a round, in every value")
    noise_std: float = Field(
        default=0.0, ge=0, description="standard deviation of its movement a round"
    )
    trajectory: Literal["progressgym_digitized"] | None = Field(
        default=None,
        description="a trajectory by name, instead of drift and noise; progress_by_eye: 5 values "
        "over 9 centuries, read by eye off a figure, +-.01",
    )
    points: list[list[float]] | None = Field(
        default=None,
        min_length=2,
        max_length=10_000,
        description="a trajectory of your own: a row a round, a number a value",
    )
    attraction: float = Field(
        default=0.0, ge=0, le=1, description="share of the way to history people go a round"
    )
    drift_share: float = Field(
        default=0.0, ge=0, le=1, description="share of history's movement people make too"
    )

    def model_post_init(self, context: Any) -> None:
        """Refuse parameters that do not go together."""
        ways = {"drift or noise": self.drift or self.noise_std}
        ways |= {"a table": self.trajectory, "points": self.points}
        given = [way for way, value in ways.items() if value]
        if len(given) > 1:
            raise ParameterError(
                message=f"moves by {given[0]} or by {given[1]}, not by both", code="conflict"
            )
        if self.points is not None and len({len(row) for row in self.points}) > 1:
            raise ParameterError(
                "points", message="points: all rows need as many values", code="wrong_shape"
            )
        if self.points is not None and not self.points[0]:
            raise ParameterError(
                "points", message="points: a row needs at least one value", code="wrong_shape"
            )

    @functools.cached_property
    def trajectory_values(self) -> Float[Tensor, "row value"] | None:
        """The rows of the table or the points, where there are any."""
        rows = TRAJECTORIES[self.trajectory] if self.trajectory is not None else self.points
        return None if rows is None else torch.tensor(rows, dtype=torch.float32)

    def position_at(self, rounds_elapsed: Int[Tensor, " world"]) -> Float[Tensor, "world value"]:
        """The row that a table has reached after so many rounds in each world."""
        assert self.trajectory_values is not None
        course = self.trajectory_values.to(rounds_elapsed.device)
        return course[rounds_elapsed.clamp(max=len(course) - 1)]

    def step(
        self,
        position: Float[Tensor, "world value"],
        rounds_elapsed: Int[Tensor, " world"],
        streams: RandomStreams,
    ) -> HistoryStep:
        """Where history goes in the round that begins.

        Args:
            position: where it is.
            rounds_elapsed: rounds completed in each world.
            streams: of the round.
        """
        if self.trajectory_values is not None:
            arrived = self.position_at(rounds_elapsed + 1)
            return HistoryStep(arrived, arrived - position)
        trend = torch.full_like(position, self.drift)
        if self.noise_std:
            trend = trend + self.noise_std * streams.normal("reference", 1, position.shape[1])[:, 0]
        return HistoryStep(position + trend, trend)

    def attract(
        self,
        values: Float[Tensor, "world agent value"],
        position: Float[Tensor, "world value"],
    ) -> Float[Tensor, "world agent value"]:
        """People after history has pulled them."""
        return (
            values + self.attraction * (position[:, None] - values) if self.attraction else values
        )

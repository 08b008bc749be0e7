"""History: an exogenous position in value space that attracts people and carries them along.

Either a random walk, `G' = G + drift + noise_std z`, or the rows of a trajectory, one per round;
after its last row history stays there. Each round people move by `attraction (G - value)`, and by
`drift_share` times history's movement.

One trajectory is shipped, `progressgym_digitized`: five values over nine centuries, the 13th to the
21st, DIGITIZED BY EYE from a figure of the ProgressGym repository (PKU-Alignment/ProgressGym, its
data overview), error about .01. The figure shows embeddings of the text corpus, whose dimensions
"are only chosen for demonstrative purposes" (its README); the benchmark scores models on 19
dimensions, and no table of their vectors is published. It has a realistic shape and is not a
measurement.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from mores.core.config import Config
from mores.core.errors import ParameterError
from mores.core.random_streams import RandomStreams
from mores.registry.varying import PersonNumber, WorldNumber

PROGRESSGYM_DIGITIZED: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {  # digitized by eye, error +-.01; centuries 13 to 21
        "religion": (0.43, 0.29, 0.46, 0.555, 0.52, 0.165, 0.105, 0.195, 0.045),
        "democracy": (0.275, 0.24, 0.28, 0.285, 0.29, 0.285, 0.335, 0.34, 0.25),
        "liberalism": (0.205, 0.18, 0.19, 0.19, 0.195, 0.18, 0.20, 0.245, 0.248),
        "progress expected": (0.37, 0.335, 0.355, 0.31, 0.325, 0.365, 0.385, 0.50, 0.335),
        "uncertainty avoided": (0.43, 0.445, 0.457, 0.457, 0.447, 0.31, 0.335, 0.355, 0.36),
    }
)
TRAJECTORIES = {"progressgym_digitized": tuple(zip(*PROGRESSGYM_DIGITIZED.values(), strict=True))}


class HistoryStep(NamedTuple):
    """History's position and its movement in this round."""

    position: Float[Tensor, "world value"]
    trend: Float[Tensor, "world value"]


class History(Config):
    """Parameters of history; default: constant, without effect on people."""

    drift: Annotated[float, WorldNumber()] = Field(
        default=0.0, description="movement per round, in every value"
    )
    noise_std: Annotated[float, WorldNumber(ge=0)] = Field(
        default=0.0, description="standard deviation of movement per round"
    )
    trajectory: Literal["progressgym_digitized"] | None = Field(
        default=None,
        description="named trajectory instead of drift and noise; progressgym_digitized: 5 values "
        "over 9 centuries, digitized by eye from a figure, error +-.01",
    )
    points: list[list[float]] | None = Field(
        default=None,
        min_length=2,
        max_length=10_000,
        description="custom trajectory: one row per round, one number per value",
    )
    attraction: Annotated[float, PersonNumber(ge=0, le=1)] = Field(
        default=0.0, description="share of the distance to history closed per round"
    )
    drift_share: Annotated[float, PersonNumber(ge=0, le=1)] = Field(
        default=0.0, description="share of history's movement added to each person"
    )

    def model_post_init(self, context: Any) -> None:
        """Refuse incompatible parameters."""
        modes = {"drift or noise_std": self.drift or self.noise_std}
        modes |= {"trajectory": self.trajectory, "points": self.points}
        given = [mode for mode, value in modes.items() if value]
        if len(given) > 1:
            raise ParameterError(
                message=f"{given[0]} and {given[1]} exclude each other", code="conflict"
            )
        if self.points is not None and len({len(row) for row in self.points}) > 1:
            raise ParameterError(
                "points", message="points: rows must have equal lengths", code="wrong_shape"
            )
        if self.points is not None and not self.points[0]:
            raise ParameterError(
                "points", message="points: a row must have at least one value", code="wrong_shape"
            )

    @functools.cached_property
    def trajectory_values(self) -> Float[Tensor, "row value"] | None:
        """Rows of the trajectory or of `points`; None for a random walk."""
        rows = TRAJECTORIES[self.trajectory] if self.trajectory is not None else self.points
        return None if rows is None else torch.tensor(rows, dtype=torch.float32)

    def position_at(self, rounds_elapsed: Int[Tensor, " world"]) -> Float[Tensor, "world value"]:
        """Row of the trajectory after `rounds_elapsed` rounds, at most the last one."""
        assert self.trajectory_values is not None
        rows = self.trajectory_values.to(rounds_elapsed.device)
        return rows[rounds_elapsed.clamp(max=len(rows) - 1)]

    def step(
        self,
        position: Float[Tensor, "world value"],
        rounds_elapsed: Int[Tensor, " world"],
        streams: RandomStreams,
    ) -> HistoryStep:
        """Position and movement in this round.

        Args:
            position: position before the round.
            rounds_elapsed: completed rounds of each world.
            streams: random streams of this round.
        """
        if self.trajectory_values is not None:
            next_position = self.position_at(rounds_elapsed + 1)
            return HistoryStep(next_position, next_position - position)
        if isinstance(self.drift, float):
            trend = torch.full_like(position, self.drift)[:, None]  # world one value
        else:
            trend = torch.zeros_like(position)[:, None] + self.drift
        if self.noise_std:
            trend = trend + self.noise_std * streams.normal("reference", 1, position.shape[1])
        trend = trend[:, 0]
        return HistoryStep(position + trend, trend)

    def attract(
        self,
        values: Float[Tensor, "world agent value"],
        position: Float[Tensor, "world value"],
    ) -> Float[Tensor, "world agent value"]:
        """Values after `attraction` toward history."""
        return (
            values + self.attraction * (position[:, None] - values) if self.attraction else values
        )

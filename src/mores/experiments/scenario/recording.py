"""Options of trajectories: worlds and rounds whose people are stored."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from mores.experiments.scenario.base_models import StrictModel, conflict

NUM_INTERVALS = 50  # between the rounds of a trajectory, unless they are given


class TrajectoryOptions(StrictModel):
    """People's values, groups and traits, stored over rounds of the last stage's last episode.

    The first worlds of every arm are stored, and none of the points of uncertain parameters. A
    world whose episode has ended keeps its last state.
    """

    worlds: int = Field(default=1, ge=0, description="worlds whose people are stored; 0: none")
    rounds: list[Annotated[int, Field(ge=0)]] | None = Field(
        default=None,
        min_length=1,
        description="numbers of completed rounds after which people are stored; 0: the start; "
        "default: 51 rounds, evenly spaced, or all rounds of a shorter episode",
    )
    every: int | None = Field(
        default=None,
        ge=1,
        description="interval in rounds, in place of `rounds`; the start and end are also stored",
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> TrajectoryOptions:
        if self.rounds is not None and self.every is not None:
            raise conflict("give rounds or every, not both", "every")
        return self

    def recorded_rounds(self, last: int) -> tuple[int, ...]:
        """The rounds of an episode of `last` rounds."""
        if not self.worlds:
            return ()
        if self.rounds is not None:
            return tuple(sorted({*self.rounds}))
        if self.every is not None:
            return tuple(sorted({*range(0, last, self.every), last}))
        evenly = np.linspace(0, last, min(NUM_INTERVALS, last) + 1).round()
        return tuple(int(number) for number in np.unique(evenly))

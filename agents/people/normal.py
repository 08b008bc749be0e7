"""People whose values are normally distributed, in one camp or in several.

    value = mean + centre of the camp + spread * z,    z ~ N(0, R),  R_ij = correlation (i != j)

One camp is the default. Answers of real people to value questionnaires form a continuum: a
mixture of several normal distributions was not preferred over a single one. Camps are therefore
an assumption, and whoever makes it writes the camps down.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import ConfigDict, Field, model_validator
from torch import Tensor

from mores.core.deterministic_sum import total
from mores.core.environment import Config
from mores.core.errors import ParameterError
from mores.core.people import People
from mores.core.random_streams import RandomStreams


class MixtureComponent(Config):
    """Some of the people, gathered around a centre of their own."""

    mean_offset: tuple[float, ...] = Field(description="added to the mean, one number a dimension")
    weight: float = Field(
        default=1.0, gt=0, description="part of the people, relative to other camps'"
    )


class NormalPopulation(Config):
    """People with normally distributed values.

    Everybody belongs to a camp by a draw of their own, so the sizes of camps vary from world to
    world; `People.groups` says who belongs where, and is `None` where no camps are named. A
    person's draws depend on their seat alone: in a larger population the first people are the
    same.

    Raises:
        ValidationError: a correlation that this many dimensions cannot all have with each other,
            or a camp whose centre has not one number a dimension.
    """

    tags: ClassVar[Mapping[str, object]] = {"real": False, "distribution": "normal"}

    num_people: int = Field(default=100, ge=1, description="people in a world")
    num_values: int = Field(default=1, ge=1, description="value dimensions")
    mean: float = Field(default=0.0, description="of every dimension")
    std: float = Field(default=1.0, ge=0, description="standard deviation within a camp")
    correlation: float = Field(
        default=0.0, ge=-1, le=1, description="between any two dimensions, within a camp"
    )
    components: tuple[MixtureComponent, ...] = Field(
        default=(), description="default: all people are one camp"
    )

    @model_validator(mode="after")
    def _check_parameters(self) -> NormalPopulation:
        if self.num_values > 1 and self.correlation < -1 / (self.num_values - 1):
            raise ParameterError(
                message=f"{self.num_values} dimensions can have a correlation of "
                f"{-1 / (self.num_values - 1):.4g} with each other at the least, "
                f"not {self.correlation:g}",
                code="conflict",
            )
        for i, camp in enumerate(self.components):
            if len(camp.mean_offset) != self.num_values:
                raise ParameterError(
                    *("components", i, "mean_offset"),
                    message=f"a camp's centre has one number for each of the {self.num_values} value "
                    f"dimensions, not {len(camp.mean_offset)}",
                    code="wrong_shape",
                )
        return self

    @property
    def value_names(self) -> tuple[str, ...]:
        """Names of the value dimensions."""
        return tuple(f"value {number}" for number in range(1, self.num_values + 1))

    def environment_parameters(self) -> dict[str, int]:
        """How many people a world gets, and how many value dimensions."""
        return {"num_people": self.num_people, "num_values": self.num_values}

    def sample_people(self, draws: RandomStreams) -> People:
        """Fresh people for `draws.num_worlds` worlds."""
        z = draws.normal("values", self.num_people, self.num_values)  # world agent value
        values = self.mean + self.std * self._correlate(z)
        if not self.components:
            return People(values)
        shares = torch.tensor([camp.weight for camp in self.components], device=draws.device)
        weights = (shares / shares.sum()).expand(draws.num_worlds, self.num_people, -1)
        groups = draws.ordered_categorical("camp", weights)  # world agent
        centres = torch.tensor([camp.mean_offset for camp in self.components], device=draws.device)
        return People(values + centres[groups], groups=groups)

    def _correlate(
        self, z: Float[Tensor, "world agent value"]
    ) -> Float[Tensor, "world agent value"]:
        """Independent normals to equally correlated ones, by the symmetric root of R.

        R has the eigenvalue 1 + (D - 1) r along (1, ..., 1) and 1 - r across it, so its root is
        `across * I` and the same number added everywhere.
        """
        if self.correlation == 0 or self.num_values == 1:
            return z
        across = math.sqrt(1 - self.correlation)
        along = math.sqrt(max(0.0, 1 + (self.num_values - 1) * self.correlation))
        return across * z + (along - across) / self.num_values * total(z, -1)[..., None]

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
from mores.core.environment import Configured
from mores.core.errors import ParameterError
from mores.core.people import People
from mores.core.random_streams import Draws


class Camp(Configured):
    """Some of the people, gathered around a centre of their own."""

    centre: tuple[float, ...] = Field(description="added to the mean, one number a dimension")
    share: float = Field(
        default=1.0, gt=0, description="part of the people, relative to other camps'"
    )


class Normal(Configured):
    """People with normally distributed values.

    Everybody belongs to a camp by a draw of their own, so the sizes of camps vary from world to
    world; `People.groups` says who belongs where, and is `None` where no camps are named. A
    person's draws depend on their seat alone: in a larger population the first people are the
    same.

    Raises:
        ValidationError: a correlation that this many dimensions cannot all have with each other,
            or a camp whose centre has not one number a dimension.
    """

    model_config = ConfigDict(populate_by_name=True)
    traits: ClassVar[Mapping[str, object]] = {"real": False, "distribution": "normal"}

    # `people` is what a scenario calls it; the attribute of that name is the method that makes them
    count: int = Field(default=100, ge=1, alias="people", description="people in a world")
    values: int = Field(default=1, ge=1, description="value dimensions")
    mean: float = Field(default=0.0, description="of every dimension")
    spread: float = Field(default=1.0, ge=0, description="standard deviation within a camp")
    correlation: float = Field(
        default=0.0, ge=-1, le=1, description="between any two dimensions, within a camp"
    )
    camps: tuple[Camp, ...] = Field(default=(), description="default: all people are one camp")

    @model_validator(mode="after")
    def _possible(self) -> Normal:
        if self.values > 1 and self.correlation < -1 / (self.values - 1):
            raise ParameterError(
                message=f"{self.values} dimensions can have a correlation of "
                f"{-1 / (self.values - 1):.4g} with each other at the least, "
                f"not {self.correlation:g}",
                code="conflict",
            )
        for i, camp in enumerate(self.camps):
            if len(camp.centre) != self.values:
                raise ParameterError(
                    *("camps", i, "centre"),
                    message=f"a camp's centre has one number for each of the {self.values} value "
                    f"dimensions, not {len(camp.centre)}",
                    code="wrong_shape",
                )
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the value dimensions."""
        return tuple(f"value {number}" for number in range(1, self.values + 1))

    def supplies(self) -> dict[str, int]:
        """How many people a world gets, and how many value dimensions."""
        return {"people": self.count, "values": self.values}

    def people(self, draws: Draws) -> People:
        """Fresh people for `draws.worlds` worlds."""
        z = draws.normal("values", self.count, self.values)  # world agent value
        values = self.mean + self.spread * self._correlate(z)
        if not self.camps:
            return People(values)
        shares = torch.tensor([camp.share for camp in self.camps], device=draws.device)
        weights = (shares / shares.sum()).expand(draws.worlds, self.count, -1)
        groups = draws.choose_ordered("camp", weights)  # world agent
        centres = torch.tensor([camp.centre for camp in self.camps], device=draws.device)
        return People(values + centres[groups], groups=groups)

    def _correlate(
        self, z: Float[Tensor, "world agent value"]
    ) -> Float[Tensor, "world agent value"]:
        """Independent normals to equally correlated ones, by the symmetric root of R.

        R has the eigenvalue 1 + (D - 1) r along (1, ..., 1) and 1 - r across it, so its root is
        `across * I` and the same number added everywhere.
        """
        if self.correlation == 0 or self.values == 1:
            return z
        across = math.sqrt(1 - self.correlation)
        along = math.sqrt(max(0.0, 1 + (self.values - 1) * self.correlation))
        return across * z + (along - across) / self.values * total(z, -1)[..., None]

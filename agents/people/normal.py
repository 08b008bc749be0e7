"""A population with values from a normal distribution or a mixture of normal distributions.

    value = mean + mean_offset + std * z,    z ~ N(0, R),  R_ij = correlation (i != j)

One component is the default. Answers of measured people to value questionnaires form a continuum: a
mixture of several normal distributions was not preferred over a single one. Several components are
therefore an assumption that a scenario must state.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from pydantic import ConfigDict, Field, model_validator
from torch import Tensor

from mores.core.config import Config
from mores.core.deterministic_sum import total
from mores.core.errors import ParameterError
from mores.core.names import ValueNames, check_num_names, fill_num_values, name_problem
from mores.core.people import People, Population
from mores.core.random_streams import RandomStreams
from mores.core.stream_addresses import COMPONENT


class MixtureComponent(Config):
    """One component of a normal mixture: a group of people with its own mean."""

    name: str | None = Field(default=None, description="name of the group")
    mean_offset: list[float] = Field(description="added to the mean, one number a dimension")
    weight: float | None = Field(
        default=1.0,
        gt=0,
        description="share of the people, relative to the sum of all weights; null: the weights "
        "of the others are shares, and this component has the rest",
    )


class NormalPopulation(Population):
    """People with normally distributed values.

    The component of each person is random, so group sizes vary between worlds; `People.groups` is
    the component, and `None` without components. The random numbers of a person depend on their
    index alone: in a larger population the first people are the same.

    Raises:
        ValidationError: a correlation that is impossible for this many dimensions, or a component
            whose `mean_offset` does not have one number per dimension, or weights that leave
            nothing for the component without a weight.
    """

    model_config = ConfigDict(populate_by_name=True)  # a copy has the fields by their own names

    tags: ClassVar[Mapping[str, object]] = {"real": False, "distribution": "normal"}

    num_people: int = Field(default=100, ge=1, le=10_000_000, description="people in a world")
    num_values: int = Field(default=1, ge=1, le=10_000, description="value dimensions")
    names_of_values: ValueNames = Field(
        default=(),
        alias="value_names",
        description="names of the values, or a known set (schwartz10, schwartz4); num_values "
        "follows; default: those of the environment",
    )
    mean: float = Field(default=0.0, description="of every dimension")
    std: float = Field(default=1.0, ge=0, description="standard deviation within a component")
    correlation: float = Field(
        default=0.0, ge=-1, le=1, description="of any two dimensions, within a component"
    )
    components: list[MixtureComponent] = Field(
        default=[], description="components of the mixture; default: one"
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_num_values(cls, data: Any) -> Any:
        return fill_num_values(data)

    @model_validator(mode="after")
    def _check_parameters(self) -> NormalPopulation:
        check_num_names(self.names_of_values, self.num_values)
        if self.num_values > 1 and self.correlation < -1 / (self.num_values - 1):
            raise ParameterError(
                message=f"the correlation of {self.num_values} dimensions is at least "
                f"{-1 / (self.num_values - 1):.4g}, not {self.correlation:g}",
                code="conflict",
            )
        for i, component in enumerate(self.components):
            if len(component.mean_offset) != self.num_values:
                raise ParameterError(
                    *("components", i, "mean_offset"),
                    message=f"mean_offset needs one number for each of the {self.num_values} value "
                    f"dimensions, not {len(component.mean_offset)}",
                    code="wrong_shape",
                )
        self._check_weights()
        names = [component.name for component in self.components]
        for i, name in enumerate(names):
            if name is None and any(names):
                message = "name every component or none"
                raise ParameterError("components", i, "name", message=message, code="missing")
            if name is not None and (problem := name_problem(name)):
                raise ParameterError("components", i, "name", message=problem)
            if name is not None and name in names[:i]:
                message = f"two components are named {name!r}"
                raise ParameterError("components", i, "name", message=message, code="duplicate")
        return self

    def _check_weights(self) -> None:
        rests = [i for i, component in enumerate(self.components) if component.weight is None]
        if len(rests) > 1:
            message = "only one component can have the rest of the people"
            raise ParameterError("components", rests[1], "weight", message=message, code="conflict")
        total_weight = sum(component.weight or 0.0 for component in self.components)
        if rests and total_weight >= 1.0:
            message = f"the weights of the other components leave nothing: {total_weight:g}"
            raise ParameterError("components", rests[0], "weight", message=message, code="conflict")

    def _weights(self) -> list[float]:
        """Weight of each component, in the place of null what the others leave."""
        rest = 1.0 - sum(component.weight or 0.0 for component in self.components)
        return [rest if c.weight is None else c.weight for c in self.components]

    @property
    def value_names(self) -> tuple[str, ...]:
        """Names of the value dimensions, if they have names."""
        return self.names_of_values

    @property
    def group_names(self) -> tuple[str, ...]:
        """Names of the components, if they have names."""
        return tuple(component.name for component in self.components if component.name is not None)

    @property
    def value_std(self) -> float:
        """Within components and between their means, in large populations."""
        if not self.components:
            return self.std
        weights = np.array(self._weights())
        offsets = np.array([component.mean_offset for component in self.components])
        shares = (weights / weights.sum())[:, None]  # component one
        between = (shares * (offsets - (shares * offsets).sum(0)) ** 2).sum(0)  # value
        return math.sqrt(self.std**2 + float(between.mean()))

    def environment_parameters(self) -> dict[str, int]:
        """Environment parameters that this population determines."""
        size = {"num_people": self.num_people, "num_values": self.num_values}
        return {**size, "num_groups": len(self.components)} if self.components else size

    def sample_people(self, streams: RandomStreams) -> People:
        """People for `streams.num_worlds` worlds."""
        z = streams.normal("values", self.num_people, self.num_values)  # world agent value
        values = self.mean + self.std * self._correlate(z)
        if not self.components:
            return People(values)
        weights = torch.tensor(self._weights(), device=streams.device)
        shares = (weights / weights.sum()).expand(streams.num_worlds, self.num_people, -1)
        groups = streams.ordered_categorical(COMPONENT, shares)  # world agent
        offsets = torch.tensor([c.mean_offset for c in self.components], device=streams.device)
        return People(values + offsets[groups], groups=groups, group_names=self.group_names)

    def _correlate(
        self, z: Float[Tensor, "world agent value"]
    ) -> Float[Tensor, "world agent value"]:
        """Independent normal numbers with correlation, by the symmetric root of R.

        R has the eigenvalue 1 + (D - 1) r along (1, ..., 1) and 1 - r across it, so its root is
        `across * I` plus a constant matrix.
        """
        if self.correlation == 0 or self.num_values == 1:
            return z
        across = math.sqrt(1 - self.correlation)
        along = math.sqrt(max(0.0, 1 + (self.num_values - 1) * self.correlation))
        return across * z + (along - across) / self.num_values * total(z, -1)[..., None]

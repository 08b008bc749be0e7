"""Person parameters that depend on the population: by group, or by a column of the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mores.core.errors import UserError, did_you_mean
from mores.core.people import People
from mores.core.person_parameters import PersonParameter
from mores.core.random_streams import RandomStreams
from mores.registry.varying import PersonNumber


class ByGroup(PersonParameter):
    """A value, or a distribution, for each group of people.

    `values` has an entry for every group: a list in the order of the groups, or a mapping from
    names of groups. A distribution is sampled for all people, and used for those of its group.
    """

    values: (
        tuple[Annotated[float, PersonNumber()], ...] | dict[str, Annotated[float, PersonNumber()]]
    ) = Field(min_length=1, description="number or distribution by group: a list or a mapping")

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Smallest and largest possible value in any group; None: unknown for a group."""
        found = [_bounds(value) for value in self._entries.values()]
        if any(each is None for each in found):
            return None
        ranges = [each for each in found if each is not None]
        return min(low for low, _ in ranges), max(high for _, high in ranges)

    def sample(self, people: People, streams: RandomStreams) -> Float[Tensor, "world agent"]:
        """See the class docstring.

        Raises:
            UserError: people have no groups, or others than `values`.
        """
        if people.groups is None:
            message = "by_group: these people have no groups: give a population that has them "
            message += "(population=, in a scenario population:)"
            raise UserError(message, code="missing")
        outside = people.groups[(people.groups < 0) | (people.groups >= len(self._entries))]
        if len(outside) and not people.group_names:
            message = (
                f"by_group: {len(self._entries)} values are given, and a person has the group "
            )
            raise UserError(f"{message}{int(outside[0])}, from 0", code="wrong_shape")
        sampled = torch.zeros(people.groups.shape, dtype=torch.float64, device=streams.device)
        for name, value in self._entries.items():
            index = _group_index(people, name, len(self._entries))
            # a name of its own: the numbers of a group do not depend on the order of the mapping
            own = streams.child(str(name))
            given: Any = value.sample(people, own) if isinstance(value, PersonParameter) else value
            sampled = torch.where(people.groups == index, given, sampled)
        return sampled

    @property
    def _entries(self) -> Mapping[Any, object]:
        if isinstance(self.values, Mapping):
            return self.values
        return dict(enumerate(self.values))


class Column(PersonParameter):
    """A trait of the people, such as a column of a survey: `offset + factor * trait`."""

    name: str = Field(description="name of the trait")
    factor: float = Field(default=1.0, description="factor of the trait")
    offset: float = Field(default=0.0, description="added to it")

    def sample(self, people: People, streams: RandomStreams) -> Float[Tensor, "world agent"]:
        """See the class docstring.

        Raises:
            UserError: people have no such trait.
        """
        if self.name not in people.traits:
            near = did_you_mean(self.name, people.traits) or "; these people have no traits"
            message = f"column: no trait {self.name!r:.60}{near}"
            raise UserError(message, code="unknown_name")
        return self.offset + self.factor * people.traits[self.name].to(torch.float64)


class Scaled(PersonParameter):
    """A parameter in other units: `factor` times another one."""

    parameter: Annotated[float, PersonNumber()] = Field(description="the other parameter")
    factor: float = Field(gt=0, description="factor")

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Bounds of `parameter` times `factor`; None: unknown."""
        bounds = _bounds(self.parameter)
        return None if bounds is None else (self.factor * bounds[0], self.factor * bounds[1])

    def sample(self, people: People, streams: RandomStreams) -> Float[Tensor, "world agent"]:
        """See the class docstring."""
        if not isinstance(self.parameter, PersonParameter):
            size = people.values.shape[:2]
            number = self.factor * self.parameter
            return torch.full(size, number, dtype=torch.float64, device=streams.device)
        return self.factor * self.parameter.sample(people, streams).to(torch.float64)


def scaled(number: float, factor: float) -> float:
    """`factor` times a number, or the person parameter `factor` times a person parameter."""
    if isinstance(number, PersonParameter) and factor:
        return Scaled(parameter=number, factor=factor)  # type: ignore[return-value]
    return number * factor if factor else 0.0


def _bounds(value: object) -> tuple[float, float] | None:
    if isinstance(value, PersonParameter):
        return value.bounds
    assert isinstance(value, float)
    return value, value


def _group_index(people: People, name: int | str, count: int) -> int:
    """Index of a group; refuses groups that the people do not have, and other numbers of groups."""
    names = people.group_names
    if isinstance(name, str) and name not in names:
        near = did_you_mean(name, names) if names else "; these groups have no names: use a list"
        message = f"by_group: no group {name!r:.60}{near}"
        raise UserError(message, code="unknown_name")
    if names and count != len(names):
        message = f"by_group: needs a value for each of {', '.join(names)}; {count} are given"
        raise UserError(message, code="wrong_shape")
    return names.index(name) if isinstance(name, str) else name

"""Parameters whose value differs between people, and functions that read them.

A field of an environment, of a config within it (`trust`, `peers.rule`) or of a response model may
hold a number, or a `PersonParameter`: a distribution, a value for each group, a column of the
population. The annotation of such a field is `mores.registry.varying.PersonNumber`.

At the start of an episode `add_parameters` samples every such field once for each person. The
samples are traits of the people (`People.traits`), named by the path of the field; like all traits
they are inherited by newcomers, recorded, and available to metrics. In a round,
`resolve_parameters` returns a copy of a config in which each such field is a tensor
`[world, agent, 1]`; `person_number` returns this tensor for one field, or its number. The tensor
behaves as a number does (`mores.core.parameter_tensor`).

`mores.registry.varying.WorldNumber` is the annotation of a number that is the same for all people
of a world, such as the drift of history. It may differ between draws of uncertain parameters
(`PerDraw`); `world_number` reads it.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mores.core.config import Config
from mores.core.errors import UserError
from mores.core.parameter_tensor import ParameterTensor
from mores.core.people import People
from mores.core.random_streams import RandomStreams

AnyConfig = TypeVar("AnyConfig", bound=Config)


class PersonParameter(Config, ABC):
    """Parameter whose value differs between people: a distribution, or a function of traits."""

    tags: ClassVar[Mapping[str, object]] = {}  # for `mores list --where`

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Smallest and largest possible value, in the units of the field.

        They must be within the range of the field. None: they are unknown before people are
        sampled; then every sample is checked.
        """
        return None

    @abstractmethod
    def sample(self, people: People, streams: RandomStreams) -> Float[Tensor, "world agent"]:
        """The value of each person, sampled at the start of an episode, in the units of the field.

        Args:
            people: the people, with values, traits and groups.
            streams: random streams that only this parameter uses.
        """


class PerDraw(PersonParameter):
    """One number for each draw of uncertain parameters, where draws are simulated in one batch."""

    values: tuple[float, ...] = Field(
        min_length=1, description="number for each draw, indexed by the number of the draw"
    )

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest of the numbers."""
        return min(self.values), max(self.values)

    def sample(self, people: People, streams: RandomStreams) -> Float[Tensor, "world agent"]:
        """The number of the draw of each world, the same for all people of the world."""
        by_world = self.by_world(streams)
        return by_world[:, None].expand(-1, people.values.shape[1])

    def by_world(self, streams: RandomStreams) -> Float[Tensor, " world"]:
        """The number of the draw of each world, in float64."""
        numbers = torch.tensor(self.values, dtype=torch.float64, device=streams.device)
        return numbers[streams.draw]


class RangeChecked(PersonParameter):
    """Parameter of unknown bounds, whose samples are compared with the range of the field.

    Attributes:
        parameter: the parameter.
        low, high: range of the field; None: no limit.
        excludes_low, excludes_high: whether this end of the range is not a valid value.
    """

    parameter: PersonParameter
    low: float | None
    high: float | None
    excludes_low: bool = False
    excludes_high: bool = False

    def sample(self, people: People, streams: RandomStreams) -> Float[Tensor, "world agent"]:
        """Samples of the parameter.

        Raises:
            UserError: a sample is outside the range.
        """
        values = self.parameter.sample(people, streams)
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        below = values <= low if self.excludes_low else values < low
        above = values >= high if self.excludes_high else values > high
        outside = values[below | above]
        if len(outside):
            ends = [end for end, no in ((low, self.excludes_low), (high, self.excludes_high)) if no]
            without = f", without {' and '.join(f'{end:g}' for end in ends)}" if ends else ""
            message = f"a person has {outside[0].item():g}; the range is {low:g} to {high:g}"
            raise UserError(message + without, code="out_of_range")
        return values


def person_parameters(fields: Mapping[str, Any]) -> dict[str, PersonParameter]:
    """All person parameters in `fields` and, recursively, in configs among them, by path.

    Args:
        fields: values of fields by path: numbers, person parameters, configs, and mappings of
            these by name; others are skipped.
    """
    found: dict[str, PersonParameter] = {}
    for path, value in fields.items():
        if isinstance(value, PersonParameter):
            found[path] = value
        elif isinstance(value, Config):
            names = type(value).model_fields
            prefix = f"{path}." if path else ""
            found |= person_parameters({f"{prefix}{name}": getattr(value, name) for name in names})
        elif isinstance(value, Mapping):
            found |= person_parameters({f"{path}.{name}": each for name, each in value.items()})
    return found


def refuse_parameters(owner: str, config: Config) -> None:
    """Raise an error if a config has person parameters, where there are no people to sample them.

    Args:
        owner: path of the config with a final dot, for the message.
        config: the config.

    Raises:
        UserError: the config has a person parameter.
    """
    for path in person_parameters({"": config}):
        message = (
            f"{owner}{path}: must be a number here, not a person parameter: there are no people"
        )
        raise UserError(message, code="unsupported", path=f"{owner}{path}")


def sample_parameters(
    people: People, parameters: Mapping[str, PersonParameter], streams: RandomStreams
) -> dict[str, Float[Tensor, "world agent"]]:
    """A sample of each parameter by path, in float64.

    Args:
        people: people at the start of an episode.
        parameters: person parameters by path.
        streams: random streams of the environment or policy.

    Raises:
        UserError: samples do not have the shape `[world, agent]`, are not finite, or are outside
            the range of the field or the `bounds` of the parameter.
    """
    sampled: dict[str, Tensor] = {}
    shape = tuple(people.values.shape[:2])
    for path, parameter in parameters.items():
        try:
            values = parameter.sample(people, streams.child("parameter").child(path))
        except UserError as error:
            message = f"{path}: {error}"
            raise UserError(message, code=error.code, path=error.path or path) from None
        if not isinstance(values, Tensor) or tuple(values.shape) != shape:
            found = getattr(values, "shape", type(values).__name__)
            message = f"{path}: one number for each person is needed, {list(shape)}, not {found}"
            raise UserError(message, code="wrong_shape", path=path)
        if not values.float().isfinite().all():
            message = f"{path}: the number of a person is NaN, infinite or beyond float32"
            raise UserError(message, code="not_finite", path=path)
        _check_bounds(path, values, parameter.bounds)
        sampled[path] = values.to(torch.float64)
    return sampled


def add_parameters(
    people: People, parameters: Mapping[str, PersonParameter], streams: RandomStreams
) -> People:
    """People with a sample of each parameter among their traits, named by its path.

    Args:
        people, parameters, streams: see `sample_parameters`.

    Raises:
        UserError: see `sample_parameters`; the people have a trait with the name of a parameter.
    """
    if taken := min(people.traits.keys() & parameters.keys(), default=""):
        message = f"a trait has the name of the parameter {taken}: give it another name"
        raise UserError(f"population: {message}", code="duplicate", path="population")
    sampled = sample_parameters(people, parameters, streams)
    return dataclasses.replace(people, traits={**people.traits, **sampled}) if sampled else people


def _check_bounds(path: str, values: Tensor, bounds: tuple[float, float] | None) -> None:
    """Check that samples are what `PersonParameter.bounds` says, up to rounding."""
    if bounds is None:
        return
    low, high = bounds
    tolerance = 1e-9 * (high - low)
    outside = values[(values < low - tolerance) | (values > high + tolerance)]
    if len(outside):
        message = f"{path}: a person has {outside[0].item():g}; the bounds are {low:g} to {high:g}"
        raise UserError(message, code="out_of_range", path=path)


def person_number(number: Any, traits: Mapping[str, Tensor], path: str) -> Any:
    """The number of a field, or a `ParameterTensor` `[world, agent, 1]` if people differ in it.

    Args:
        number: value of the field: a number or a person parameter.
        traits: traits of the people, with the samples of the parameter.
        path: path of the field, the name of its trait.
    """
    if not isinstance(number, PersonParameter):
        return number
    return ParameterTensor.of(traits[path][..., None])


def world_number(number: Any, streams: RandomStreams) -> Any:
    """The number of a field, or a `ParameterTensor` `[world, 1, 1]` if draws differ in it.

    Args:
        number: value of a field that is the same for all people: a number or a `PerDraw`.
        streams: random streams of the worlds, which know the draw of each.
    """
    if not isinstance(number, PerDraw):
        return number
    return ParameterTensor.of(number.by_world(streams)[:, None, None])


def resolve_parameters(
    config: AnyConfig, traits: Mapping[str, Tensor], path: str, streams: RandomStreams | None = None
) -> AnyConfig:
    """A copy of a config in which person parameters are tensors; the config itself if it has none.

    Args:
        config: a config of an environment or policy.
        traits: traits of the people, with the samples of its parameters.
        path: path of the config, the prefix of the names of their traits.
        streams: random streams of the worlds, for numbers that differ between draws.

    Returns:
        Numbers that differ between people are `[world, agent, 1]`, those that differ only between
        draws `[world, 1, 1]`.
    """
    update: dict[str, Any] = {}
    for name in type(config).model_fields:
        value, below = getattr(config, name), f"{path}.{name}" if path else name
        resolved = _resolved(value, traits, below, streams)
        update |= {} if resolved is value else {name: resolved}
    return config.model_copy(update=update) if update else config


def _resolved(
    value: Any, traits: Mapping[str, Tensor], path: str, streams: RandomStreams | None
) -> Any:
    """The value of a field with tensors in place of person parameters; itself if it has none."""
    if isinstance(value, PersonParameter):
        if path in traits:
            return person_number(value, traits, path)
        if isinstance(value, PerDraw) and streams is not None:
            return world_number(value, streams)
    elif isinstance(value, Config):
        return resolve_parameters(value, traits, path, streams)
    elif isinstance(value, Mapping):
        found = {n: _resolved(each, traits, f"{path}.{n}", streams) for n, each in value.items()}
        return found if any(found[name] is not value[name] for name in found) else value
    return value

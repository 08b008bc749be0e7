"""Parameters that differ between people, groups or draws, and how code reads them.

A field of an environment, of a part of one (`trust`, `peers.rule`) or of a response model may hold
a number, or a `PersonParameter`: a distribution, a value per group, a column of the population. Its
annotation is `mores.registry.varying.PersonNumber`.

At the start of an episode `add_parameters` samples every such field once for each person. The
samples are traits of the people (`People.traits`), named by the path of the field, so that they are
inherited by newcomers, recorded and seen by metrics like all traits. In a round, `bind` gives a
copy of the part in which the field is a tensor `[world, agent, 1]`, and `person_number` that tensor
or the number. The tensor behaves as a number would (`mores.core.parameter_tensor`).

`WorldNumber` is the annotation of a number of the community, such as the drift of history. It
differs between the draws of uncertain parameters only: `PerDraw`, read by `world_number`.
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
    """How a parameter differs between people."""

    tags: ClassVar[Mapping[str, object]] = {}  # for `mores list --where`

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Smallest and largest possible value, compared with the range of the field.

        None: unknown before people are sampled; then every sample is checked.
        """
        return None

    @abstractmethod
    def sample(self, people: People, streams: RandomStreams) -> Float[Tensor, "world agent"]:
        """The value of each person, at the start of an episode.

        Args:
            people: the people, with values, traits and groups.
            streams: random streams of this parameter alone.
        """


class PerDraw(PersonParameter):
    """A number for each draw of the uncertain parameters that are simulated in one batch."""

    values: tuple[float, ...] = Field(min_length=1, description="by number of the draw")

    @property
    def bounds(self) -> tuple[float, float]:
        """Range of the numbers."""
        return min(self.values), max(self.values)

    def sample(self, people: People, streams: RandomStreams) -> Float[Tensor, "world agent"]:
        """The number of each world's draw, for all people."""
        by_world = self.by_world(streams)
        return by_world[:, None].expand(-1, people.values.shape[1])

    def by_world(self, streams: RandomStreams) -> Float[Tensor, " world"]:
        """The number of each world's draw, in float64."""
        numbers = torch.tensor(self.values, dtype=torch.float64, device=streams.device)
        return numbers[streams.draw]


class Ranged(PersonParameter):
    """A parameter whose values are only known when people are sampled, with the field's range.

    `excludes_low` and `excludes_high`: the end of the range is no possible value.
    """

    parameter: PersonParameter
    low: float | None
    high: float | None
    excludes_low: bool = False
    excludes_high: bool = False

    def sample(self, people: People, streams: RandomStreams) -> Float[Tensor, "world agent"]:
        """The values.

        Raises:
            UserError: a value is outside of the range.
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


def person_parameters(parts: Mapping[str, Any]) -> dict[str, PersonParameter]:
    """All parameters that differ, by path: those in `parts`, and in fields of configs among them.

    Args:
        parts: numbers, parameters and configs by path.
    """
    found: dict[str, PersonParameter] = {}
    for path, part in parts.items():
        if isinstance(part, PersonParameter):
            found[path] = part
        elif isinstance(part, Config):
            names = type(part).model_fields
            prefix = f"{path}." if path else ""
            found |= person_parameters({f"{prefix}{name}": getattr(part, name) for name in names})
    return found


def refuse_parameters(owner: str, config: Config) -> None:
    """Refuse a config with parameters that differ, where its owner has no people to sample them.

    Raises:
        UserError: it has some.
    """
    for path in person_parameters({"": config}):
        message = f"{owner}{path}: must be a number here; only people differ"
        raise UserError(message, code="unsupported", path=f"{owner}{path}")


def add_parameters(
    people: People, parameters: Mapping[str, PersonParameter], streams: RandomStreams
) -> People:
    """People with a sample of each parameter among their traits, in float64.

    Args:
        people: people at the start of an episode.
        parameters: by path.
        streams: random streams of the environment or policy.

    Raises:
        UserError: a sample has another shape, or a number that is not finite or outside of the
            parameter's `bounds`.
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
            given = getattr(values, "shape", type(values).__name__)
            message = f"{path}: one number for each person is needed, {list(shape)}, not {given}"
            raise UserError(message, code="wrong_shape", path=path)
        if not values.float().isfinite().all():
            message = f"{path}: the number of a person is NaN, infinite or beyond float32"
            raise UserError(message, code="not_finite", path=path)
        _check_bounds(path, values, parameter.bounds)
        sampled[path] = values.to(torch.float64)
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
    """The number of a field, or a `ParameterTensor` `[world, agent, 1]` if people differ."""
    if not isinstance(number, PersonParameter):
        return number
    return ParameterTensor.of(traits[path][..., None])


def world_number(number: Any, streams: RandomStreams) -> Any:
    """The number of a field of the community, or a `ParameterTensor` `[world, 1, 1]` of draws."""
    if not isinstance(number, PerDraw):
        return number
    return ParameterTensor.of(number.by_world(streams)[:, None, None])


def bind(
    config: AnyConfig, traits: Mapping[str, Tensor], path: str, streams: RandomStreams | None = None
) -> AnyConfig:
    """A copy in which parameters that differ are tensors; the config itself if none does.

    Args:
        config: a part of an environment or policy.
        traits: traits of the people.
        path: path of the part, as in `People.traits`.
        streams: random streams, for parameters of the community that differ between draws.

    Returns:
        Parameters of people are `[world, agent, 1]`, those of the community `[world, 1, 1]`.
    """
    update: dict[str, Any] = {}
    for name in type(config).model_fields:
        value, below = getattr(config, name), f"{path}.{name}" if path else name
        if isinstance(value, PersonParameter):
            if below in traits:
                update[name] = person_number(value, traits, below)
            elif isinstance(value, PerDraw) and streams is not None:
                update[name] = world_number(value, streams)
        elif isinstance(value, Config):
            part = bind(value, traits, below, streams)
            update |= {} if part is value else {name: part}
    return config.model_copy(update=update) if update else config

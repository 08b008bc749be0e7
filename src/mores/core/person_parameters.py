"""Parameters that differ between people, groups or draws, and how code reads them.

A field of an environment, of a part of one (`trust`, `peers.rule`) or of a response model may hold
a number, or a `PersonParameter`: a distribution, a value per group, a column of the population. Its
annotation is `mores.registry.varying.PersonNumber`.

At the start of an episode `add_parameters` samples every such field once for each person. The
samples are traits of the people (`People.traits`), named by the path of the field, so that they are
inherited by newcomers, recorded and seen by metrics like all traits. In a round, `bind` gives a
copy of the part in which the field is a tensor `[world, agent, 1]`, and `person_number` that tensor
or the number.

`WorldNumber` is the annotation of a number of the community, such as the drift of history. It
differs between the draws of uncertain parameters only: `PerDraw`, read by `world_number`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar, overload

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mores.core.config import Config
from mores.core.errors import UserError
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


def person_parameters(config: Config, path: str = "") -> dict[str, PersonParameter]:
    """The fields of a config and of the configs in it that hold a `PersonParameter`, by path."""
    found: dict[str, PersonParameter] = {}
    for name in type(config).model_fields:
        value, below = getattr(config, name), f"{path}.{name}" if path else name
        if isinstance(value, PersonParameter):
            found[below] = value
        elif isinstance(value, Config):
            found |= person_parameters(value, below)
    return found


def sample_parameters(
    parameters: Mapping[str, PersonParameter],
    people: People,
    streams: RandomStreams,
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> dict[str, Float[Tensor, "world agent"]]:
    """A sample of each parameter by path, in float64.

    Raises:
        UserError: a value of another shape, not finite, or outside the range of its field.
    """
    sampled = {}
    for path, parameter in parameters.items():
        values = parameter.sample(people, streams.child(path))
        shape = tuple(people.values.shape[:2])
        if not isinstance(values, Tensor) or tuple(values.shape) != shape:
            given = getattr(values, "shape", type(values).__name__)
            message = f"{path}: one number for each person is needed, {list(shape)}, not {given}"
            raise UserError(message, code="wrong_shape", path=path)
        if parameter.bounds is None:
            _check_sample(path, values, (ranges or {}).get(path, (-math.inf, math.inf)))
        sampled[path] = values.to(torch.float64)
    return sampled


def _check_sample(path: str, values: Tensor, allowed: tuple[float, float]) -> None:
    """Refuse a sampled value that is not finite or outside the range of the field."""
    wrong = values[~(values.isfinite() & (values >= allowed[0]) & (values <= allowed[1]))]
    if len(wrong):
        message = f"{path}: a person has {wrong[0].item():g}; the range is "
        message += f"{allowed[0]:g} to {allowed[1]:g}"
        raise UserError(message, code="out_of_range", path=path)


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
                update[name] = traits[below].to(torch.float32)[..., None]
            elif isinstance(value, PerDraw) and streams is not None:
                update[name] = value.by_world(streams).to(torch.float32)[:, None, None]
        elif isinstance(value, Config):
            part = bind(value, traits, below, streams)
            update |= {} if part is value else {name: part}
    return config.model_copy(update=update) if update else config

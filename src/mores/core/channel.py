"""Feedback channels: how a latent judgement becomes feedback that a learner may see.

A channel is a pure function of latent quantities and random streams. The environment or policy that
uses it has a field for it, computes the inputs, and takes the outputs. Names and types, where J
judges compare options (in `token_feedback` a judge compares the completions of a pair of agents):

    input          type                          meaning
    utility        Float [world judge option]    of each option to its judge; -inf: not available
    completion     Float [world agent step token]  one-hot tokens; zeros where there is none
    inappropriate  Bool  [world token]           inappropriate tokens
    token_value    Float [world principal token] utility of each token, less penalties

    output         type                          meaning
    preferred      Bool  [world judge option]    the one option that a judge prefers
    annotator      Int   [world judge]           index of the person who recorded it
    reward         Float [world judge option]    the judge's rating of each option
    critique       Float [world agent token]     1 for criticized tokens, else 0
    demonstration  Int   [world agent step]      tokens of a demonstration
    principal      Int   [world agent]           index of the demonstrating principal
    flipped        Bool  [world judge]           latent: whether the answer was flipped

Outputs have the names of the fields of a learner's batch (`mores.agents.learning.batch`). Other
names are free, for environments that define their own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from jaxtyping import Bool, Float, Int, jaxtyped
from torch import Tensor

from mores.core.config import Config
from mores.core.errors import ParameterError, UserError
from mores.core.person_parameters import bind, refuse_parameters
from mores.core.random_streams import RandomStreams

TYPES: dict[str, Any] = {
    "utility": Float[Tensor, "world judge option"],
    "completion": Float[Tensor, "world agent step token"],
    "inappropriate": Bool[Tensor, "world token"],
    "token_value": Float[Tensor, "world principal token"],
    "preferred": Bool[Tensor, "world judge option"],
    "annotator": Int[Tensor, "world judge"],
    "reward": Float[Tensor, "world judge option"],
    "critique": Float[Tensor, "world agent token"],
    "demonstration": Int[Tensor, "world agent step"],
    "principal": Int[Tensor, "world agent"],
    "flipped": Bool[Tensor, "world judge"],
}


class Channel(Config, ABC):
    """How a latent judgement becomes feedback.

    Attributes:
        inputs: names of the latent quantities that it reads; it gets no others.
        outputs: names of the feedback that it gives.
        latent_outputs: names of what no learner may see, for metrics.
        scoped: whether its random streams are distinct from those of other channels. The streams of
            the package's channels have distinct names instead, so that addresses stay as they were.
    """

    tags: ClassVar[Mapping[str, object]] = {}  # for `mores list --where`
    inputs: ClassVar[tuple[str, ...]] = ()
    outputs: ClassVar[tuple[str, ...]] = ()
    latent_outputs: ClassVar[tuple[str, ...]] = ()
    scoped: ClassVar[bool] = True

    @abstractmethod
    def feedback(
        self, inputs: Mapping[str, Tensor], streams: RandomStreams
    ) -> Mapping[str, Tensor]:
        """All outputs and latent outputs by name, from the declared inputs. Pure."""

    def expected(self, inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Exact expectations of outputs, by name; empty where unknown. Any float dtype."""
        return {}


class TokenNaming(ABC):
    """What a channel subclasses whose critiques judge each token for itself."""

    @property
    @abstractmethod
    def naming_probability(self) -> float:
        """Probability that an inappropriate token is criticized."""


def require_channel(
    channel: Channel, field: str, inputs: Collection[str], outputs: Collection[str]
) -> None:
    """Check that a channel fits a field, when the owner of the field is constructed.

    Args:
        channel: the channel.
        field: name of the field.
        inputs: names of the latent quantities that the owner computes.
        outputs: names of the feedback that it takes; the first is required.

    Raises:
        ParameterError: the channel reads or gives something else.
    """
    required, *_ = outputs
    name = type(channel).__name__
    for declared in (channel.inputs, channel.outputs, channel.latent_outputs):
        if isinstance(declared, str):
            message = f"{name} declares {declared!r}: write a tuple, ({declared!r},)"
            raise ParameterError(field, message=message, code="wrong_type")
    problem = ""
    if unknown := [each for each in channel.inputs if each not in inputs]:
        problem = f"{name} reads {', '.join(unknown)}; here there is {', '.join(inputs)}"
    elif required not in channel.outputs:
        given = ", ".join(channel.outputs) or "nothing"
        problem = f"{name} gives {given}; {field} needs a channel that gives {required}"
    elif unused := [each for each in channel.outputs if each not in outputs]:
        problem = f"{name} gives {', '.join(unused)}; {field} takes only {', '.join(outputs)}"
    if problem:
        raise ParameterError(field, message=problem, code="unsupported")


def give_feedback(
    channel: Channel, field: str, latent: Mapping[str, Tensor], streams: RandomStreams
) -> dict[str, Tensor]:
    """Outputs and latent outputs of a channel, by name.

    Args:
        channel: the channel of a field.
        field: name of the field.
        latent: latent quantities; the channel gets those that it declares.
        streams: random streams of the owner of the field.

    Raises:
        UserError: an output is missing, was not declared, or has another type or shape than the
            table of this module says.
    """
    channel = bind(channel, {}, "", streams)  # numbers that differ between draws
    refuse_parameters(f"{field}.", channel)
    inputs = {name: latent[name] for name in channel.inputs}
    streams = streams.child("channel").child(field) if channel.scoped else streams
    given = dict(channel.feedback(inputs, streams))
    name = type(channel).__name__
    declared = {*channel.outputs, *channel.latent_outputs}
    if given.keys() != declared:
        raise UserError(
            f"{name} gave {', '.join(sorted(given)) or 'nothing'}; "
            f"it declares {', '.join(sorted(declared))}",
            code="missing" if declared - given.keys() else "unknown_name",
            path=field,
        )
    with jaxtyped("context"):  # a named dimension has one size in all tensors
        for key, value in (inputs | given).items():
            expected = TYPES.get(key, Tensor)
            if not isinstance(value, expected):
                raise UserError(
                    f"{name}: {key} is {_value_text(value)}; it must be {_type_text(expected)}",
                    code=_error_code(value, expected),
                    path=f"{field}.{key}",
                )
    return given


def _error_code(value: Any, expected: Any) -> str:
    """`wrong_shape` if the type of the numbers is right."""
    fits = isinstance(value, Tensor) and str(value.dtype).removeprefix("torch.") in expected.dtypes
    return "wrong_shape" if fits else "wrong_type"


def _value_text(value: Any) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"


def _type_text(expected: Any) -> str:
    if expected is Tensor:
        return "a tensor"
    return f"{expected.__name__.partition('[')[0]}[{expected.dim_str}]"

"""Ratings of options: utility plus normal noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from mores.core.channel import Channel
from mores.core.random_streams import RandomStreams
from mores.registry.varying import PersonNumber


class NoisyRating(Channel):
    """Utility of each option plus independent normal noise."""

    tags: ClassVar[Mapping[str, object]] = {"stochastic": True}
    inputs, outputs = ("utility",), ("reward",)
    scoped = False

    noise_std: Annotated[float, PersonNumber(ge=0)] = Field(
        default=0.0, description="standard deviation of a rating, in utility"
    )

    def feedback(self, inputs: Mapping[str, Tensor], streams: RandomStreams) -> dict[str, Tensor]:
        """See the class docstring."""
        utility = inputs["utility"]
        if not self.noise_std:
            return {"reward": utility}
        noise = streams.normal("rating", *utility.shape[1:])
        return {"reward": utility + self.noise_std * noise}

    def expected(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The utility."""
        return {"reward": inputs["utility"]}

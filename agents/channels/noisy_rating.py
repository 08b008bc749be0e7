"""Channel of ratings: utility of each option plus normal noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from mores.core.channel import Channel
from mores.core.random_streams import RandomStreams
from mores.registry.varying import PersonNumber


class NoisyRating(Channel):
    """Utility of each option plus independent normal noise.

    Input `utility` and output `reward`: `[world, judge, option]` (`mores.core.channel`).
    """

    tags: ClassVar[Mapping[str, object]] = {"stochastic": True}
    inputs, outputs = ("utility",), ("reward",)
    scoped = False

    noise_std: Annotated[float, PersonNumber(ge=0)] = Field(
        default=0.0, description="standard deviation of the noise of a rating, in units of utility"
    )

    def feedback(self, inputs: Mapping[str, Tensor], streams: RandomStreams) -> dict[str, Tensor]:
        """Ratings `reward`, `[world, judge, option]`, in units of utility."""
        utility = inputs["utility"]
        if not self.noise_std:
            return {"reward": utility}
        noise = streams.normal("rating", *utility.shape[1:])
        return {"reward": utility + self.noise_std * noise}

    def expected(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Mean rating: the utility, `[world, judge, option]`."""
        return {"reward": inputs["utility"]}

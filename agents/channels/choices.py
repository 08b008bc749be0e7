"""Choices between options by their utility: Boltzmann-rational, paired with errors, and exact.

    boltzmann_choice   P(k) = softmax_k(rationality * u)     (Luce 1959), then with
                       `flip_probability` a uniform random other option
    bradley_terry      P(first) = 1 / (1 + exp(-rationality (u_1 - u_2))), recorded by one of
                       several annotators, each with an error rate
    best_option        the option of the largest utility

Of two options, a flip or an error records the opposite. The preference between two follows Bradley
and Terry 1952, Biometrika 39, 324, with log strength `rationality * u`. If two utilities differ by
d, the better option is answered with probability

    (1 - 2 e) s(rationality * d) + e,    s(x) = 1 / (1 + exp(-x)),  e the mean error rate.

What these parameters are identified by: docs/explanation/calibration.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from mores.core.channel import Channel
from mores.core.errors import UserError
from mores.core.random_streams import RandomStreams, uniform_index
from mores.registry.varying import PersonNumber


class BoltzmannChoice(Channel):
    """Boltzmann-rational choice with flipped answers.

    Choices are coupled across arms by shared Gumbel numbers. The latent output `flipped` marks
    answers that differ from the choice.
    """

    tags: ClassVar[Mapping[str, object]] = {"stochastic": True}
    inputs, outputs, latent_outputs = ("utility",), ("preferred",), ("flipped",)
    scoped = False

    rationality: Annotated[float, PersonNumber(ge=0)] = Field(
        default=1.0, description="inverse temperature, 1 / utility"
    )
    flip_probability: Annotated[float, PersonNumber(ge=0, le=1)] = Field(
        default=0.0, description="probability of another answer than the choice"
    )

    def feedback(self, inputs: Mapping[str, Tensor], streams: RandomStreams) -> dict[str, Tensor]:
        """See the class docstring."""
        logits = self._logits(inputs["utility"])
        chosen = streams.categorical("choice", logits)
        flipped = torch.zeros_like(chosen, dtype=torch.bool)
        options = torch.arange(logits.shape[-1], device=logits.device)
        if self.flip_probability:
            others = (options != chosen[..., None]) & (logits > -torch.inf)
            other = streams.categorical("other", torch.where(others, 0.0, -torch.inf))
            flips = (streams.uniform("flip", logits.shape[1]) < self.flip_probability)[..., 0]
            flipped = flips & others.any(-1)  # with one option there is no other
            chosen = torch.where(flipped, other, chosen)
        return {"preferred": options == chosen[..., None], "flipped": flipped}

    def expected(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Probability of each option."""
        logits = self._logits(inputs["utility"])
        p, available = torch.softmax(logits, -1), logits > -torch.inf
        others = available.sum(-1, keepdim=True) - 1
        flip = self.flip_probability * (others > 0).to(p.dtype)
        flipped = torch.where(available, (1.0 - p) / others.clamp(min=1), 0.0)
        return {"preferred": (1.0 - flip) * p + flip * flipped}

    def _logits(
        self, utility: Float[Tensor, "world judge option"]
    ) -> Float[Tensor, "world judge option"]:
        return torch.where(utility > -torch.inf, self.rationality * utility, -torch.inf)


class BradleyTerryChoice(Channel):
    """Choice between two options, recorded by a uniform random annotator with errors."""

    tags: ClassVar[Mapping[str, object]] = {"stochastic": True}
    inputs, outputs = ("utility",), ("preferred", "annotator")
    latent_outputs = ("flipped",)
    scoped = False

    rationality: Annotated[float, PersonNumber(ge=0, le=1e9)] = Field(
        default=5.0, description="inverse temperature, 1 / utility"
    )
    annotator_error_rates: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        default=(0.1,), min_length=1, description="probability of a wrong record, by annotator"
    )

    def feedback(self, inputs: Mapping[str, Tensor], streams: RandomStreams) -> dict[str, Tensor]:
        """See the class docstring.

        Raises:
            UserError: there are not two options.
        """
        probability, comparable = self._first_preferred(inputs["utility"])
        judges = probability.shape[1]
        first = streams.uniform("preference", judges)[..., 0] < probability
        u = streams.uniform("annotator", judges)[..., 0]
        annotator = uniform_index(len(self.annotator_error_rates), u)
        error_rate = torch.tensor(self.annotator_error_rates, device=u.device)[annotator]
        flipped = (streams.uniform("error", judges)[..., 0] < error_rate) & comparable
        recorded = first ^ flipped
        return {
            "preferred": torch.stack([recorded, ~recorded], -1),
            "annotator": annotator,
            "flipped": flipped,
        }

    def expected(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Probability of each option."""
        probability, comparable = self._first_preferred(inputs["utility"])
        mean_rate = sum(self.annotator_error_rates) / len(self.annotator_error_rates)
        error = mean_rate * comparable.to(probability.dtype)
        first = (1.0 - 2.0 * error) * probability + error
        return {"preferred": torch.stack([first, 1.0 - first], -1)}

    def _first_preferred(
        self, utility: Float[Tensor, "world judge option"]
    ) -> tuple[Float[Tensor, "world judge"], Bool[Tensor, "world judge"]]:
        """Probability that the first option is preferred before errors, and if both exist."""
        if utility.shape[-1] != 2:
            raise UserError(
                f"bradley_terry compares 2 options, not {utility.shape[-1]}; "
                "boltzmann_choice any number",
                code="unsupported",
                path="choice",
            )
        first, second = utility.unbind(-1)
        comparable = (utility > -torch.inf).all(-1)
        scaled = -self.rationality * (first - second)[..., None]
        probability = 1.0 / (1.0 + torch.exp(scaled[..., 0]))
        alone = (first > second).to(utility.dtype)
        return torch.where(comparable, probability, alone), comparable


class BestOption(Channel):
    """The option of the largest utility; of equal ones the first."""

    tags: ClassVar[Mapping[str, object]] = {"stochastic": False}
    inputs, outputs = ("utility",), ("preferred",)
    scoped = False

    def feedback(self, inputs: Mapping[str, Tensor], streams: RandomStreams) -> dict[str, Tensor]:
        """See the class docstring."""
        return {"preferred": _one_hot_argmax(inputs["utility"])}

    def expected(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """1 for the option, 0 for others."""
        utility = inputs["utility"]
        return {"preferred": _one_hot_argmax(utility).to(utility.dtype)}


def _one_hot_argmax(
    utility: Float[Tensor, "world judge option"],
) -> Bool[Tensor, "world judge option"]:
    options = torch.arange(utility.shape[-1], device=utility.device)
    return options == utility.argmax(-1, keepdim=True)

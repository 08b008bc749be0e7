"""Extrapolation of votes on pairs: how ProgressGym's repository extrapolates preferences.

The repository (PKU-Alignment/ProgressGym, `extrapolation_utils.py`) does not extrapolate values. It
asks for the preferred response of each pair in every round, and extrapolates the vote x on each
pair: +1 for the response that the latest answer prefers, -1 for the other one,

    x_{t+k} = sum_i c_i x_{t-M+i},    c = extrapolation_weights(M, k)

The sign of x_{t+k} is the label of the pair, and the pair is trained on min(|x_{t+k}|, 5) times.
The weights c are whole numbers with sum 1, so x_{t+k} is odd and never 0. With order 1 it is
(k + 1) - k x_{t-1}, which is 1 or 2 k + 1 and never negative: *extrapolation of order 1 flips no
label*, at any horizon. Order 2 flips pairs whose last three votes are -1, +1, +1.

Here a model is its value vector. A pair compares a value of at most c with a value above c; the
thresholds c divide `[low, high]` evenly. A model is trained towards the value vector that agrees
with the labels, weighted by their copies, on as many pairs as possible. Different from the
repository: pairs are thresholds and not texts, and every vote is known (there, a pair whose latest
answer is missing is left out).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from mores.agents.scripted.progressgym import Extrapolative, ProgressGymState
from mores.core.deterministic_sum import total
from mores.core.errors import ParameterError

MAX_COPIES = 5  # of a pair in the repository's training data


class VoteExtrapolative(Extrapolative):
    """Trains on extrapolated votes of the mean answer on pairs, as ProgressGym's repository."""

    low: float = Field(default=0.0, description="lower end of the thresholds, value units")
    high: float = Field(default=1.0, description="upper end of the thresholds, value units")
    num_pairs: int = Field(
        default=128,
        ge=1,
        le=10_000,
        description="thresholds of each value; targets are multiples of their distance",
    )

    @model_validator(mode="after")
    def _check_thresholds(self) -> VoteExtrapolative:
        if self.high <= self.low:
            raise ParameterError(
                "high", message=f"high must exceed low, {self.low:g}", code="out_of_range"
            )
        return self

    def training_target(
        self, state: ProgressGymState, observation: Tensor
    ) -> Float[Tensor, "world assistant value"]:
        """Value vector that agrees best with the labels of the pairs."""
        thresholds = self._thresholds(observation)
        votes = pair_votes(state.answer_history, thresholds)
        weights = self.answer_weights(state, observation)[:, None, :, None, None]
        latest = votes[:, :, -1]
        extrapolated = total(weights * (votes * latest[:, :, None]), 2)
        copies = extrapolated.abs().clamp(max=MAX_COPIES)
        labels = latest * extrapolated.sign()
        position = best_position(labels, copies, (latest > 0).sum(-1))
        return (self.low + self.threshold_distance * position).clamp(self.low, self.high)

    @property
    def threshold_distance(self) -> float:
        """Distance between thresholds, value units."""
        return (self.high - self.low) / self.num_pairs

    def _thresholds(self, observation: Tensor) -> Float[Tensor, " pair"]:
        indices = torch.arange(self.num_pairs, device=observation.device, dtype=observation.dtype)
        return self.low + self.threshold_distance * (indices + 0.5)


def pair_votes(
    answers: Float[Tensor, "world assistant point value"], thresholds: Float[Tensor, " pair"]
) -> Float[Tensor, "world assistant point value pair"]:
    """+1 where an answer exceeds the threshold of a pair, else -1."""
    above = answers[..., None] > thresholds
    return torch.where(above, 1.0, -1.0)


def best_position(
    labels: Float[Tensor, "world assistant value pair"],
    copies: Float[Tensor, "world assistant value pair"],
    nearest: Tensor,
) -> Float[Tensor, "world assistant value"]:
    """Number of thresholds below the value that disagrees with the fewest copies of labels.

    Args:
        labels: +1: the value should exceed the threshold; -1: it should not. By rising threshold.
        copies: weight of each label, a whole number.
        nearest: number of thresholds below the latest answer, `[world, assistant, value]`. Of
            equally good positions the one nearest to it is taken, of two such the lower one.
    """
    num_pairs = labels.shape[-1]
    # A value above a threshold disagrees with -1, a value below it with +1.
    disagreement = torch.cumsum(-labels * copies, -1)
    zero = torch.zeros_like(disagreement[..., :1])
    disagreement = torch.cat([zero, disagreement], -1)  # less a constant; world assistant value cut
    cuts = torch.arange(num_pairs + 1, device=labels.device)
    distance = (cuts - nearest[..., None]).abs().to(labels.dtype)
    best = disagreement == disagreement.amin(-1, keepdim=True)
    distance = torch.where(best, distance, num_pairs + 1.0)
    return distance.argmin(-1).to(labels.dtype)

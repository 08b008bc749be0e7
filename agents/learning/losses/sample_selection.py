"""Selection of the samples and pairs that a loss uses, and the score of a sample under a model."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch, ModelOutput
from mores.agents.learning.losses.reductions import check_choice, per_sample_mean
from mores.core.errors import UserError

SUBSETS = ("all", "chosen", "rejected", "demonstration", "generated", "desirable", "undesirable")
SCORE_TYPES = ("log_ratio", "mean_log_ratio", "sum_logp", "mean_logp", "reward_head")


class PairIndices(NamedTuple):
    """Pairs of samples, as indices into the samples of each model.

    Attributes:
        chosen: the preferred sample, -1 where a model has fewer pairs.
        rejected: the other sample.
        valid: which pairs exist: both samples exist and have valid steps.
    """

    chosen: Int[Tensor, "model pair"]
    rejected: Int[Tensor, "model pair"]
    valid: Bool[Tensor, "model pair"]


def pair_indices(batch: FeedbackBatch, caller: str) -> PairIndices:
    """The pairs of a batch.

    Samples 2i and 2i+1 are a pair, and `preferred` is true where the first is preferred. If the
    batch has `pairs`, those are the pairs; without `preferred`, the first of each is preferred.

    Raises:
        UserError: no field states the preferred sample, or a sample has no partner.
    """
    if batch.pairs is None:
        preferred = batch.require("preferred", caller)
        if batch.num_samples != 2 * preferred.shape[1]:
            raise UserError(
                f"{caller} needs 'pairs', or 'preferred' for consecutive pairs of samples: "
                f"{preferred.shape[1]} values of 'preferred' for {batch.num_samples} samples",
                code="wrong_shape",
                path="preferred",
            )
        consecutive = torch.arange(batch.num_samples, device=batch.mask.device).view(1, -1, 2)
        pairs = consecutive.expand(batch.num_models, -1, -1)
    else:
        preferred = batch.preferred
        pairs = batch.pairs
    first, second = pairs.unbind(-1)
    if preferred is None:
        chosen, rejected = first, second
    else:
        chosen = torch.where(preferred, first, second)
        rejected = torch.where(preferred, second, first)
    valid = (chosen >= 0) & (rejected >= 0)
    has_steps = batch.mask.any(-1)
    valid = valid & gather_samples(has_steps, chosen) & gather_samples(has_steps, rejected)
    return PairIndices(chosen, rejected, valid)


def gather_samples(values: Tensor, index: Int[Tensor, "model some"]) -> Tensor:
    """Values `[model, sample]` of some samples of each model; index -1 returns the first value."""
    return values.gather(1, index.clamp(min=0).long())


def select_samples(batch: FeedbackBatch, subset: str, caller: str) -> Bool[Tensor, "model sample"]:
    """Mask of the samples in a subset.

    Args:
        batch: with the samples.
        subset: `all`; `chosen` or `rejected` samples of pairs; `demonstration`, or `generated`:
            all others; `desirable` or `undesirable`.
        caller: name of the caller, for messages.

    Raises:
        UserError: there is no such subset, or the batch lacks the field that defines it.
    """
    check_choice("subset", subset, SUBSETS, path="subset")
    if subset == "all":
        return batch.mask.new_ones(batch.num_models, batch.num_samples)
    if subset in ("demonstration", "generated"):
        field = batch.require("is_demonstration", caller)
        return field if subset == "demonstration" else ~field
    if subset in ("desirable", "undesirable"):
        field = batch.require("desirable", caller)
        return field if subset == "desirable" else ~field
    pairs = pair_indices(batch, caller)
    index = pairs.chosen if subset == "chosen" else pairs.rejected
    # Invalid pairs mark an extra position behind the last sample, which is then dropped.
    index = torch.where(pairs.valid, index, batch.num_samples).long()
    selected = batch.mask.new_zeros(batch.num_models, batch.num_samples + 1)
    return selected.scatter(1, index, True)[:, :-1]


def select_steps(
    batch: FeedbackBatch, subset: str, caller: str
) -> Bool[Tensor, "model sample step"]:
    """Mask of the valid steps of the samples in a subset."""
    if subset == "all":
        return batch.mask
    return batch.mask & select_samples(batch, subset, caller)[..., None]


def sample_scores(
    out: ModelOutput, batch: FeedbackBatch, score_type: str, score_index: int, caller: str
) -> Float[Tensor, "model sample"]:
    """Score of each sample under its model; 0 for samples without valid steps.

    Args:
        out: output of the models.
        batch: with the samples.
        score_type: `log_ratio`: Σ_t log π(a_t) - log π_ref(a_t) (DPO); `sum_logp`: Σ_t log π(a_t)
            (CPO); `mean_log_ratio` and `mean_logp` (SimPO, RRHF): the means over steps;
            `reward_head`: an output of the reward head.
        score_index: index of the output of the reward head.
        caller: name of the caller, for messages.

    Raises:
        UserError: there is no such score or output, or a required field is missing.
    """
    check_choice("score_type", score_type, SCORE_TYPES, path="score_type")
    if score_type == "reward_head":
        scores = out.require("score", caller)
        if not -scores.shape[-1] <= score_index < scores.shape[-1]:
            raise UserError(
                f"{caller}: no score_index {score_index} among {scores.shape[-1]} scores",
                code="out_of_range",
                path="score_index",
            )
        return torch.where(batch.mask.any(-1), scores[..., score_index], 0.0)
    step_scores = out.logp
    if score_type in ("log_ratio", "mean_log_ratio"):
        step_scores = step_scores - batch.require("reference_logp", caller)
    if score_type in ("mean_logp", "mean_log_ratio"):
        return per_sample_mean(step_scores, batch.mask)
    return torch.where(batch.mask, step_scores, 0.0).sum(-1)

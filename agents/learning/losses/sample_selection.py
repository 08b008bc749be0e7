"""Which samples a term is about, who competes with whom, and how a policy scores a sample."""

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
    """Pairs of samples, as indices into the samples of each policy.

    Attributes:
        chosen: who won, -1 where a policy has fewer pairs.
        rejected: who lost.
        valid: which pairs there are: both samples exist and have real steps.
    """

    chosen: Int[Tensor, "policy pair"]
    rejected: Int[Tensor, "policy pair"]
    valid: Bool[Tensor, "policy pair"]


def pair_indices(batch: FeedbackBatch, caller: str) -> PairIndices:
    """The pairs of a batch.

    Samples 2i and 2i+1 are a pair, and `preferred` says whether the first won. Where the batch has
    `pairs`, those are the pairs; without `preferred`, the first of each won.

    Raises:
        UserError: nothing says who won, or a sample has no partner.
    """
    if batch.pairs is None:
        preferred = batch.require("preferred", caller)
        if batch.num_samples != 2 * preferred.shape[1]:
            raise UserError(
                f"{caller} needs 'pairs', or pairs of samples that follow each other: "
                f"{preferred.shape[1]} of 'preferred' are not half of {batch.num_samples} samples",
                code="wrong_shape",
                path="preferred",
            )
        both = torch.arange(batch.num_samples, device=batch.mask.device).view(1, -1, 2)
        pairs = both.expand(batch.num_models, -1, -1)
    else:
        preferred = batch.preferred
        pairs = batch.pairs
    first, second = pairs.unbind(-1)
    if preferred is None:
        winner, loser = first, second
    else:
        winner, loser = torch.where(preferred, first, second), torch.where(preferred, second, first)
    real = (winner >= 0) & (loser >= 0)
    has_steps = batch.mask.any(-1)
    real = real & gather_samples(has_steps, winner) & gather_samples(has_steps, loser)
    return PairIndices(winner, loser, real)


def gather_samples(values: Tensor, index: Int[Tensor, "policy some"]) -> Tensor:
    """Values `[policy, sample]` of some samples of each policy; -1 gives the first one's."""
    return values.gather(1, index.clamp(min=0).long())


def select_samples(batch: FeedbackBatch, subset: str, caller: str) -> Bool[Tensor, "policy sample"]:
    """The samples that a term is about.

    Args:
        batch: with the samples.
        subset: `all`; `preferred` or `dispreferred`, the winners or losers of pairs; `reference`,
            demonstrations, or `own`, all others; `desirable` or `undesirable`.
        caller: who asks, for messages.

    Raises:
        UserError: there is no such choice, or the batch does not say.
    """
    check_choice("choice of samples, `which`,", subset, SUBSETS, path="which")
    if subset == "all":
        return batch.mask.new_ones(batch.num_models, batch.num_samples)
    if subset in ("demonstration", "generated"):
        field = batch.require("is_demonstration", caller)
        return field if subset == "demonstration" else ~field
    if subset in ("desirable", "undesirable"):
        field = batch.require("desirable", caller)
        return field if subset == "desirable" else ~field
    contest = pair_indices(batch, caller)
    index = contest.chosen if subset == "chosen" else contest.rejected
    # Pairs that are not there mark a place behind the last sample, which is then dropped.
    index = torch.where(contest.valid, index, batch.num_samples).long()
    marked = batch.mask.new_zeros(batch.num_models, batch.num_samples + 1)
    return marked.scatter(1, index, True)[:, :-1]


def select_steps(
    batch: FeedbackBatch, subset: str, caller: str
) -> Bool[Tensor, "policy sample step"]:
    """The real steps of the samples that a term is about."""
    return (
        batch.mask
        if subset == "all"
        else batch.mask & select_samples(batch, subset, caller)[..., None]
    )


def sample_scores(
    out: ModelOutput, batch: FeedbackBatch, score_type: str, score_index: int, caller: str
) -> Float[Tensor, "policy sample"]:
    """How a policy scores each sample; 0 where a sample has no steps.

    Args:
        out: what the policies say.
        batch: with the samples.
        score_type: `log_ratio`: Σ_t log π(a_t) - log π_ref(a_t) (DPO); `sum_logp`: Σ_t log π(a_t) (CPO);
            `mean_log_ratio` and `mean_logp` (SimPO, RRHF): the same divided by the number of
            steps; `score_type`: what a reward head says.
        score_index: which number of the reward head.
        caller: who asks, for messages.

    Raises:
        UserError: there is no such score, or no such number, or something is missing.
    """
    check_choice("score_type", score_type, SCORE_TYPES, path="score_type")
    if score_type == "reward_head":
        heads = out.require("reward_head", caller)
        if not -heads.shape[-1] <= score_index < heads.shape[-1]:
            raise UserError(
                f"{caller}: no output {score_index} among {heads.shape[-1]} scores",
                code="out_of_range",
                path="output",
            )
        return torch.where(batch.mask.any(-1), heads[..., score_index], 0.0)
    per_step = out.logp
    if score_type in ("log_ratio", "mean_log_ratio"):
        per_step = per_step - batch.require("reference_logp", caller)
    if score_type in ("mean_logp", "mean_log_ratio"):
        return per_sample_mean(per_step, batch.mask)
    return torch.where(batch.mask, per_step, 0.0).sum(-1)

"""Which samples a term is about, who competes with whom, and how a policy scores a sample."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch, Output
from mores.agents.learning.losses.reductions import one_of, sample_average
from mores.core.errors import UserError

WHICH = ("all", "preferred", "dispreferred", "reference", "own", "desirable", "undesirable")
SCORES = ("log_ratio", "mean_log_ratio", "sum_logp", "mean_logp", "score")


class Contest(NamedTuple):
    """Pairs of samples, as indices into the samples of each policy.

    Attributes:
        winner: who won, -1 where a policy has fewer pairs.
        loser: who lost.
        real: which pairs there are: both samples exist and have real steps.
    """

    winner: Int[Tensor, "policy pair"]
    loser: Int[Tensor, "policy pair"]
    real: Bool[Tensor, "policy pair"]


def contestants(batch: FeedbackBatch, why: str) -> Contest:
    """The pairs of a batch.

    Samples 2i and 2i+1 are a pair, and `preferred` says whether the first won. Where the batch has
    `pairs`, those are the pairs; without `preferred`, the first of each won.

    Raises:
        UserError: nothing says who won, or a sample has no partner.
    """
    if batch.pairs is None:
        preferred = batch.need("preferred", why)
        if batch.samples != 2 * preferred.shape[1]:
            raise UserError(
                f"{why} needs 'pairs', or pairs of samples that follow each other: "
                f"{preferred.shape[1]} of 'preferred' are not half of {batch.samples} samples",
                code="wrong_shape",
                path="preferred",
            )
        both = torch.arange(batch.samples, device=batch.mask.device).view(1, -1, 2)
        pairs = both.expand(batch.policies, -1, -1)
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
    real = real & pick_samples(has_steps, winner) & pick_samples(has_steps, loser)
    return Contest(winner, loser, real)


def pick_samples(values: Tensor, index: Int[Tensor, "policy some"]) -> Tensor:
    """Values `[policy, sample]` of some samples of each policy; -1 gives the first one's."""
    return values.gather(1, index.clamp(min=0).long())


def chosen(batch: FeedbackBatch, which: str, why: str) -> Bool[Tensor, "policy sample"]:
    """The samples that a term is about.

    Args:
        batch: with the samples.
        which: `all`; `preferred` or `dispreferred`, the winners or losers of pairs; `reference`,
            demonstrations, or `own`, all others; `desirable` or `undesirable`.
        why: who asks, for messages.

    Raises:
        UserError: there is no such choice, or the batch does not say.
    """
    one_of("choice of samples, `which`,", which, WHICH, path="which")
    if which == "all":
        return batch.mask.new_ones(batch.policies, batch.samples)
    if which in ("reference", "own"):
        field = batch.need("reference", why)
        return field if which == "reference" else ~field
    if which in ("desirable", "undesirable"):
        field = batch.need("desirable", why)
        return field if which == "desirable" else ~field
    contest = contestants(batch, why)
    index = contest.winner if which == "preferred" else contest.loser
    # Pairs that are not there mark a place behind the last sample, which is then dropped.
    index = torch.where(contest.real, index, batch.samples).long()
    marked = batch.mask.new_zeros(batch.policies, batch.samples + 1)
    return marked.scatter(1, index, True)[:, :-1]


def steps_of(batch: FeedbackBatch, which: str, why: str) -> Bool[Tensor, "policy sample step"]:
    """The real steps of the samples that a term is about."""
    return batch.mask if which == "all" else batch.mask & chosen(batch, which, why)[..., None]


def sample_scores(
    out: Output, batch: FeedbackBatch, score: str, output: int, why: str
) -> Float[Tensor, "policy sample"]:
    """How a policy scores each sample; 0 where a sample has no steps.

    Args:
        out: what the policies say.
        batch: with the samples.
        score: `log_ratio`: Σ_t log π(a_t) - log π_ref(a_t) (DPO); `sum_logp`: Σ_t log π(a_t) (CPO);
            `mean_log_ratio` and `mean_logp` (SimPO, RRHF): the same divided by the number of
            steps; `score`: what a reward head says.
        output: which number of the reward head.
        why: who asks, for messages.

    Raises:
        UserError: there is no such score, or no such number, or something is missing.
    """
    one_of("score", score, SCORES, path="score")
    if score == "score":
        heads = out.need("score", why)
        if not -heads.shape[-1] <= output < heads.shape[-1]:
            raise UserError(
                f"{why}: no output {output} among {heads.shape[-1]} scores",
                code="out_of_range",
                path="output",
            )
        return torch.where(batch.mask.any(-1), heads[..., output], 0.0)
    per_step = out.logp
    if score in ("log_ratio", "mean_log_ratio"):
        per_step = per_step - batch.need("reference_logp", why)
    if score in ("mean_logp", "mean_log_ratio"):
        return sample_average(per_step, batch.mask)
    return torch.where(batch.mask, per_step, 0.0).sum(-1)

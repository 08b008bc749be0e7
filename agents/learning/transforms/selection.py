"""Which samples and pairs to learn from.

By worth, within strata (mmSSR, arXiv 2503.13383: scores of several capabilities, strata by style):
strata and values take turns, each turn takes what is best and not yet taken. A sample's turn is the
first in which any value calls it,

    turn_i = min over values v of the rank of i by v within its stratum,

and samples are taken turn by turn, the better first, until the budget is spent. The authors' script
is not public; the order within a turn is ours.

By confidence: samples of which the policy is sure, or is not.

By conflict: pairs over which principals disagree are left out, whether they vote against each
other or pull the policy in opposite directions. The latter is in the spirit of cross-modality
gradient harmonisation (arXiv 2211.02077; as remembered, unverified: samples whose losses'
gradients have a cosine below a rising threshold are dropped).

By principal: the same number of samples from each, whoever sent more (Mixture-of-Instructions,
arXiv 2404.18410: balanced sampling over tasks; packing several into one sequence is not done here).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as functional
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch
from mores.agents.learning.losses.reductions import per_sample_mean
from mores.agents.learning.transforms.groups import SampleGroups
from mores.core.errors import UserError


def select_best_in_strata(
    score: Float[Tensor, "policy sample value"],
    fraction: float,
    stratum: Int[Tensor, "policy sample"] | None = None,
    valid: Bool[Tensor, "policy sample"] | None = None,
) -> Int[Tensor, "policy chosen"]:
    """Indices of a share of each policy's samples, the first taken first; for `batch.take`.

    Args:
        score: what each sample is worth by each value, higher is better.
        fraction: how many of all samples, above 0 and up to 1; rounded up.
        stratum: which kind each sample is of; all the same, where it is missing.
        valid: which samples there are; others are taken last.

    Raises:
        UserError: the share makes no sense.
    """
    if not 0.0 < fraction <= 1.0:
        raise UserError(
            f"a share of samples is above 0 and up to 1, not {fraction}",
            code="out_of_range",
            path="share",
        )
    policies, samples, values = score.shape
    there = torch.ones(policies, samples, dtype=torch.bool, device=score.device)
    there = there if valid is None else valid
    kind = torch.zeros_like(there, dtype=torch.int64) if stratum is None else stratum
    strata = SampleGroups.from_ids(kind, there)
    ranks = torch.stack([_rank_within(score[..., v], strata) for v in range(values)], -1)
    turn, caller = ranks.min(-1)
    worth = score.gather(-1, caller[..., None])[..., 0]
    order = torch.where(there, worth, -torch.inf).argsort(dim=1, descending=True, stable=True)
    turn = torch.where(there, turn, samples)
    order = order.gather(1, turn.gather(1, order).argsort(dim=1, stable=True))
    return order[:, : math.ceil(fraction * samples - 1e-9)]


def mean_action_probability(
    logp: Float[Tensor, "policy sample step"], mask: Bool[Tensor, "policy sample step"]
) -> Float[Tensor, "policy sample 1"]:
    """Geometric mean of the probabilities of a sample's acts, as a score for `select_best_in_strata`."""
    return per_sample_mean(logp, mask).exp()[..., None]


def select_balanced(
    principal: Int[Tensor, "policy sample"],
    uniform: Float[Tensor, "policy sample"],
    count: int,
    valid: Bool[Tensor, "policy sample"] | None = None,
) -> Int[Tensor, "policy chosen"]:
    """Indices of `count` samples, as many from each principal of a policy as from any other.

    Principals take turns, so their numbers differ by one at most. Each one's samples come in an
    order of chance, and again from the first when they are used up.

    Args:
        principal: who each sample is from.
        uniform: numbers in [0, 1) that order the samples of a principal.
        count: how many to take, 1 or more.
        valid: which samples there are; others are not taken, unless a policy has no others.

    Raises:
        UserError: the count is not positive.
    """
    if count < 1:
        raise UserError(
            f"a batch has one sample or more, not {count}", code="out_of_range", path="count"
        )
    there = torch.ones_like(principal, dtype=torch.bool) if valid is None else valid
    there = there | ~there.any(1, keepdim=True)
    from_whom = SampleGroups.from_ids(principal, there)
    by_chance = uniform.argsort(dim=1, stable=True)
    order = by_chance.gather(
        1, from_whom.group_index.gather(1, by_chance).argsort(dim=1, stable=True)
    )
    slots = principal.new_zeros(principal.shape[0], principal.shape[1] + 1)
    sizes = slots.scatter_add(1, from_whom.group_index, there.to(slots.dtype))
    begins = sizes.cumsum(1) - sizes
    # Principals that are there, before those whose numbers belong to samples that are not.
    present = (sizes > 0).int().argsort(dim=1, descending=True, stable=True)
    turns = torch.arange(count, device=principal.device)[None]
    principals = (sizes > 0).sum(1, keepdim=True)
    whose = present.gather(1, turns % principals)
    nth = (turns // principals) % sizes.gather(1, whose)
    return order.gather(1, begins.gather(1, whose) + nth)


def label_agreement(
    votes: Bool[Tensor, "policy pair principal"],
    valid: Bool[Tensor, "policy pair principal"] | None = None,
) -> Float[Tensor, "policy pair"]:
    """Share of the principals who were asked that votes with the majority: 0.5 to 1.

    1 where nobody was asked: nobody disagrees.
    """
    heard = torch.ones_like(votes) if valid is None else valid
    number = heard.sum(-1)
    first = (votes & heard).sum(-1)
    majority = torch.maximum(first, number - first)
    return torch.where(number > 0, majority / number.clamp(min=1), 1.0)


def gradient_agreement(
    gradient: Float[Tensor, "policy pair principal size"],
) -> Float[Tensor, "policy pair"]:
    """Smallest cosine between the directions in which two principals pull: -1 to 1.

    1 where there is one principal only. Whoever does not pull at all is at right angles to all.
    """
    direction = functional.normalize(gradient, dim=-1)
    cosine = direction @ direction.transpose(-1, -2)
    oneself = torch.eye(gradient.shape[2], dtype=torch.bool, device=gradient.device)
    return torch.where(oneself, 1.0, cosine).flatten(2).amin(-1)


def drop_conflicting_pairs(
    batch: FeedbackBatch, agreement: Float[Tensor, "policy pair"], min_agreement: float
) -> FeedbackBatch:
    """The batch with weight 0 for pairs on which principals agree less than that.

    Args:
        batch: with pairs.
        agreement: by `label_agreement` or `gradient_agreement`.
        min_agreement: what agreement a pair needs; let it rise for a curriculum.
    """
    kept = (agreement >= min_agreement).to(agreement.dtype)
    weight = kept if batch.pair_weight is None else torch.where(kept > 0, batch.pair_weight, 0.0)
    return batch.replace(pair_weight=weight)


def _rank_within(
    score: Float[Tensor, "policy sample"], strata: SampleGroups
) -> Int[Tensor, "policy sample"]:
    """How many of the same stratum are better, ties by order of place."""
    order = score.argsort(dim=1, descending=True, stable=True)
    order = order.gather(1, strata.group_index.gather(1, order).argsort(dim=1, stable=True))
    number = strata.group_index.gather(1, order)
    places = torch.arange(score.shape[1], device=score.device).expand_as(order)
    begins = torch.ones_like(number, dtype=torch.bool)
    begins[:, 1:] = number[:, 1:] != number[:, :-1]
    first = torch.where(begins, places, 0).cummax(1).values
    return torch.zeros_like(order).scatter(1, order, places - first)

"""Selection of samples and pairs to learn from.

By score, within strata (mmSSR, arXiv 2503.13383: scores of several capabilities, strata by style):
strata and values take turns, and each turn takes the best sample that is left. The turn of a sample
is the first in which any value selects it,

    turn_i = min over values v of the rank of i by v within its stratum,

and samples are taken turn by turn, the better first, until the budget is spent. The authors' script
is not public; the order within a turn is ours.

By confidence: samples on which the policy is confident, or is not.

By conflict: pairs over which principals disagree are left out, either by their votes or because
their gradients have opposite directions. The latter is in the spirit of cross-modality gradient
harmonization (arXiv 2211.02077; as remembered, unverified: samples whose losses' gradients have a
cosine below a rising threshold are dropped).

By principal: the same number of samples from each, however many each has (Mixture-of-Instructions,
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
    score: Float[Tensor, "model sample value"],
    fraction: float,
    stratum: Int[Tensor, "model sample"] | None = None,
    valid: Bool[Tensor, "model sample"] | None = None,
) -> Int[Tensor, "model chosen"]:
    """Indices of a fraction of each model's samples, the best first; for `FeedbackBatch.take`.

    Args:
        score: of each sample by each value, higher is better.
        fraction: share of all samples, in (0, 1]; the number is rounded up.
        stratum: stratum of each sample; None: one for all.
        valid: which samples exist; others are taken last.

    Raises:
        UserError: `fraction` is out of range.
    """
    if not 0.0 < fraction <= 1.0:
        raise UserError(
            f"fraction of samples must lie in (0, 1], not be {fraction}",
            code="out_of_range",
            path="fraction",
        )
    models, samples, values = score.shape
    exists = torch.ones(models, samples, dtype=torch.bool, device=score.device)
    exists = exists if valid is None else valid
    stratum = torch.zeros_like(exists, dtype=torch.int64) if stratum is None else stratum
    strata = SampleGroups.from_ids(stratum, exists)
    ranks = torch.stack([_rank_within(score[..., v], strata) for v in range(values)], -1)
    turn, value = ranks.min(-1)
    selecting_score = score.gather(-1, value[..., None])[..., 0]
    selecting_score = torch.where(exists, selecting_score, -torch.inf)
    order = selecting_score.argsort(dim=1, descending=True, stable=True)
    turn = torch.where(exists, turn, samples)
    order = order.gather(1, turn.gather(1, order).argsort(dim=1, stable=True))
    return order[:, : math.ceil(fraction * samples - 1e-9)]


def mean_action_probability(
    logp: Float[Tensor, "model sample step"], mask: Bool[Tensor, "model sample step"]
) -> Float[Tensor, "model sample 1"]:
    """Geometric mean of a sample's action probabilities, a score for `select_best_in_strata`."""
    return per_sample_mean(logp, mask).exp()[..., None]


def select_balanced(
    principal: Int[Tensor, "model sample"],
    uniform: Float[Tensor, "model sample"],
    count: int,
    valid: Bool[Tensor, "model sample"] | None = None,
) -> Int[Tensor, "model chosen"]:
    """Indices of `count` samples, equally many from each principal of a model.

    Principals take turns, so their numbers differ by one at most. The samples of each come in
    random order, and again from the first when all are used.

    Args:
        principal: principal of each sample.
        uniform: numbers in [0, 1) that order the samples of a principal.
        count: number of samples, 1 or more.
        valid: which samples exist; others are not taken, unless a model has no valid ones.

    Raises:
        UserError: the count is not positive.
    """
    if count < 1:
        raise UserError(f"count must be 1 or more, not {count}", code="out_of_range", path="count")
    exists = torch.ones_like(principal, dtype=torch.bool) if valid is None else valid
    exists = exists | ~exists.any(1, keepdim=True)
    groups = SampleGroups.from_ids(principal, exists)
    shuffled = uniform.argsort(dim=1, stable=True)
    order = shuffled.gather(1, groups.group_index.gather(1, shuffled).argsort(dim=1, stable=True))
    slots = principal.new_zeros(principal.shape[0], principal.shape[1] + 1)
    sizes = slots.scatter_add(1, groups.group_index, exists.to(slots.dtype))
    starts = sizes.cumsum(1) - sizes
    # Principals with samples come first, before those whose samples are all invalid.
    present = (sizes > 0).int().argsort(dim=1, descending=True, stable=True)
    turns = torch.arange(count, device=principal.device)[None]
    num_principals = (sizes > 0).sum(1, keepdim=True)
    turn_principal = present.gather(1, turns % num_principals)
    nth = (turns // num_principals) % sizes.gather(1, turn_principal)
    return order.gather(1, starts.gather(1, turn_principal) + nth)


def label_agreement(
    votes: Bool[Tensor, "model pair principal"],
    valid: Bool[Tensor, "model pair principal"] | None = None,
) -> Float[Tensor, "model pair"]:
    """Share of the valid votes that agree with the majority: 0.5 to 1.

    1 for a pair without votes, as there is no disagreement.
    """
    voted = torch.ones_like(votes) if valid is None else valid
    count = voted.sum(-1)
    first = (votes & voted).sum(-1)
    majority = torch.maximum(first, count - first)
    return torch.where(count > 0, majority / count.clamp(min=1), 1.0)


def gradient_agreement(
    gradient: Float[Tensor, "model pair principal size"],
) -> Float[Tensor, "model pair"]:
    """Smallest cosine between the gradients of two principals: -1 to 1.

    1 if there is one principal only. A zero gradient has cosine 0 with all others.
    """
    direction = functional.normalize(gradient, dim=-1)
    cosine = direction @ direction.transpose(-1, -2)
    diagonal = torch.eye(gradient.shape[2], dtype=torch.bool, device=gradient.device)
    return torch.where(diagonal, 1.0, cosine).flatten(2).amin(-1)


def drop_conflicting_pairs(
    batch: FeedbackBatch, agreement: Float[Tensor, "model pair"], min_agreement: float
) -> FeedbackBatch:
    """The batch with weight 0 for pairs whose agreement is below a limit.

    Args:
        batch: with pairs.
        agreement: by `label_agreement` or `gradient_agreement`.
        min_agreement: the limit; a curriculum raises it over time.
    """
    agreed = (agreement >= min_agreement).to(agreement.dtype)
    weight = agreed
    if batch.pair_weight is not None:
        weight = torch.where(agreed > 0, batch.pair_weight, 0.0)
    return batch.replace(pair_weight=weight)


def _rank_within(
    score: Float[Tensor, "model sample"], strata: SampleGroups
) -> Int[Tensor, "model sample"]:
    """Number of better samples in the same stratum; of equal scores the earlier is better."""
    order = score.argsort(dim=1, descending=True, stable=True)
    order = order.gather(1, strata.group_index.gather(1, order).argsort(dim=1, stable=True))
    index = strata.group_index.gather(1, order)
    positions = torch.arange(score.shape[1], device=score.device).expand_as(order)
    is_first = torch.ones_like(index, dtype=torch.bool)
    is_first[:, 1:] = index[:, 1:] != index[:, :-1]
    first = torch.where(is_first, positions, 0).cummax(1).values
    return torch.zeros_like(order).scatter(1, order, positions - first)

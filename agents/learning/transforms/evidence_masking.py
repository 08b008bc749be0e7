"""What is answered without the evidence: hidden parts of a sight.

Bias-driven hallucination sampling (BDHS, arXiv 2407.02477) makes rejected answers without any
annotator. Keep an answer to a full sight x as the preferred one; hide most of the evidence, and let
the policy answer again from the same prefix,

    visible_i = 1[rho_i >= share],  rho_i ~ U(0, 1)          rejected ~ policy(. | x * visible),

and prefer the first to the second *given the full sight*. What the policy says blind is its prior:
a stereotype. The paper hides embeddings of an image (share .99); here it is numbers of a sight, or
its named parts. It draws again, up to five times, where the blind answer means the same; here such
a pair gets weight 0 (acts are compared, not meanings), and whoever has other draws may come again.

The same masks drop evidence in training, so that a policy learns to do without a part that is often
missing. All chance is given as uniform numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch
from mores.agents.learning.losses.reductions import within
from mores.core.environment import Box
from mores.core.errors import UserError, did_you_mean

Visible = Bool[Tensor, " size"] | Bool[Tensor, "policy sample size"]


def without_parts(sees: Box, hidden: Collection[str]) -> Bool[Tensor, " size"]:
    """Everything is visible but the named parts.

    Raises:
        UserError: a sight has no such part.
    """
    _check_parts(sees, hidden)
    visible = torch.ones(sees.size, dtype=torch.bool)
    for name in hidden:
        sees.read(visible, name).fill_(False)
    return visible


def without_share(
    uniform: Float[Tensor, "policy sample size"],
    share: float,
    among: Bool[Tensor, " size"] | None = None,
) -> Bool[Tensor, "policy sample size"]:
    """Each number of a sight is hidden with probability `share`.

    Args:
        uniform: numbers in [0, 1), one for each number of each sight.
        share: between 0 and 1.
        among: which numbers are evidence, and may be hidden; all, where it is missing.

    Raises:
        UserError: the share is not between 0 and 1.
    """
    within("the hidden share of evidence", share, 0.0, 1.0, path="share")
    visible = uniform >= share
    return visible if among is None else visible | ~among


def without_some_parts(
    uniform: Float[Tensor, "policy sample part"], sees: Box, rates: Mapping[str, float]
) -> Bool[Tensor, "policy sample size"]:
    """Each named part is hidden as a whole with a probability of its own: dropout of evidence.

    Args:
        uniform: numbers in [0, 1), one for each part in `rates`, in their order.
        sees: the layout of a sight.
        rates: how often each part is missing; parts that are not named never are.

    Raises:
        UserError: there is no such part, a rate is not between 0 and 1, or the numbers are not as
            many as the parts.
    """
    _check_parts(sees, rates)
    if uniform.shape[-1] != len(rates):
        raise UserError(
            f"{len(rates)} parts need as many numbers, not {uniform.shape[-1]}",
            code="wrong_shape",
            path="uniform",
        )
    policies, samples, _ = uniform.shape
    visible = torch.ones(policies, samples, sees.size, dtype=torch.bool, device=uniform.device)
    for i, (name, rate) in enumerate(rates.items()):
        within(f"the rate at which part {name!r} is missing", rate, 0.0, 1.0, path=f"rates.{name}")
        sees.read(visible, name).copy_((uniform[..., i] >= rate)[..., None])
    return visible


def hide(
    seen: Float[Tensor, "policy sample step size"], visible: Visible
) -> Float[Tensor, "policy sample step size"]:
    """Sights in which what is not visible is 0."""
    mask = visible if visible.dim() == 1 else visible[:, :, None]
    return torch.where(mask, seen, 0.0)


def hide_evidence(batch: FeedbackBatch, visible: Visible) -> FeedbackBatch:
    """The batch as seen with less evidence; `evidence` says what is left of it.

    Raises:
        UserError: the batch holds token ids: hide those by a mask of attention instead.
    """
    if batch.seen.dim() != 4:
        raise UserError(
            "evidence is hidden in sights made of numbers, and these are token ids",
            code="wrong_type",
            path="seen",
        )
    shape = (batch.policies, batch.samples, batch.seen.shape[-1])
    left = visible.to(batch.seen.device).expand(shape)
    if batch.evidence is not None:
        left = left & batch.evidence
    return batch.replace(seen=hide(batch.seen, left), evidence=left)


def against_blind(batch: FeedbackBatch, blind: Tensor) -> FeedbackBatch:
    """Pairs of what was done and what is done blind, both judged on the full sight.

    Sample 2i is the batch's sample i, sample 2i + 1 its blind twin; the first is preferred. Pairs
    that do the same at every real step have weight 0. What is known of an act (its probability, its
    reward) does not carry over to another act, and is left out.

    Args:
        batch: what was done, and all that was seen.
        blind: what was done with evidence hidden, in the shape of `acted`.

    Raises:
        UserError: the acts are not of the same shape.
    """
    if blind.shape != batch.acted.shape:
        raise UserError(
            f"blind acts {tuple(blind.shape)} are not in the shape of {tuple(batch.acted.shape)}",
            code="wrong_shape",
            path="blind",
        )
    step_differs = blind != batch.acted
    if step_differs.dim() == 4:
        step_differs = step_differs.any(-1)
    differs = (step_differs & batch.mask).any(-1)
    wins = torch.ones_like(differs)
    known = {name: getattr(batch, name) for name in OF_CONTEXT}
    twice = {n: f.repeat_interleave(2, 1) for n, f in known.items() if f is not None}
    return FeedbackBatch(
        acted=torch.stack([batch.acted, blind], 2).flatten(1, 2),
        preferred=wins,
        pair_weight=differs.to(batch.seen.dtype if batch.seen.is_floating_point() else torch.float),
        desirable=torch.stack([wins, ~wins], 2).flatten(1, 2),
        **twice,
    )


OF_CONTEXT = ("seen", "mask", "legal", "group", "principal", "judgement", "known", "evidence")


def _check_parts(sees: Box, names: Collection[str]) -> None:
    for name in names:
        if name not in sees.parts:
            raise UserError(
                f"no part {name!r} in a sight{did_you_mean(name, sees.parts)}",
                code="unknown_name",
                path=name,
            )

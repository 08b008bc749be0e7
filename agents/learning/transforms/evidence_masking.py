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
from mores.agents.learning.losses.reductions import check_range
from mores.core.environment import Box
from mores.core.errors import UserError, did_you_mean

VisibilityMask = Bool[Tensor, " size"] | Bool[Tensor, "policy sample size"]


def mask_parts(observation_space: Box, hidden_parts: Collection[str]) -> Bool[Tensor, " size"]:
    """Everything is visible but the named parts.

    Raises:
        UserError: a sight has no such part.
    """
    _check_parts(observation_space, hidden_parts)
    visible = torch.ones(observation_space.size, dtype=torch.bool)
    for name in hidden_parts:
        observation_space.read(visible, name).fill_(False)
    return visible


def mask_random_features(
    uniform: Float[Tensor, "policy sample size"],
    fraction: float,
    maskable: Bool[Tensor, " size"] | None = None,
) -> Bool[Tensor, "policy sample size"]:
    """Each number of a sight is hidden with probability `fraction`.

    Args:
        uniform: numbers in [0, 1), one for each number of each sight.
        fraction: between 0 and 1.
        maskable: which numbers are evidence, and may be hidden; all, where it is missing.

    Raises:
        UserError: the share is not between 0 and 1.
    """
    check_range("the hidden share of evidence", fraction, 0.0, 1.0, path="share")
    visible = uniform >= fraction
    return visible if maskable is None else visible | ~maskable


def mask_random_parts(
    uniform: Float[Tensor, "policy sample part"], observation_space: Box, rates: Mapping[str, float]
) -> Bool[Tensor, "policy sample size"]:
    """Each named part is hidden as a whole with a probability of its own: dropout of evidence.

    Args:
        uniform: numbers in [0, 1), one for each part in `rates`, in their order.
        observation_space: the layout of a sight.
        rates: how often each part is missing; parts that are not named never are.

    Raises:
        UserError: there is no such part, a rate is not between 0 and 1, or the numbers are not as
            many as the parts.
    """
    _check_parts(observation_space, rates)
    if uniform.shape[-1] != len(rates):
        raise UserError(
            f"{len(rates)} parts need as many numbers, not {uniform.shape[-1]}",
            code="wrong_shape",
            path="uniform",
        )
    policies, samples, _ = uniform.shape
    visible = torch.ones(
        policies, samples, observation_space.size, dtype=torch.bool, device=uniform.device
    )
    for i, (name, rate) in enumerate(rates.items()):
        check_range(
            f"the rate at which part {name!r} is missing", rate, 0.0, 1.0, path=f"rates.{name}"
        )
        observation_space.read(visible, name).copy_((uniform[..., i] >= rate)[..., None])
    return visible


def apply_visibility(
    observation: Float[Tensor, "policy sample step size"], visible: VisibilityMask
) -> Float[Tensor, "policy sample step size"]:
    """Sights in which what is not visible is 0."""
    mask = visible if visible.dim() == 1 else visible[:, :, None]
    return torch.where(mask, observation, 0.0)


def mask_evidence(batch: FeedbackBatch, visible: VisibilityMask) -> FeedbackBatch:
    """The batch as seen with less evidence; `evidence` says what is left of it.

    Raises:
        UserError: the batch holds token ids: hide those by a mask of attention instead.
    """
    if batch.observation.dim() != 4:
        raise UserError(
            "evidence is hidden in sights made of numbers, and these are token ids",
            code="wrong_type",
            path="observation",
        )
    shape = (batch.num_models, batch.num_samples, batch.observation.shape[-1])
    left = visible.to(batch.observation.device).expand(shape)
    if batch.evidence_mask is not None:
        left = left & batch.evidence_mask
    return batch.replace(observation=apply_visibility(batch.observation, left), evidence_mask=left)


def pair_with_blind(batch: FeedbackBatch, blind_action: Tensor) -> FeedbackBatch:
    """Pairs of what was done and what is done blind, both judged on the full sight.

    Sample 2i is the batch's sample i, sample 2i + 1 its blind twin; the first is preferred. Pairs
    that do the same at every real step have weight 0. What is known of an act (its probability, its
    reward) does not carry over to another act, and is left out.

    Args:
        batch: what was done, and all that was seen.
        blind_action: what was done with evidence hidden, in the shape of `acted`.

    Raises:
        UserError: the acts are not of the same shape.
    """
    if blind_action.shape != batch.action.shape:
        raise UserError(
            f"blind acts {tuple(blind_action.shape)} are not in the shape of {tuple(batch.action.shape)}",
            code="wrong_shape",
            path="blind",
        )
    step_differs = blind_action != batch.action
    if step_differs.dim() == 4:
        step_differs = step_differs.any(-1)
    differs = (step_differs & batch.mask).any(-1)
    wins = torch.ones_like(differs)
    known = {name: getattr(batch, name) for name in CONTEXT_FIELDS}
    twice = {n: f.repeat_interleave(2, 1) for n, f in known.items() if f is not None}
    return FeedbackBatch(
        action=torch.stack([batch.action, blind_action], 2).flatten(1, 2),
        preferred=wins,
        pair_weight=differs.to(
            batch.observation.dtype if batch.observation.is_floating_point() else torch.float
        ),
        desirable=torch.stack([wins, ~wins], 2).flatten(1, 2),
        **twice,
    )


CONTEXT_FIELDS = ("observation", "mask", "action_mask", "group", "principal", "critique", "known", "evidence_mask")


def _check_parts(observation_space: Box, names: Collection[str]) -> None:
    for name in names:
        if name not in observation_space.parts:
            raise UserError(
                f"no part {name!r} in a sight{did_you_mean(name, observation_space.parts)}",
                code="unknown_name",
                path=name,
            )

"""Answers without evidence: observations with masked parts.

Bias-driven hallucination sampling (BDHS, arXiv 2407.02477) makes rejected answers without any
annotator. An answer to a full observation x is the preferred one; most of the evidence is masked,
and the policy answers again from the same prefix,

    visible_i = 1[rho_i >= fraction],  rho_i ~ U(0, 1)          rejected ~ policy(. | x * visible),

and the first is preferred to the second *given the full observation*. The blind answer of the
policy is its prior: a stereotype. The paper masks embeddings of an image (share .99), here the
features of an observation or its named parts are masked. If the blind answer has the same meaning,
the paper samples again, up to five times; here such a pair has weight 0 (actions are compared, not
meanings), and callers may sample again with other random numbers.

The same masks drop evidence in training, for policies that must act without a part at times.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch
from mores.agents.learning.losses.reductions import check_range
from mores.core.errors import UserError, did_you_mean
from mores.core.spaces import Box

VisibilityMask = Bool[Tensor, " size"] | Bool[Tensor, "model sample size"]


def mask_parts(observation_space: Box, hidden_parts: Collection[str]) -> Bool[Tensor, " size"]:
    """Visibility mask that hides the named parts.

    Raises:
        UserError: the observation has no such part.
    """
    _check_parts(observation_space, hidden_parts)
    visible = torch.ones(observation_space.size, dtype=torch.bool)
    for name in hidden_parts:
        observation_space.read(visible, name).fill_(False)
    return visible


def mask_random_features(
    uniform: Float[Tensor, "model sample size"],
    fraction: float,
    maskable: Bool[Tensor, " size"] | None = None,
) -> Bool[Tensor, "model sample size"]:
    """Visibility mask that hides each feature with probability `fraction`.

    Args:
        uniform: numbers in [0, 1), one for each feature of each observation.
        fraction: in [0, 1].
        maskable: which features are evidence, and may be hidden; None: all.

    Raises:
        UserError: `fraction` is not in [0, 1].
    """
    check_range("fraction of hidden features", fraction, 0.0, 1.0, path="fraction")
    visible = uniform >= fraction
    return visible if maskable is None else visible | ~maskable


def mask_random_parts(
    uniform: Float[Tensor, "model sample part"], observation_space: Box, rates: Mapping[str, float]
) -> Bool[Tensor, "model sample size"]:
    """Visibility mask that hides each named part as a whole with its own probability.

    Args:
        uniform: numbers in [0, 1), one for each part in `rates`, in their order.
        observation_space: layout of an observation.
        rates: probability that each part is hidden; other parts are never hidden.

    Raises:
        UserError: a part is unknown, a rate is not in [0, 1], or `uniform` has another length.
    """
    _check_parts(observation_space, rates)
    if uniform.shape[-1] != len(rates):
        raise UserError(
            f"{len(rates)} parts need as many uniform numbers, not {uniform.shape[-1]}",
            code="wrong_shape",
            path="uniform",
        )
    models, samples, _ = uniform.shape
    visible = torch.ones(
        models, samples, observation_space.size, dtype=torch.bool, device=uniform.device
    )
    for i, (name, rate) in enumerate(rates.items()):
        check_range(f"rate of part {name!r}", rate, 0.0, 1.0, path=f"rates.{name}")
        observation_space.read(visible, name).copy_((uniform[..., i] >= rate)[..., None])
    return visible


def apply_visibility(
    observation: Float[Tensor, "model sample step size"], visible: VisibilityMask
) -> Float[Tensor, "model sample step size"]:
    """Observations whose hidden features are 0."""
    mask = visible if visible.dim() == 1 else visible[:, :, None]
    return torch.where(mask, observation, 0.0)


def mask_evidence(batch: FeedbackBatch, visible: VisibilityMask) -> FeedbackBatch:
    """The batch with masked observations; `evidence_mask` marks the features that stay visible.

    Raises:
        UserError: the observations are token ids: use an attention mask for those.
    """
    if batch.observation.dim() != 4:
        raise UserError(
            "evidence can be masked in numeric observations only, and these are token ids",
            code="wrong_type",
            path="observation",
        )
    shape = (batch.num_models, batch.num_samples, batch.observation.shape[-1])
    mask = visible.to(batch.observation.device).expand(shape)
    if batch.evidence_mask is not None:
        mask = mask & batch.evidence_mask
    return batch.replace(observation=apply_visibility(batch.observation, mask), evidence_mask=mask)


def pair_with_blind(batch: FeedbackBatch, blind_action: Tensor) -> FeedbackBatch:
    """Pairs of the batch's actions and blind actions, both with the full observation.

    Sample 2i is sample i of the batch, sample 2i + 1 its blind twin; the first is preferred. Pairs
    with the same action at every valid step have weight 0. Fields that belong to an action (its
    probability, its reward) do not apply to another action, and are left out.

    Args:
        batch: actions, with the full observations.
        blind_action: actions under masked observations, in the shape of `action`.

    Raises:
        UserError: the actions are not of the same shape.
    """
    if blind_action.shape != batch.action.shape:
        raise UserError(
            f"blind_action must have the shape of action, {tuple(batch.action.shape)}, not "
            f"{tuple(blind_action.shape)}",
            code="wrong_shape",
            path="blind_action",
        )
    step_differs = blind_action != batch.action
    if step_differs.dim() == 4:
        step_differs = step_differs.any(-1)
    differs = (step_differs & batch.mask).any(-1)
    preferred = torch.ones_like(differs)
    context = {name: getattr(batch, name) for name in CONTEXT_FIELDS}
    repeated = {n: f.repeat_interleave(2, 1) for n, f in context.items() if f is not None}
    return FeedbackBatch(
        action=torch.stack([batch.action, blind_action], 2).flatten(1, 2),
        preferred=preferred,
        pair_weight=differs.to(
            batch.observation.dtype if batch.observation.is_floating_point() else torch.float
        ),
        desirable=torch.stack([preferred, ~preferred], 2).flatten(1, 2),
        **repeated,
    )


CONTEXT_FIELDS = ("observation", "mask", "action_mask", "group", "principal", "critique")
CONTEXT_FIELDS += ("known", "evidence_mask")


def _check_parts(observation_space: Box, names: Collection[str]) -> None:
    for name in names:
        if name not in observation_space.parts:
            raise UserError(
                f"no part {name!r} in the observation{did_you_mean(name, observation_space.parts)}",
                code="unknown_name",
                path=name,
            )

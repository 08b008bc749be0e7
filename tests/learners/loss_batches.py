"""Batches for tests of losses: ragged samples, all fields present, NaN at invalid steps."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch, ModelOutput

NAN = float("nan")


def example(
    seed: int = 0, models: int = 3, samples: int = 6, steps: int = 5, options: int = 4
) -> tuple[ModelOutput, FeedbackBatch]:
    """Output of models on a batch, as 64-bit leaves that require gradients, and the batch.

    Each sample has between 1 and `steps` valid steps; the last option is illegal on some steps. The
    last model's last pair and the last position of every second list are padding.
    """
    source = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(models, *shape, generator=source, dtype=torch.float64)

    def coin(*shape: int) -> Tensor:
        return torch.rand(models, *shape, generator=source) < 0.5

    lengths = torch.randint(1, steps + 1, (models, samples), generator=source)
    mask = torch.arange(steps) < lengths[..., None]
    action_mask = torch.ones(models, samples, steps, options, dtype=torch.bool)
    action_mask[..., -1] = coin(samples, steps)
    action = torch.randint(options - 1, (models, samples, steps), generator=source)
    raw = (scale * normal(samples, steps, options) for scale in (1.5, 1.0, 1.0))
    masked_raw = (torch.where(action_mask, x, -torch.inf) for x in raw)
    logits, teacher, reference = (x.log_softmax(-1) for x in masked_raw)

    order = torch.stack([torch.randperm(samples, generator=source) for _ in range(models)])
    pairs = order[:, : samples // 2 * 2].view(models, -1, 2).clone()
    pairs[-1, -1] = -1
    candidates = torch.stack([order, order.roll(2, 1)], 1)[..., :4].clone()  # model list place
    candidates[:, 1::2, -1] = -1

    def masked(field: Tensor) -> Tensor:
        valid = mask.view(*mask.shape, *[1] * (field.dim() - 3))
        return torch.where(valid, field, NAN)

    logp = logits.gather(-1, action[..., None])[..., 0]
    finite = torch.where(action_mask, logits, 0.0)
    out = ModelOutput(
        logp=masked(logp),
        logits=masked(logits),
        entropy=masked(-(finite.exp() * finite * action_mask).sum(-1)),
        value=masked(normal(samples, steps)),
        score=normal(samples, 2),
        embedding=normal(samples, 3),
    )
    batch = FeedbackBatch(
        observation=normal(samples, steps, 2),
        action=torch.where(mask, action, 0),
        mask=mask,
        action_mask=action_mask,
        step_weight=masked(normal(samples, steps).abs()),
        old_logp=masked(logp + 0.3 * normal(samples, steps)),
        old_value=masked(normal(samples, steps)),
        advantage=masked(normal(samples, steps)),
        value_target=masked(normal(samples, steps)),
        kl_baseline=normal(),
        preferred=coin(pairs.shape[1]),
        pairs=pairs,
        pair_weight=normal(pairs.shape[1]).abs(),
        pair_margin=0.3 * normal(pairs.shape[1]),
        reliability=0.05 + 0.9 * torch.rand(pairs.shape[:2], generator=source).double(),
        desirable=coin(samples),
        candidates=candidates,
        rank_score=normal(*candidates.shape[1:]),
        inappropriate=coin(samples, steps),
        is_demonstration=coin(samples),
        reference_logp=masked(logp + 0.3 * normal(samples, steps)),
        reference_logits=masked(reference),
        teacher_logits=masked(teacher),
        option_score=masked(torch.where(action_mask, normal(samples, steps, options), NAN)),
        target=normal(samples, 2),
        target_weight=masked(torch.where(action_mask, normal(samples, steps, options).abs(), NAN)),
    )
    return requiring_gradients(out), batch


def requiring_gradients(out: ModelOutput) -> ModelOutput:
    """The same numbers as new leaves that require gradients."""
    return _map_fields(out, lambda field: field.detach().clone().requires_grad_())


def gradients(out: ModelOutput, loss: Tensor) -> dict[str, Tensor]:
    """Gradients of the sum of losses over models, with respect to every field of the output."""
    fields = {
        field.name: getattr(out, field.name)
        for field in dataclasses.fields(out)
        if getattr(out, field.name) is not None
    }
    grads = torch.autograd.grad(loss.sum(), list(fields.values()), allow_unused=True)
    return {name: grad for name, grad in zip(fields, grads, strict=True) if grad is not None}


def single_model(part: Any, model: int) -> Any:
    """An output or a batch with one model only."""
    selected = _map_fields(part, lambda field: field[model : model + 1])
    return requiring_gradients(selected) if isinstance(selected, ModelOutput) else selected


def with_nan(part: Any, model: int) -> Any:
    """The same with NaN in all floating-point fields of one model."""

    def replace(field: Tensor) -> Tensor:
        if not torch.is_floating_point(field):
            return field
        changed = field.detach().clone()
        changed[model] = NAN
        return changed

    changed = _map_fields(part, replace)
    return requiring_gradients(changed) if isinstance(changed, ModelOutput) else changed


def _map_fields(part: Any, change: Any) -> Any:
    return dataclasses.replace(
        part,
        **{
            field.name: change(getattr(part, field.name))
            for field in dataclasses.fields(part)
            if getattr(part, field.name) is not None
        },
    )

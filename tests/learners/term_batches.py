"""Batches for loss terms: ragged samples, all fields there, NaN wherever nothing is real."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch, ModelOutput

NAN = float("nan")


def example(
    seed: int = 0, policies: int = 3, samples: int = 6, steps: int = 5, options: int = 4
) -> tuple[ModelOutput, FeedbackBatch]:
    """What policies say of a batch, as leaves of 64 bits that want gradients, and the batch.

    Each sample has between 1 and `steps` real steps; the last option is closed on some steps. The
    last policy's last pair and the last place of every second list are not there.
    """
    source = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(policies, *shape, generator=source, dtype=torch.float64)

    def coin(*shape: int) -> Tensor:
        return torch.rand(policies, *shape, generator=source) < 0.5

    lengths = torch.randint(1, steps + 1, (policies, samples), generator=source)
    mask = torch.arange(steps) < lengths[..., None]
    legal = torch.ones(policies, samples, steps, options, dtype=torch.bool)
    legal[..., -1] = coin(samples, steps)
    acted = torch.randint(options - 1, (policies, samples, steps), generator=source)
    logits = torch.where(legal, 1.5 * normal(samples, steps, options), -torch.inf).log_softmax(-1)
    teacher = torch.where(legal, normal(samples, steps, options), -torch.inf).log_softmax(-1)
    reference = torch.where(legal, normal(samples, steps, options), -torch.inf).log_softmax(-1)

    order = torch.stack([torch.randperm(samples, generator=source) for _ in range(policies)])
    pairs = order[:, : samples // 2 * 2].view(policies, -1, 2).clone()
    pairs[-1, -1] = -1
    candidates = torch.stack([order, order.roll(2, 1)], 1)[..., :4].clone()  # policy list place
    candidates[:, 1::2, -1] = -1

    def at_real(field: Tensor) -> Tensor:
        real = mask.view(*mask.shape, *[1] * (field.dim() - 3))
        return torch.where(real, field, NAN)

    done = logits.gather(-1, acted[..., None])[..., 0]
    finite = torch.where(legal, logits, 0.0)
    out = ModelOutput(
        logp=at_real(done),
        logits=at_real(logits),
        entropy=at_real(-(finite.exp() * finite * legal).sum(-1)),
        value=at_real(normal(samples, steps)),
        score=normal(samples, 2),
        embedding=normal(samples, 3),
    )
    batch = FeedbackBatch(
        observation=normal(samples, steps, 2),
        action=torch.where(mask, acted, 0),
        mask=mask,
        action_mask=legal,
        step_weight=at_real(normal(samples, steps).abs()),
        old_logp=at_real(done + 0.3 * normal(samples, steps)),
        old_value=at_real(normal(samples, steps)),
        advantage=at_real(normal(samples, steps)),
        value_target=at_real(normal(samples, steps)),
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
        reference_logp=at_real(done + 0.3 * normal(samples, steps)),
        reference_logits=at_real(reference),
        teacher_logits=at_real(teacher),
        option_score=at_real(torch.where(legal, normal(samples, steps, options), NAN)),
        target=normal(samples, 2),
    )
    return wanting(out), batch


def wanting(out: ModelOutput) -> ModelOutput:
    """The same numbers as fresh leaves that want gradients."""
    return _each(out, lambda field: field.detach().clone().requires_grad_())


def gradients(out: ModelOutput, loss: Tensor) -> dict[str, Tensor]:
    """Of the sum of losses over policies, with respect to every field of the output."""
    fields = {
        field.name: getattr(out, field.name)
        for field in dataclasses.fields(out)
        if getattr(out, field.name) is not None
    }
    found = torch.autograd.grad(loss.sum(), list(fields.values()), allow_unused=True)
    return {name: g for name, g in zip(fields, found, strict=True) if g is not None}


def policy(part: Any, number: int) -> Any:
    """An output or a batch with that policy alone."""
    taken = _each(part, lambda field: field[number : number + 1])
    return wanting(taken) if isinstance(taken, ModelOutput) else taken


def spoiled(part: Any, number: int) -> Any:
    """The same with NaN in everything that one policy says, or is told, in floating point."""

    def spoil(field: Tensor) -> Tensor:
        if not torch.is_floating_point(field):
            return field
        changed = field.detach().clone()
        changed[number] = NAN
        return changed

    changed = _each(part, spoil)
    return wanting(changed) if isinstance(changed, ModelOutput) else changed


def _each(part: Any, change: Any) -> Any:
    return dataclasses.replace(
        part,
        **{
            field.name: change(getattr(part, field.name))
            for field in dataclasses.fields(part)
            if getattr(part, field.name) is not None
        },
    )

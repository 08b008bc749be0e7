"""A step of Adam by operations on whole tensors, with settings that may differ between models.

Every setting is a tensor `[model]` or a number for all. Nothing waits for an accelerator: a model
that does not move gets rates without effect. See `mores.agents.learning.adam` for the equations.
"""

# torch documents its foreach functions but does not export them.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.agents.learning.gradients import clip_factor
from mores.agents.learning.weights.stacked_weights import PerModel


class ScratchBuffers:
    """Work tensors that are reused in every step: an allocation costs more than the arithmetic."""

    def __init__(self) -> None:
        self._tensors: list[Tensor] = []

    def like(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Tensors of the same shapes, dtypes and devices, with undefined values."""
        required = [(t.shape, t.dtype, t.device) for t in tensors]
        if required != [(t.shape, t.dtype, t.device) for t in self._tensors]:
            self._tensors = [torch.empty_like(t, requires_grad=False) for t in tensors]
        return self._tensors


class StepConstants(NamedTuple):
    """Settings as tensors `[..., model]`; the dimension `model` is 1 if all are equal."""

    log_betas: Tensor
    rates: Tensor
    eps: Tensor
    weight_decay: Tensor
    max_grad_norm: Tensor
    has_weight_decay: bool

    @staticmethod
    def of(*settings: PerModel) -> StepConstants:
        """Constants of β₁, β₂, η, ε, λ and the largest norm, in this order."""
        rows = [torch.as_tensor(value, dtype=torch.float64).reshape(-1) for value in settings]
        beta1, beta2, rate, eps, decay, clip = torch.broadcast_tensors(*rows)
        log_betas = torch.stack([beta1, beta2]).log()
        rates = torch.stack([1 - beta1, 1 - beta2, rate])
        return StepConstants(log_betas, rates, eps, decay, clip, bool((decay > 0).any()))

    def to(self, device: torch.device) -> StepConstants:
        """The same on a device."""
        log_betas, rates, eps, decay, clip = (tensor.to(device) for tensor in self[:-1])
        return StepConstants(log_betas, rates, eps, decay, clip, self.has_weight_decay)


def foreach_step(
    columns: tuple[list[Tensor], ...],
    step: Int[Tensor, " model"],
    moving: Bool[Tensor, " model"],
    grad_norm: Float[Tensor, " model"],
    constants: StepConstants,
    scratch_buffers: ScratchBuffers,
) -> None:
    """Change parameters and moments `[model, ...]` in place.

    Args:
        columns: parameters, gradients, means of gradients and of their squares, in one order.
        step: number of steps of each model, this one included.
        moving: models that make the step.
        grad_norm: norm of every model's gradient.
        constants: settings.
        scratch_buffers: work tensors.
    """
    values, grads, exp_avg, exp_avg_sq = columns
    scratch = scratch_buffers.like(values)
    factors = _broadcast_factors(_step_factors(constants, step, moving, grad_norm), values)
    for grad, factor, out in zip(grads, factors.clip_factor, scratch, strict=True):
        torch.mul(grad, factor, out=out)
        out.nan_to_num_(0.0, 0.0, 0.0)  # only of models that skip the step
    torch._foreach_lerp_(exp_avg, scratch, factors.exp_avg_rate)
    for out in scratch:
        torch.mul(out, out, out=out)
    torch._foreach_lerp_(exp_avg_sq, scratch, factors.exp_avg_sq_rate)
    for square, out in zip(exp_avg_sq, scratch, strict=True):
        torch.sqrt(square, out=out)
    torch._foreach_add_(scratch, factors.eps)
    for mean, out in zip(exp_avg, scratch, strict=True):
        torch.div(mean, out, out=out)
    if constants.has_weight_decay:
        torch._foreach_mul_(values, factors.decay_factor)
    torch._foreach_addcmul_(values, scratch, factors.step_size, -1.0)


def _step_factors(
    constants: StepConstants, step: Tensor, moving: Tensor, grad_norm: Tensor
) -> Float[Tensor, "rate model"]:
    """Rows of `_StepFactors`; a model that does not move gets rates without effect."""
    constants = constants.to(grad_norm.device)
    # Not by pow: its last bit depends on the position of a number in the tensor.
    bias = 1 - (step.clamp(min=1) * constants.log_betas).exp()  # [2, model]
    root = bias[1].sqrt()
    rates = torch.where(moving, constants.rates, 0.0)  # [3, model]
    clip = clip_factor(grad_norm, constants.max_grad_norm.to(grad_norm.dtype)).double()
    step_size = rates[2] * root / bias[0]
    decay = 1 - rates[2] * constants.weight_decay
    return torch.stack([clip, rates[0], rates[1], constants.eps * root, step_size, decay])


class _StepFactors(NamedTuple):
    """Factors of one step by model, broadcastable to each tensor.

    With √v̂ = √v / b₂ and m̂ = m / b₁ the update is (η b₂ / b₁) m / (√v + ε b₂), which saves one
    pass over the numbers.
    """

    clip_factor: list[Tensor]
    exp_avg_rate: list[Tensor]
    exp_avg_sq_rate: list[Tensor]
    eps: list[Tensor]
    step_size: list[Tensor]
    decay_factor: list[Tensor]


def _broadcast_factors(
    factors: Float[Tensor, "rate model"], tensors: Sequence[Tensor]
) -> _StepFactors:
    shaped: dict[tuple[int, torch.dtype], Sequence[Tensor]] = {}
    for tensor in tensors:
        key = (tensor.dim(), tensor.dtype)
        if key not in shaped:
            shape = (len(factors), -1, *[1] * (tensor.dim() - 1))
            shaped[key] = factors.to(tensor.dtype).view(shape).unbind()
    columns = zip(*(shaped[tensor.dim(), tensor.dtype] for tensor in tensors), strict=True)
    return _StepFactors(*(list(column) for column in columns))

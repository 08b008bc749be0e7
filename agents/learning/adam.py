"""Adam and AdamW for stacked models: the step equals that of a separate optimizer for each model.

    m ← β₁ m + (1 - β₁) g           m̂ = m / (1 - β₁ᵗ)
    v ← β₂ v + (1 - β₂) g²          v̂ = v / (1 - β₂ᵗ)
    θ ← θ - η λ θ - η m̂ / (√v̂ + ε)

Adam is Kingma and Ba 2015 (arXiv 1412.6980); weight decay λ is decoupled, as in Loshchilov and
Hutter 2019 (arXiv 1711.05101), so without it this is Adam. `P` models get the result of `P`
separate `torch.optim.AdamW`, with gradients clipped by the norm of each model.

The models are independent: t counts the steps of each model; an inactive model keeps its parameters
and moments, where plain Adam would move it by momentum; a model whose gradient is not finite skips
the step and is reported. No value of one model changes a bit of another.

Parameters and state are written in place. With clipping, a step of 64 models of an MLP 16-64-64-4
takes as long as `torch.optim.AdamW(foreach=True)` on the stack, twice as long as its fused kernel
(which has one rate and one norm for all), and a fifteenth of 64 fused optimizers: 0.68, 0.71, 0.36
and 10 ms on one core of a CPU. `python tests/learners/test_adam.py` times them.
"""

# torch documents its foreach functions but does not export them.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.agents.learning.gradients import clip_factor, gradient_norms
from mores.agents.learning.weights.stacked_weights import PerModel, StackedWeights, count_models
from mores.core.errors import UserError, did_you_mean


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


@dataclasses.dataclass(frozen=True)
class AdamState:
    """State of Adam: tensors only, saved by `mores.core.pytree.flatten`.

    Attributes:
        exp_avg: running mean of gradients, by name, `[model, ...]`.
        exp_avg_sq: running mean of squared gradients.
        step: number of steps of each model.
        scratch: work tensors, not part of the state and not saved.
    """

    exp_avg: dict[str, Tensor]
    exp_avg_sq: dict[str, Tensor]
    step: Int[Tensor, " model"]
    scratch: ScratchBuffers = dataclasses.field(
        default_factory=ScratchBuffers, compare=False, repr=False
    )


class AdamStepInfo(NamedTuple):
    """Diagnostics of a step.

    Attributes:
        grad_norm: norm of every model's gradient, before clipping.
        finite: models whose gradient was finite; the others skipped the step.
    """

    grad_norm: Float[Tensor, " model"]
    finite: Bool[Tensor, " model"]


@dataclasses.dataclass(frozen=True)
class Adam:
    """Optimizer settings, each one number or one per model, `[model]`.

    Attributes:
        learning_rate: η, at least 0.
        betas: β₁ and β₂, 0 to below 1.
        eps: ε, at least 0.
        weight_decay: λ, at least 0.
        max_grad_norm: largest norm of a model's gradient, above 0; `None`: no clipping.
    """

    learning_rate: PerModel = 3e-4
    betas: tuple[PerModel, PerModel] = (0.9, 0.999)
    eps: PerModel = 1e-8
    weight_decay: PerModel = 0.0
    max_grad_norm: PerModel | None = None

    def __post_init__(self) -> None:
        nonnegative = {
            "learning_rate": self.learning_rate,
            "eps": self.eps,
            "weight_decay": self.weight_decay,
        }
        for name, value in nonnegative.items():
            if not bool((torch.as_tensor(value) >= 0).all()):
                raise UserError(
                    f"adam: {name} must be at least 0, not {value}", code="out_of_range", path=name
                )
        for beta in self.betas:
            value = torch.as_tensor(beta)
            if not bool(((value >= 0) & (value < 1)).all()):
                raise UserError(
                    f"adam: betas must be from 0 to below 1, not {beta}",
                    code="out_of_range",
                    path="betas",
                )
        if self.max_grad_norm is not None and not bool(
            (torch.as_tensor(self.max_grad_norm) > 0).all()
        ):
            raise UserError(
                f"adam: max_grad_norm must be above 0 or None, not {self.max_grad_norm}",
                code="out_of_range",
                path="max_grad_norm",
            )

    def init(self, parameters: StackedWeights) -> AdamState:
        """State before the first step.

        Raises:
            UserError: `parameters` is not a stack.
        """
        num_models = count_models(parameters)
        device = next(iter(parameters.values())).device
        return AdamState(
            {name: torch.zeros_like(tensor.detach()) for name, tensor in parameters.items()},
            {name: torch.zeros_like(tensor.detach()) for name, tensor in parameters.items()},
            torch.zeros(num_models, dtype=torch.int64, device=device),
        )

    @torch.no_grad()
    def step(
        self,
        parameters: StackedWeights,
        gradients: StackedWeights,
        state: AdamState,
        active: Bool[Tensor, " model"] | None = None,
    ) -> AdamStepInfo:
        """Make one step of every active model, in place.

        Args:
            parameters: a stack; leaves of autograd need not be detached.
            gradients: gradients of the loss summed over models, by the same names.
            state: state from `init`, or a restored one.
            active: models that train; `None`: all.

        Raises:
            UserError: a gradient is missing or unknown.
        """
        _check_names(parameters, gradients, state)
        norm = gradient_norms(gradients)
        finite = norm.isfinite()
        moving = finite if active is None else finite & active
        state.step.add_(moving)

        names = list(parameters)
        values = [parameters[name] for name in names]
        grads = [gradients[name] for name in names]
        exp_avg = [state.exp_avg[name] for name in names]
        exp_avg_sq = [state.exp_avg_sq[name] for name in names]
        scratch = state.scratch.like(values)
        factors = _broadcast_factors(self._step_factors(state.step, moving, norm), values)

        # Gradients are multiplied only where that can change them; on an accelerator always, since
        # the check would wait for the device.
        all_finite = not norm.is_cuda and bool(finite.all())
        if self.max_grad_norm is not None or not all_finite:
            for grad, factor, out in zip(grads, factors.clip_factor, scratch, strict=True):
                torch.mul(grad, factor, out=out)
                if not all_finite:
                    out.nan_to_num_(0.0, 0.0, 0.0)  # only of models that skip the step
            grads = scratch
        torch._foreach_lerp_(exp_avg, grads, factors.exp_avg_rate)
        for grad, out in zip(grads, scratch, strict=True):
            torch.mul(grad, grad, out=out)
        torch._foreach_lerp_(exp_avg_sq, scratch, factors.exp_avg_sq_rate)
        for square, out in zip(exp_avg_sq, scratch, strict=True):
            torch.sqrt(square, out=out)
        torch._foreach_add_(scratch, factors.eps)
        for mean, out in zip(exp_avg, scratch, strict=True):
            torch.div(mean, out, out=out)
        if self._constant_factors.has_weight_decay:
            torch._foreach_mul_(values, factors.decay_factor)
        torch._foreach_addcmul_(values, scratch, factors.step_size, -1.0)
        return AdamStepInfo(norm, finite)

    def _step_factors(
        self, step: Tensor, moving: Tensor, grad_norm: Tensor
    ) -> Float[Tensor, "rate model"]:
        """Rows of `_StepFactors`; a model that does not move gets rates without effect."""
        constant = self._constant_factors
        if grad_norm.is_cuda:
            constant = constant.to(grad_norm.device)
        # Not by pow: its last bit depends on the position of a number in the tensor.
        bias = 1 - (step.clamp(min=1) * constant.log_betas).exp()  # [2, model]
        root = bias[1].sqrt()
        rates = torch.where(moving, constant.rates, 0.0)  # [3, model]
        clip = clip_factor(grad_norm, constant.max_grad_norm.to(grad_norm.dtype)).double()
        step_size = rates[2] * root / bias[0]
        decay = 1 - rates[2] * constant.weight_decay
        return torch.stack([clip, rates[0], rates[1], constant.eps * root, step_size, decay])

    @functools.cached_property
    def _constant_factors(self) -> _ConstantFactors:
        """Factors that are equal in every step."""
        clip = torch.inf if self.max_grad_norm is None else self.max_grad_norm
        settings = (*self.betas, self.learning_rate, self.eps, self.weight_decay, clip)
        rows = [torch.as_tensor(value, dtype=torch.float64).reshape(-1) for value in settings]
        beta1, beta2, rate, eps, decay, clip = torch.broadcast_tensors(*rows)
        log_betas = torch.stack([beta1, beta2]).log()
        rates = torch.stack([1 - beta1, 1 - beta2, rate])
        return _ConstantFactors(log_betas, rates, eps, decay, clip, bool((decay > 0).any()))


class _ConstantFactors(NamedTuple):
    """Settings as tensors `[..., model]`; the dimension `model` is 1 if all are equal."""

    log_betas: Tensor
    rates: Tensor
    eps: Tensor
    weight_decay: Tensor
    max_grad_norm: Tensor
    has_weight_decay: bool

    def to(self, device: torch.device) -> _ConstantFactors:
        log_betas, rates, eps, decay, clip = (tensor.to(device) for tensor in self[:-1])
        return _ConstantFactors(log_betas, rates, eps, decay, clip, self.has_weight_decay)


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


def _check_names(parameters: StackedWeights, gradients: StackedWeights, state: AdamState) -> None:
    for name in parameters:
        if name not in gradients:
            raise UserError(
                f"adam: no gradient for {name!r}{did_you_mean(name, gradients)}",
                code="missing",
                path=name,
            )
        if name not in state.exp_avg:
            raise UserError(
                f"adam: no state for {name!r}{did_you_mean(name, state.exp_avg)}",
                code="missing",
                path=name,
            )
    for name in gradients:
        if name not in parameters:
            raise UserError(
                f"adam: no parameter named {name!r}{did_you_mean(name, parameters)}",
                code="unknown_name",
                path=name,
            )

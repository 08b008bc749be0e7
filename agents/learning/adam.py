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

Parameters and state are written in place. On a CPU, with one setting for all models, a step is one
call of torch's fused kernel, a row for each model; otherwise `adam_by_setting` steps all models by
operations on whole tensors, which need no wait for an accelerator and allow a setting for each
model. `python tests/learners/test_adam.py` times both.
"""

# torch documents its fused optimizers but does not export their functions.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.agents.learning.adam_by_setting import ScratchBuffers, StepConstants, foreach_step
from mores.agents.learning.gradients import NORM_EPSILON, gradient_norms
from mores.agents.learning.weights.stacked_weights import (
    PerModel,
    StackedWeights,
    broadcast_like,
    count_models,
)
from mores.core.errors import UserError, did_you_mean


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
        finite = norm < torch.inf  # false for NaN as well
        moving = finite if active is None else finite & active
        state.step.add_(moving)
        stacks = (parameters, gradients, state.exp_avg, state.exp_avg_sq)
        columns = tuple([stack[name] for name in parameters] for stack in stacks)
        settings = self._shared_settings
        if settings is not None and all(_is_plain(tensor) for each in columns for tensor in each):
            self._fused_step(columns, state.step, moving, norm, settings)
        else:
            foreach_step(columns, state.step, moving, norm, self._constants, state.scratch)
        return AdamStepInfo(norm, finite)

    def _fused_step(
        self,
        columns: tuple[list[Tensor], ...],
        step: Int[Tensor, " model"],
        moving: Bool[Tensor, " model"],
        grad_norm: Float[Tensor, " model"],
        settings: dict[str, float],
    ) -> None:
        """One call of the fused kernel, with a row for each model that moves."""
        values, grads, exp_avg, exp_avg_sq = columns
        if self.max_grad_norm is not None:
            factor = (self.max_grad_norm / (grad_norm + NORM_EPSILON)).clamp(max=1.0)
            grads = [grad * broadcast_like(factor, grad).to(grad.dtype) for grad in grads]
        moves = None if bool(moving.all()) else moving.tolist() * len(values)
        steps = _rows([step] * len(values), moves)
        if steps:
            torch._fused_adamw_(
                _rows(values, moves),
                _rows(grads, moves),
                _rows(exp_avg, moves),
                _rows(exp_avg_sq, moves),
                [],
                steps,
                amsgrad=False,
                maximize=False,
                lr=settings["lr"],
                beta1=settings["beta1"],
                beta2=settings["beta2"],
                weight_decay=settings["weight_decay"],
                eps=settings["eps"],
            )

    @functools.cached_property
    def _shared_settings(self) -> dict[str, float] | None:
        """Arguments of the fused kernel; `None` where models differ in a setting."""
        beta1, beta2 = self.betas
        settings = {
            "lr": self.learning_rate,
            "beta1": beta1,
            "beta2": beta2,
            "weight_decay": self.weight_decay,
            "eps": self.eps,
        }
        everything = (*settings.values(), self.max_grad_norm)
        if any(isinstance(value, Tensor) for value in everything):
            return None
        return {name: float(value) for name, value in settings.items()}

    @functools.cached_property
    def _constants(self) -> StepConstants:
        """Factors that are equal in every step."""
        clip = torch.inf if self.max_grad_norm is None else self.max_grad_norm
        return StepConstants.of(*self.betas, self.learning_rate, self.eps, self.weight_decay, clip)


def _rows(tensors: list[Tensor], moves: list[bool] | None) -> list[Tensor]:
    """A view of each model of each tensor; only of those that move, unless `None`."""
    rows = [row for tensor in tensors for row in tensor.unbind()]
    if moves is None:
        return rows
    return [row for row, kept in zip(rows, moves, strict=True) if kept]


def _is_plain(tensor: Tensor) -> bool:
    """Whether the fused kernel for CPUs can read and write it."""
    return tensor.device.type == "cpu" and tensor.is_contiguous()


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

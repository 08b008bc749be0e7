"""Gradients of stacked models: clipping per model, and combination over principals.

A gradient is a stack `Mapping[str, Tensor]`, `[model, ...]` by name, as
`mores.agents.learning.weights.stacked_weights` describes; gradients of several principals lead with
`[principal, model, ...]`. The norm of a model runs over all tensors of that model alone.

Three combinations of the gradients g_1 ... g_K of K principals' losses:

    mean      (1/K) Σ g_i
    pcgrad    each g_i loses, for every other j in turn whose gradient is at an obtuse angle to it,
              its component along g_j; then the mean of the results
              (Yu et al. 2020, arXiv 2001.06782)
    mgda      the shortest vector of their convex hull, Σ λ_i g_i with λ ≥ 0, Σ λ_i = 1: a descent
              direction for all principals, or zero where none exists
              (MGDA; Sener and Koltun 2018, arXiv 1810.04650)

All three are sums of the gradients with coefficients that follow from their inner products, so the
work beyond one pass over the gradients is on matrices `[model, principal, principal]`.

Differences from the papers. PCGrad adds the projected gradients; the mean here is K times shorter,
so a learning rate means the same in all three combinations. Its random order is an argument
(`streams.uniform(...).argsort(-1)`). The shortest vector of two gradients is the closed form; for
more, pairwise Frank-Wolfe steps (Lacoste-Julien and Jaggi 2015, arXiv 1511.05932) move weight from
the worst principal to the best; they converge linearly, unlike the plain steps of the paper.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.agents.learning.weights.stacked_weights import (
    PerModel,
    StackedWeights,
    broadcast_like,
    count_models,
    flatten_per_model,
    upcast,
)
from mores.core.errors import UserError

NORM_EPSILON = 1e-6  # added to the norm, as in torch.nn.utils.clip_grad_norm_


class ClippedGradients(NamedTuple):
    """Clipped gradients.

    Attributes:
        gradients: gradients scaled to at most the largest norm; zero where not finite.
        norm: norm of each model before clipping; not finite where a gradient is not.
        finite: models whose norm is finite.
    """

    gradients: dict[str, Tensor]
    norm: Float[Tensor, " model"]
    finite: Bool[Tensor, " model"]


class CombinedGradients(NamedTuple):
    """Combination of the gradients of several principals.

    Attributes:
        gradients: the combined gradient, `[model, ...]` by name.
        weight: coefficient of each principal's gradient.
        conflict_share: share of pairs of principals whose gradients are at an obtuse angle, 0 to 1.
    """

    gradients: dict[str, Tensor]
    weight: Float[Tensor, "model principal"]
    conflict_share: Float[Tensor, " model"]


def gradient_norms(gradients: StackedWeights) -> Float[Tensor, " model"]:
    """Euclidean norm of every model's gradient over all its tensors."""
    norms = [
        torch.linalg.vector_norm(flatten_per_model(upcast(g)), dim=1) for g in gradients.values()
    ]
    return norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms), dim=0)


def clip_by_norm(gradients: StackedWeights, max_norm: PerModel = torch.inf) -> ClippedGradients:
    """Gradients scaled down to a largest norm per model.

    The factor is that of `torch.nn.utils.clip_grad_norm_`. A model whose gradient holds NaN or an
    infinity, or whose norm overflows, gets zeros; other models are unaffected.

    Args:
        gradients: a stack.
        max_norm: largest norm, above 0, one number or one per model; infinite: only check.

    Raises:
        UserError: `gradients` is not a stack, or a largest norm is not above 0.
    """
    count_models(gradients)
    norm = gradient_norms(gradients)
    finite = norm.isfinite()
    limits = torch.as_tensor(max_norm, dtype=norm.dtype, device=norm.device)
    if not bool((limits > 0).all()):
        raise UserError(
            f"max_norm must be above 0, not {max_norm}; torch.inf disables clipping",
            code="out_of_range",
            path="max_norm",
        )
    factor = clip_factor(norm, limits)
    clipped = {}
    for name, gradient in gradients.items():
        finite_gradient = torch.where(broadcast_like(finite, gradient), gradient, 0.0)
        clipped[name] = finite_gradient * broadcast_like(factor, gradient).to(gradient.dtype)
    return ClippedGradients(clipped, norm, finite)


def clip_factor(
    norm: Float[Tensor, " model"], max_norm: Float[Tensor, "*model"]
) -> Float[Tensor, " model"]:
    """Factor that clips gradients of these norms; 0 where a norm is not finite."""
    factor = (max_norm / (norm + NORM_EPSILON)).clamp(max=1.0)
    return torch.where(norm.isfinite(), factor, 0.0)


def principal_gradients(
    losses: Callable[[dict[str, Tensor]], Float[Tensor, "principal model"]],
    parameters: StackedWeights,
) -> dict[str, Tensor]:
    """Gradient of every principal's loss for every model.

    Args:
        losses: losses `[principal, model]` as a function of parameters; a model's loss must depend
            on its own parameters only.
        parameters: a stack.

    Returns:
        `[principal, model, ...]` by name; zero for tensors that a loss does not depend on.

    Raises:
        UserError: `losses` returns another shape.
    """
    num_models = count_models(parameters)
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in parameters.items()}
    with torch.enable_grad():
        loss = losses(leaves)
    if loss.dim() != 2 or loss.shape[1] != num_models:
        raise UserError(
            f"losses must have shape [principal, model] with {num_models} models, not "
            f"{tuple(loss.shape)}",
            code="wrong_shape",
            path="losses",
        )
    rows = []
    for index, principal_loss in enumerate(loss):
        # Summed, not averaged: a model's gradient must not depend on the number of models.
        rows.append(
            torch.autograd.grad(
                principal_loss.sum(),
                list(leaves.values()),
                retain_graph=index + 1 < len(loss),
                allow_unused=True,
                materialize_grads=True,
            )
        )
    columns = zip(*rows, strict=True)
    return {name: torch.stack(column) for name, column in zip(leaves, columns, strict=True)}


def mean_gradient(gradients: StackedWeights) -> CombinedGradients:
    """Mean over principals of gradients `[principal, model, ...]`."""
    inner = _inner_products(gradients)
    weight = torch.full_like(inner[:, :, 0], 1 / inner.shape[1])
    return _combine(gradients, weight, inner)


def pcgrad(
    gradients: StackedWeights,
    order: Int[Tensor, "model principal"] | Int[Tensor, "model principal principal"] | None = None,
) -> CombinedGradients:
    """Mean over principals of gradients whose conflicts are projected out.

    Args:
        gradients: `[principal, model, ...]` by name.
        order: order of the projections: a permutation of principals by model, the same for every
            gradient or a row for each; `None`: by number.

    Raises:
        UserError: `order` has a wrong shape, or is not a permutation.
    """
    inner = _inner_products(gradients)
    num_models, principals = inner.shape[:2]
    order = _check_order(order, num_models, principals, inner.device)
    square = inner.diagonal(dim1=1, dim2=2)
    # Row i holds the coefficients of the projected gradient i in terms of all gradients.
    identity = torch.eye(principals, dtype=inner.dtype, device=inner.device)
    coefficients = identity.repeat(num_models, 1, 1)
    principal = torch.arange(principals, device=inner.device)
    for position in range(principals):
        other = order[:, :, position]  # [model, principal]: the gradient to project on
        along = torch.einsum(
            "pij,pij->pi", coefficients, inner.gather(1, other[:, :, None].expand_as(inner))
        )
        length = square.gather(1, other)
        conflicts = (along < 0) & (other != principal)
        component = torch.where(conflicts, along / length, 0.0)
        coefficients = coefficients.scatter_add(2, other[:, :, None], -component[:, :, None])
    return _combine(gradients, coefficients.mean(1), inner)


def mgda(
    gradients: StackedWeights, max_iterations: int = 500, tolerance: float = 1e-7
) -> CombinedGradients:
    """Shortest vector in the convex hull of the principals' gradients.

    Args:
        gradients: `[principal, model, ...]` by name.
        max_iterations: largest number of steps; with two principals one step is exact.
        tolerance: the steps end when the slopes of the squared length along all gradients differ
            by at most this share of the longest gradient's square.
    """
    inner = _inner_products(gradients)
    square = inner.diagonal(dim1=1, dim2=2)
    scale = square.amax(1)[:, None, None]
    inner_unit = inner / torch.where(scale > 0, scale, 1.0)
    weight = torch.full_like(square, 1 / inner.shape[1])
    for _ in range(max_iterations):
        slope = torch.einsum("pij,pj->pi", inner_unit, weight)
        best = slope.argmin(1, keepdim=True)
        worst = torch.where(weight > 0, slope, -torch.inf).argmax(1, keepdim=True)
        gain = slope.gather(1, worst) - slope.gather(1, best)
        if not bool((gain > tolerance).any()):
            break
        distance = (
            _matrix_entry(inner_unit, best, best)
            + _matrix_entry(inner_unit, worst, worst)
            - 2 * _matrix_entry(inner_unit, best, worst)
        )
        available = weight.gather(1, worst)
        step = torch.where(distance > 0, gain / distance, available)
        step = step.clamp(min=0.0).minimum(available)
        # A converged model keeps its weights, so they do not depend on the other models.
        step = torch.where(gain > tolerance, step, 0.0)
        weight = weight.scatter_add(1, worst, -step).scatter_add(1, best, step)
    return _combine(gradients, weight, inner)


def conflict_share(gradients: StackedWeights) -> Float[Tensor, " model"]:
    """Share of pairs of principals whose gradients are at an obtuse angle; 0 for one principal."""
    return _conflict_share(_inner_products(gradients))


def _inner_products(gradients: StackedWeights) -> Float[Tensor, "model principal principal"]:
    """Inner products of the principals' gradients, over all tensors of a model."""
    sizes = {tuple(g.shape[:2]) for g in gradients.values() if g.dim() >= 2}
    if len(sizes) != 1 or any(g.dim() < 2 for g in gradients.values()):
        raise UserError(
            "gradients must have shape [principal, model, ...] with equal first two sizes, not "
            f"{sorted(tuple(g.shape) for g in gradients.values())}",
            code="wrong_shape",
            path="gradients",
        )
    # In double precision: nearly equal and nearly opposite gradients are the cases of interest.
    rows = [g.reshape(*g.shape[:2], -1).double() for g in gradients.values()]
    products = [torch.einsum("kpn,lpn->pkl", g, g) for g in rows]
    return torch.stack(products).sum(0)


def _combine(
    gradients: StackedWeights,
    weight: Float[Tensor, "model principal"],
    inner_products: Float[Tensor, "model principal principal"],
) -> CombinedGradients:
    combined = {}
    for name, gradient in gradients.items():
        factor = weight.T.reshape(*weight.T.shape, *[1] * (gradient.dim() - 2))
        total = (upcast(gradient) * factor.to(upcast(gradient).dtype)).sum(0)
        combined[name] = total.to(gradient.dtype)
    return CombinedGradients(combined, weight.float(), _conflict_share(inner_products))


def _conflict_share(
    inner_products: Float[Tensor, "model principal principal"],
) -> Float[Tensor, " model"]:
    principals = inner_products.shape[1]
    obtuse = (inner_products < 0).triu(1).flatten(1).sum(1)
    return obtuse / max(principals * (principals - 1) // 2, 1)


def _matrix_entry(matrix: Tensor, row: Tensor, column: Tensor) -> Float[Tensor, "model 1"]:
    index = row * matrix.shape[2] + column
    return matrix.flatten(1).gather(1, index)


def _check_order(
    order: Tensor | None, num_models: int, num_principals: int, device: torch.device
) -> Int[Tensor, "model principal principal"]:
    by_number = torch.arange(num_principals, device=device)
    if order is None:
        return by_number.expand(num_models, num_principals, num_principals)
    if order.shape not in (
        (num_models, num_principals),
        (num_models, num_principals, num_principals),
    ):
        raise UserError(
            "order must have shape [model, principal] or [model, principal, principal] with "
            f"{num_models} models and {num_principals} principals, not {tuple(order.shape)}",
            code="wrong_shape",
            path="order",
        )
    if not bool((order.sort(-1).values == by_number).all()):
        raise UserError(
            "order must hold the number of every principal once, from 0",
            code="invalid_value",
            path="order",
        )
    return order[:, None].expand(-1, num_principals, -1) if order.dim() == 2 else order

"""Gradients of stacked policies: clipped one by one, and combined where several principals pull.

Every gradient is a stack `Mapping[str, Tensor]`, `[policy, ...]` by name, as
`mores.agents.learning.weights.stacked_weights` describes; those of several principals lead with
`[principal, policy, ...]`. The norm of a policy runs over all its tensors, and over nobody else's.

With gradients g_1 ... g_K of K principals' losses, three ways to one direction:

    mean      (1/K) Σ g_i
    pcgrad    each g_i gives up, for every other j in turn whose gradient it meets at an obtuse
              angle, its part along g_j; then the mean of what is left
              (Yu et al. 2020, arXiv 2001.06782)
    min_norm  the shortest vector of their convex hull, Σ λ_i g_i with λ ≥ 0, Σ λ_i = 1: descends
              for all, or is zero where no direction does
              (MGDA; Sener and Koltun 2018, arXiv 1810.04650)

All three are sums of the gradients with coefficients that follow from their inner products, so the
work beyond one pass over the gradients is on matrices `[policy, principal, principal]`.

What differs from the papers. PCGrad adds the projected gradients up; the mean here is K times
shorter, so that a learning rate means the same in all three ways. Its random order is an argument
(`draws.uniform(...).argsort(-1)`). The shortest vector of two gradients is the closed form; for
more, steps move weight from the worst principal that has any to the best (pairwise Frank-Wolfe,
Lacoste-Julien and Jaggi 2015, arXiv 1511.05932), which converges linearly where the plain steps of
the paper do not.
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

NORM_EPSILON = 1e-6  # beside the norm, as in torch.nn.utils.clip_grad_norm_


class ClippedGradients(NamedTuple):
    """Gradients within a limit.

    Attributes:
        gradients: scaled down where they were too long, zero where they were not finite.
        norm: length over all tensors of a policy, before; not finite where a gradient is not.
        finite: policies whose norm is finite.
    """

    gradients: dict[str, Tensor]
    norm: Float[Tensor, " policy"]
    finite: Bool[Tensor, " policy"]


class CombinedGradients(NamedTuple):
    """One direction from those of several principals.

    Attributes:
        gradients: the direction, `[policy, ...]` by name.
        weight: coefficient of each principal's gradient in it.
        conflict_share: share of pairs of principals whose gradients meet at an obtuse angle, 0 to 1.
    """

    gradients: dict[str, Tensor]
    weight: Float[Tensor, "policy principal"]
    conflict_share: Float[Tensor, " policy"]


def gradient_norms(gradients: StackedWeights) -> Float[Tensor, " policy"]:
    """Euclidean length of every policy's gradient over all its tensors."""
    lengths = [
        torch.linalg.vector_norm(flatten_per_model(upcast(g)), dim=1) for g in gradients.values()
    ]
    return torch.linalg.vector_norm(torch.stack(lengths), dim=0)


def clip_by_norm(gradients: StackedWeights, max_norm: PerModel = torch.inf) -> ClippedGradients:
    """Scale down the gradients of policies whose norm exceeds a limit.

    The factor is that of `torch.nn.utils.clip_grad_norm_`. A policy whose gradient holds NaN or an
    infinity, or whose norm overflows, gets zeros: its own trouble only.

    Args:
        gradients: a stack.
        max_norm: largest norm, above 0, one number or one a policy; infinite: only check.

    Raises:
        UserError: the stack is none, or a limit is not above 0.
    """
    count_models(gradients)
    norm = gradient_norms(gradients)
    finite = norm.isfinite()
    limits = torch.as_tensor(max_norm, dtype=norm.dtype, device=norm.device)
    if not bool((limits > 0).all()):
        raise UserError(
            f"a clip limit must be above 0, not {max_norm}; torch.inf does not clip",
            code="out_of_range",
            path="limit",
        )
    factor = clip_factor(norm, limits)
    clipped = {}
    for name, gradient in gradients.items():
        sound = torch.where(broadcast_like(finite, gradient), gradient, 0.0)
        clipped[name] = sound * broadcast_like(factor, gradient).to(gradient.dtype)
    return ClippedGradients(clipped, norm, finite)


def clip_factor(
    norm: Float[Tensor, " policy"], max_norm: Float[Tensor, "*policy"]
) -> Float[Tensor, " policy"]:
    """What gradients of these norms are multiplied with; 0 where a norm is not finite."""
    factor = (max_norm / (norm + NORM_EPSILON)).clamp(max=1.0)
    return torch.where(norm.isfinite(), factor, 0.0)


def principal_gradients(
    losses: Callable[[dict[str, Tensor]], Float[Tensor, "principal policy"]],
    parameters: StackedWeights,
) -> dict[str, Tensor]:
    """Gradient of every principal's loss for every policy.

    Args:
        losses: from parameters to `[principal, policy]`; a policy's loss must depend on its own
            parameters only.
        parameters: a stack.

    Returns:
        `[principal, policy, ...]` by name; zero for tensors that a loss does not depend on.

    Raises:
        UserError: losses are of another shape.
    """
    policies = count_models(parameters)
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in parameters.items()}
    with torch.enable_grad():
        loss = losses(leaves)
    if loss.dim() != 2 or loss.shape[1] != policies:
        raise UserError(
            f"losses are {tuple(loss.shape)}: [principal, policy] with {policies} policies",
            code="wrong_shape",
            path="losses",
        )
    rows = []
    for number, one in enumerate(loss):
        # Summed, not averaged: a policy's gradient must not depend on how many there are.
        rows.append(
            torch.autograd.grad(
                one.sum(),
                list(leaves.values()),
                retain_graph=number + 1 < len(loss),
                allow_unused=True,
                materialize_grads=True,
            )
        )
    columns = zip(*rows, strict=True)
    return {name: torch.stack(column) for name, column in zip(leaves, columns, strict=True)}


def mean_gradient(gradients: StackedWeights) -> CombinedGradients:
    """Mean over principals of gradients `[principal, policy, ...]`."""
    inner = _inner_products(gradients)
    weight = torch.full_like(inner[:, :, 0], 1 / inner.shape[1])
    return _combine(gradients, weight, inner)


def pcgrad(
    gradients: StackedWeights,
    order: Int[Tensor, "policy principal"]
    | Int[Tensor, "policy principal principal"]
    | None = None,
) -> CombinedGradients:
    """Mean over principals of gradients whose conflicts are projected out.

    Args:
        gradients: `[principal, policy, ...]` by name.
        order: in which a gradient meets the others: a permutation of principals by policy, the same
            for every gradient or a row for each; `None`: as they are numbered.

    Raises:
        UserError: an order is no permutation, or of another size.
    """
    inner = _inner_products(gradients)
    policies, principals = inner.shape[:2]
    order = _check_order(order, policies, principals, inner.device)
    square = inner.diagonal(dim1=1, dim2=2)
    # Row i holds by which coefficients what is left of gradient i is made of all gradients.
    made = torch.eye(principals, device=inner.device).repeat(policies, 1, 1).to(inner.dtype)
    itself = torch.arange(principals, device=inner.device)
    for place in range(principals):
        other = order[:, :, place]  # [policy, principal]: whom each gradient meets now
        along = torch.einsum(
            "pij,pij->pi", made, inner.gather(1, other[:, :, None].expand_as(inner))
        )
        length = square.gather(1, other)
        meets = (along < 0) & (other != itself)
        part = torch.where(meets, along / length, 0.0)
        made = made.scatter_add(2, other[:, :, None], -part[:, :, None])
    return _combine(gradients, made.mean(1), inner)


def mgda(
    gradients: StackedWeights, max_iterations: int = 500, tolerance: float = 1e-7
) -> CombinedGradients:
    """Shortest vector in the convex hull of the principals' gradients.

    Args:
        gradients: `[principal, policy, ...]` by name.
        max_iterations: at most so many moves of weight; with two principals one is exact.
        tolerance: weight moves while the slopes of the squared length along two gradients differ
            by more than this share of the longest gradient's square.
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
        apart = (
            _matrix_entry(inner_unit, best, best)
            + _matrix_entry(inner_unit, worst, worst)
            - 2 * _matrix_entry(inner_unit, best, worst)
        )
        room = weight.gather(1, worst)
        move = torch.where(apart > 0, gain / apart, room).clamp(min=0.0).minimum(room)
        # Whoever has arrived stays, so that nobody's weights depend on how long others take.
        move = torch.where(gain > tolerance, move, 0.0)
        weight = weight.scatter_add(1, worst, -move).scatter_add(1, best, move)
    return _combine(gradients, weight, inner)


def conflict_share(gradients: StackedWeights) -> Float[Tensor, " policy"]:
    """Share of pairs of principals whose gradients meet at an obtuse angle; 0 for one principal."""
    return _conflict_share(_inner_products(gradients))


def _inner_products(gradients: StackedWeights) -> Float[Tensor, "policy principal principal"]:
    """Inner products of the principals' gradients, over all tensors of a policy."""
    sizes = {tuple(g.shape[:2]) for g in gradients.values() if g.dim() >= 2}
    if len(sizes) != 1 or any(g.dim() < 2 for g in gradients.values()):
        raise UserError(
            "gradients of principals are [principal, policy, ...], with the same numbers of both "
            f"in every tensor, not {sorted(tuple(g.shape) for g in gradients.values())}",
            code="wrong_shape",
            path="gradients",
        )
    # In double precision: nearly equal and nearly opposite gradients are the cases of interest.
    rows = [g.reshape(*g.shape[:2], -1).double() for g in gradients.values()]
    products = [torch.einsum("kpn,lpn->pkl", g, g) for g in rows]
    return torch.stack(products).sum(0)


def _combine(
    gradients: StackedWeights,
    weight: Float[Tensor, "policy principal"],
    inner_products: Float[Tensor, "policy principal principal"],
) -> CombinedGradients:
    combined = {}
    for name, gradient in gradients.items():
        factor = weight.T.reshape(*weight.T.shape, *[1] * (gradient.dim() - 2))
        whole = (upcast(gradient) * factor.to(upcast(gradient).dtype)).sum(0)
        combined[name] = whole.to(gradient.dtype)
    return CombinedGradients(combined, weight.float(), _conflict_share(inner_products))


def _conflict_share(
    inner_products: Float[Tensor, "policy principal principal"],
) -> Float[Tensor, " policy"]:
    principals = inner_products.shape[1]
    obtuse = (inner_products < 0).triu(1).flatten(1).sum(1)
    return obtuse / max(principals * (principals - 1) // 2, 1)


def _matrix_entry(matrix: Tensor, row: Tensor, column: Tensor) -> Float[Tensor, "policy 1"]:
    at = row * matrix.shape[2] + column
    return matrix.flatten(1).gather(1, at)


def _check_order(
    order: Tensor | None, num_models: int, num_principals: int, device: torch.device
) -> Int[Tensor, "policy principal principal"]:
    plain = torch.arange(num_principals, device=device)
    if order is None:
        return plain.expand(num_models, num_principals, num_principals)
    if order.shape not in (
        (num_models, num_principals),
        (num_models, num_principals, num_principals),
    ):
        raise UserError(
            f"an order is [policy, principal] or [policy, principal, principal], here of "
            f"{num_models} policies and {num_principals} principals, not {tuple(order.shape)}",
            code="wrong_shape",
            path="order",
        )
    if not bool((order.sort(-1).values == plain).all()):
        raise UserError(
            "an order must name every principal once, numbered from 0",
            code="invalid_value",
            path="order",
        )
    return order[:, None].expand(-1, num_principals, -1) if order.dim() == 2 else order

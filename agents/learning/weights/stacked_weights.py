"""Weights of several models, stacked: `Mapping[str, Tensor]`, every tensor `[model, ...]`.

All operators of this folder take and return such stacks. A state dict of one model, from Hugging
Face or `torch.nn.Module.state_dict`, lacks the first dimension; `unsqueeze` adds it:

    merged = squeeze(ties_merge(unsqueeze(base), [unsqueeze(one), unsqueeze(other)]))

`unsqueeze` and `squeeze` copy nothing. Buffers that are not floating-point numbers (positions,
counters) cannot be averaged: operators return those of the first weights given. Half precision is
computed in single precision and rounded once. Names that share a tensor (tied embeddings) count as
two tensors, so they weigh twice in shares of all weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from mores.core.errors import UserError, did_you_mean

StackedWeights = Mapping[str, Tensor]
PerModel = float | Float[Tensor, " model"]


def unsqueeze(weights: StackedWeights) -> dict[str, Tensor]:
    """One model's state dict as a stack of one model: every tensor `[...]` becomes `[1, ...]`."""
    return {name: tensor.unsqueeze(0) for name, tensor in weights.items()}


def squeeze(weights: StackedWeights, model_index: int = 0) -> dict[str, Tensor]:
    """The state dict of one model of a stack: every tensor `[model, ...]` becomes `[...]`."""
    return {name: tensor[model_index] for name, tensor in weights.items()}


def stack_state_dicts(state_dicts: Sequence[StackedWeights]) -> dict[str, Tensor]:
    """Several models' state dicts as one stack.

    Raises:
        UserError: they differ in names or shapes, or there are none.
    """
    if not state_dicts:
        raise UserError("a stack needs at least one state dict", code="missing", path="state_dicts")
    check_layout(*state_dicts)
    return {name: torch.stack([state[name] for state in state_dicts]) for name in state_dicts[0]}


def count_models(weights: StackedWeights) -> int:
    """Number of models in a stack.

    Raises:
        UserError: it is empty, or the first dimensions of its tensors differ.
    """
    if not weights:
        raise UserError(
            "weights are empty: a stack has at least one tensor [model, ...]",
            code="missing",
            path="weights",
        )
    first, sizes = next(iter(weights)), {n: tuple(t.shape[:1]) for n, t in weights.items()}
    for name, size in sizes.items():
        if not size or size != sizes[first]:
            raise UserError(
                f"{name!r} has first dimension {size}, {first!r} {sizes[first]}: every tensor must "
                "be [model, ...]; apply unsqueeze to the state dict of one model",
                code="wrong_shape",
                path=name,
            )
    return sizes[first][0]


def check_layout(first: StackedWeights, *others: StackedWeights) -> None:
    """Check that weights have the same names and shapes.

    Raises:
        UserError: a name is missing, unknown, or has another shape.
    """
    for number, other in enumerate(others, start=2):
        for name in other:
            if name not in first:
                raise UserError(
                    f"weights {number} have {name!r}, the first do not{did_you_mean(name, first)}",
                    code="unknown_name",
                    path=name,
                )
        for name, tensor in first.items():
            if name not in other:
                raise UserError(
                    f"weights {number} lack {name!r}{did_you_mean(name, other)}",
                    code="missing",
                    path=name,
                )
            if other[name].shape != tensor.shape:
                raise UserError(
                    f"{name!r} is {tuple(other[name].shape)} in weights {number} "
                    f"and {tuple(tensor.shape)} in the first",
                    code="wrong_shape",
                    path=name,
                )


def floating_point_names(weights: StackedWeights) -> list[str]:
    """Names of the tensors of floating-point numbers."""
    return [name for name, tensor in weights.items() if tensor.is_floating_point()]


def upcast(tensor: Tensor) -> Tensor:
    """The tensor in single precision at least."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def broadcast_like(values: Tensor, like: Tensor) -> Tensor:
    """Values `[model]` as `[model, 1, ...]`, to broadcast with a tensor `[model, ...]`."""
    return values.reshape(-1, *[1] * (like.dim() - 1))


def flatten_per_model(tensor: Tensor) -> Shaped[Tensor, "model weight"]:
    """A tensor `[model, ...]` as one vector per model; `[model]` becomes `[model, 1]`."""
    return tensor.reshape(len(tensor), -1)


def flatten_weights(weights: StackedWeights, names: Sequence[str]) -> Float[Tensor, "model weight"]:
    """The named tensors of each model, concatenated, in single precision at least."""
    return torch.cat([flatten_per_model(upcast(weights[name])) for name in names], 1)


def unflatten_weights(
    vector: Tensor, like: StackedWeights, names: Sequence[str]
) -> dict[str, Tensor]:
    """Inverse of `flatten_weights`, with the shapes of `like`."""
    return split_flat(vector, {name: tuple(like[name].shape[1:]) for name in names})


def split_flat(vector: Tensor, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """A vector `[model, weight]` split into tensors; `shapes` are those of one model."""
    parts = vector.split([math.prod(shape) for shape in shapes.values()], 1)
    named = zip(shapes.items(), parts, strict=True)
    return {name: part.reshape(len(part), *shape) for (name, shape), part in named}


def replace_models(
    weights: StackedWeights, other: StackedWeights, models: Bool[Tensor, " model"]
) -> dict[str, Tensor]:
    """The weights, with those of `other` for the selected models."""
    return {
        name: torch.where(broadcast_like(models, tensor), other[name], tensor)
        for name, tensor in weights.items()
    }


def top_k_mask(
    score: Float[Tensor, "model weight"], count: int | Int[Tensor, " model"]
) -> Bool[Tensor, "model weight"]:
    """Mask of the `count` highest scores of each model; exactly so many, also with ties.

    Args:
        score: to be ranked; NaN ranks highest, so that it stays visible.
        count: number of scores, the same for all or by model, 0 to `weight`.
    """
    largest = count if isinstance(count, int) else int(count.max())
    positions = score.topk(largest, dim=1).indices
    selected = torch.ones_like(positions, dtype=torch.bool)
    if not isinstance(count, int):
        selected = torch.arange(largest, device=score.device) < count[:, None]
    return torch.zeros_like(score, dtype=torch.bool).scatter(1, positions, selected)


def check_fraction(value: float, name: str) -> None:
    """Check that the parameter `name` is in [0, 1].

    Raises:
        UserError: it is not.
    """
    if not 0.0 <= value <= 1.0:
        raise UserError(
            f"{name} must lie in [0, 1], not be {value}", code="out_of_range", path=name
        )

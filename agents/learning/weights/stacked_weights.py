"""Weights of several policies, stacked: `Mapping[str, Tensor]`, every tensor `[policy, ...]`.

All operators of this folder take and give such stacks. A state dict of one model, as Hugging Face
and `torch.nn.Module.state_dict` have it, lacks the first dimension and gets it by `unsqueeze`:

    merged = squeeze(ties(unsqueeze(base), [unsqueeze(one), unsqueeze(other)]))

`unsqueeze` and `squeeze` copy nothing. Buffers that are not floating-point numbers (positions,
counters) are nobody's to average: operators hand them on as the first weights given have them. Half
precision is computed in single precision and rounded once. Names that share a tensor (tied
embeddings) are taken for two tensors, so they weigh twice where shares of all weights are counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from mores.core.errors import UserError, did_you_mean

StackedWeights = Mapping[str, Tensor]
PerModel = float | Float[Tensor, " policy"]


def unsqueeze(weights: StackedWeights) -> dict[str, Tensor]:
    """One model's state dict as a stack of one policy: every tensor `[...]` becomes `[1, ...]`."""
    return {name: tensor.unsqueeze(0) for name, tensor in weights.items()}


def squeeze(weights: StackedWeights, model_index: int = 0) -> dict[str, Tensor]:
    """The state dict of one policy of a stack: every tensor `[policy, ...]` becomes `[...]`."""
    return {name: tensor[model_index] for name, tensor in weights.items()}


def stack_state_dicts(state_dicts: Sequence[StackedWeights]) -> dict[str, Tensor]:
    """Several models' state dicts as one stack, a policy each.

    Raises:
        UserError: they differ in names or shapes, or there are none.
    """
    if not state_dicts:
        raise UserError(
            "nothing to stack: give at least one state dict", code="missing", path="several"
        )
    check_layout(*state_dicts)
    return {name: torch.stack([one[name] for one in state_dicts]) for name in state_dicts[0]}


def count_models(weights: StackedWeights) -> int:
    """How many policies a stack holds.

    Raises:
        UserError: it is empty, or its tensors do not all lead with the same number of policies.
    """
    if not weights:
        raise UserError(
            "no weights given: a stack has at least one tensor [policy, ...]",
            code="missing",
            path="weights",
        )
    first, sizes = next(iter(weights)), {n: tuple(t.shape[:1]) for n, t in weights.items()}
    for name, size in sizes.items():
        if not size or size != sizes[first]:
            raise UserError(
                f"{name!r} leads with {size}, {first!r} with {sizes[first]}: every tensor is "
                "[policy, ...]; pass the state dict of one model through unsqueeze first",
                code="wrong_shape",
                path=name,
            )
    return sizes[first][0]


def check_layout(first: StackedWeights, *others: StackedWeights) -> None:
    """Check that weights have the same names and shapes.

    Raises:
        UserError: a name is missing, unknown, or stands for another shape.
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
    """Names of the tensors that hold floating-point numbers."""
    return [name for name, tensor in weights.items() if tensor.is_floating_point()]


def upcast(tensor: Tensor) -> Tensor:
    """The tensor in single precision at least."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def broadcast_like(values: Tensor, like: Tensor) -> Tensor:
    """Numbers `[policy]` as `[policy, 1, ...]`, to meet a tensor `[policy, ...]`."""
    return values.reshape(-1, *[1] * (like.dim() - 1))


def flatten_per_model(tensor: Tensor) -> Shaped[Tensor, "policy weight"]:
    """The numbers of each policy of a tensor `[policy, ...]` in a line, `[policy]` included."""
    return tensor.reshape(len(tensor), -1)


def flatten_weights(
    weights: StackedWeights, names: Sequence[str]
) -> Float[Tensor, "policy weight"]:
    """The named tensors of each policy end to end, in single precision at least."""
    return torch.cat([flatten_per_model(upcast(weights[name])) for name in names], 1)


def unflatten_weights(
    vector: Tensor, like: StackedWeights, names: Sequence[str]
) -> dict[str, Tensor]:
    """What `flatten_weights` joined, cut into tensors of the shapes of `like`."""
    return split_flat(vector, {name: tuple(like[name].shape[1:]) for name in names})


def split_flat(vector: Tensor, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """A vector `[policy, weight]` cut into tensors of these shapes, those of one policy."""
    parts = vector.split([math.prod(shape) for shape in shapes.values()], 1)
    named = zip(shapes.items(), parts, strict=True)
    return {name: part.reshape(len(part), *shape) for (name, shape), part in named}


def replace_models(
    weights: StackedWeights, other: StackedWeights, models: Bool[Tensor, " policy"]
) -> dict[str, Tensor]:
    """The weights, with those of `other` for the policies named."""
    return {
        name: torch.where(broadcast_like(models, tensor), other[name], tensor)
        for name, tensor in weights.items()
    }


def top_k_mask(
    score: Float[Tensor, "policy weight"], count: int | Int[Tensor, " policy"]
) -> Bool[Tensor, "policy weight"]:
    """Where each policy's `count` highest scores stand; exactly so many, whatever ties there are.

    Args:
        score: to be ranked; NaN ranks highest, so that it stays in sight.
        count: how many, the same for all or by policy, 0 to `weight`.
    """
    most = count if isinstance(count, int) else int(count.max())
    places = score.topk(most, dim=1).indices
    taken = torch.ones_like(places, dtype=torch.bool)
    if not isinstance(count, int):
        taken = torch.arange(most, device=score.device) < count[:, None]
    return torch.zeros_like(score, dtype=torch.bool).scatter(1, places, taken)


def check_fraction(value: float, name: str) -> None:
    """Check that a number is a share, 0 to 1.

    Raises:
        UserError: it is not.
    """
    if not 0.0 <= value <= 1.0:
        raise UserError(f"{name} is a share, 0 to 1, not {value}", code="out_of_range", path=name)

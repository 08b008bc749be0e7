"""Sums in a fixed order, so that a world's numbers do not depend on the other worlds.

`torch.sum` may change its order of addition with the shape of the batch. The last bit then depends
on the number of worlds simulated together, and one replicate could not be replayed alone.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def total(x: Tensor, dim: int) -> Tensor:
    """Sum over `dim` by halves: the pairs do not depend on the other dimensions.

    Of an odd number the last term is a term of the next pass, after the sums of the pairs.
    """
    size = x.shape[dim]
    if size == 0:
        return x.new_zeros(x.shape[:dim] + x.shape[dim % x.dim() + 1 :])
    if size == 1:
        return x.select(dim, 0)
    last = None  # term after those of x, which are `size`
    while size > 1:
        half = size // 2
        if size % 2 == 0:
            left, right = x.split(half, dim)
        elif last is None:
            left, right, last = x.split((half, half, 1), dim)
        else:  # the middle term and the last one are a pair
            left, middle, right = x.split((half, 1, half), dim)
            last = middle + last
        x, size = left + right, half
    return (x if last is None else x + last).squeeze(dim)


def mean(x: Tensor, dim: int) -> Tensor:
    """Mean over `dim`, with the sum in a fixed order."""
    size = x.shape[dim]
    return total(x, dim) if size == 1 and x.is_floating_point() else total(x, dim) / size


def norm(x: Float[Tensor, "*shape value"]) -> Float[Tensor, "*shape"]:
    """Euclidean norm over the last dimension, with the sum in a fixed order."""
    return total(x * x, -1).sqrt()

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
    last = None  # term after those of x, which are `size`
    while size > 1:
        half = size // 2
        if last is None and size % 2:
            last = x.select(dim, size - 1)
        elif last is not None and size % 2:  # the middle term and the last one are a pair
            last = x.select(dim, half) + last
            x = x.narrow(dim, 0, half) + x.narrow(dim, half + 1, half)
            size = half
            continue
        x = x.narrow(dim, 0, half) + x.narrow(dim, half, half)
        size = half
    one = x.select(dim, 0)
    return one if last is None else one + last


def mean(x: Tensor, dim: int) -> Tensor:
    """Mean over `dim`, with the sum in a fixed order."""
    size = x.shape[dim]
    return total(x, dim) if size == 1 and x.is_floating_point() else total(x, dim) / size


def norm(x: Float[Tensor, "*shape value"]) -> Float[Tensor, "*shape"]:
    """Euclidean norm over the last dimension, with the sum in a fixed order."""
    return total(x * x, -1).sqrt()

"""Sums in a fixed order, so that a world's numbers do not depend on the other worlds.

`torch.sum` may change its order of addition with the shape of the batch. The last bit then depends
on the number of worlds simulated together, and one replicate could not be replayed alone.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def total(x: Tensor, dim: int) -> Tensor:
    """Sum over `dim` by halves: the pairs do not depend on the other dimensions."""
    x = x.movedim(dim, 0)
    if x.shape[0] == 0:
        return x.new_zeros(x.shape[1:])
    while x.shape[0] > 1:
        half = x.shape[0] // 2
        pairs = x[:half] + x[half : 2 * half]
        x = torch.cat([pairs, x[2 * half :]]) if x.shape[0] % 2 else pairs
    return x[0]


def mean(x: Tensor, dim: int) -> Tensor:
    """Mean over `dim`, with the sum in a fixed order."""
    return total(x, dim) / x.shape[dim]


def norm(x: Float[Tensor, "*shape value"]) -> Float[Tensor, "*shape"]:
    """Euclidean norm over the last dimension, with the sum in a fixed order."""
    return total(x * x, -1).sqrt()

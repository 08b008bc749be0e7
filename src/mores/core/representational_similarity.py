"""Similarity of the features that networks compute, of the same items in two contexts.

Linear centered kernel alignment (Kornblith et al. 2019, arXiv 1905.00414, equation 4 for linear
kernels): with the features X and Y of n items, columns centered,

    CKA = ||Y' X||^2 / (||X' X|| ||Y' Y||)        Frobenius norms

It is 1 if Y is a rotation of X, or a multiple, and unchanged by either.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def linear_cka(
    x: Float[Tensor, "world item feature"], y: Float[Tensor, "world item other_feature"]
) -> Float[Tensor, " world"]:
    """Linear centered kernel alignment of two sets of features, in [0, 1].

    Args:
        x: features of the items.
        y: other features of the same items, in the same order.

    Returns:
        One number for each world; NaN where the features of all items are equal.
    """
    return torch.stack([_cka_of_world(*pair) for pair in zip(x.double(), y.double(), strict=True)])


def _cka_of_world(
    x: Float[Tensor, "item feature"], y: Float[Tensor, "item other_feature"]
) -> Float[Tensor, ""]:
    """Of one world at a time: products must not depend on the number of worlds."""
    x, y = x - x.mean(0), y - y.mean(0)
    between, of_x, of_y = ((a.T @ b).square().sum() for a, b in ((x, y), (x, x), (y, y)))
    return (between / (of_x * of_y).sqrt()).clamp(max=1.0).float()

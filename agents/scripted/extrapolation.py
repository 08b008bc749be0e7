"""Order-M extrapolation: the polynomial of degree M through the last M + 1 points, k steps ahead.

The next point makes the (M+1)-th difference zero,

    x_{t+1} = sum_{i=0..M} (-1)^(M-i) C(M+1, i) x_{t-M+i}

and k points follow by recursion (Qiu et al. 2024, arXiv 2406.20087). The result is a weighted sum
of the last M + 1 points, exact on polynomials of degree M. The variance of independent errors grows
by the sum of squared weights: for k = 1 by 1, 5, 19, 69 for M = 0 ... 3, in general
C(2M+2, M+1) - 1, and faster for larger k.
"""

from __future__ import annotations

import math


def one_step_weights(order: int) -> tuple[float, ...]:
    """Weights of the last `order + 1` points, oldest first, in the next point."""
    return tuple(float((-1) ** (order - i) * math.comb(order + 1, i)) for i in range(order + 1))


def extrapolation_weights(order: int, horizon: int) -> tuple[float, ...]:
    """Weights of the last `order + 1` points, oldest first, in the point `horizon` steps ahead."""
    step = one_step_weights(order)
    # Each observed or extrapolated point as weights of the observed points.
    rows = [[float(i == j) for j in range(order + 1)] for i in range(order + 1)]
    for _ in range(horizon):
        last = rows[-(order + 1) :]
        rows.append(
            [sum(c * row[j] for c, row in zip(step, last, strict=True)) for j in range(order + 1)]
        )
    return tuple(rows[-1])


def noise_gain(order: int, horizon: int) -> float:
    """Factor by which the variance of independent errors of the points grows."""
    return sum(weight * weight for weight in extrapolation_weights(order, horizon))

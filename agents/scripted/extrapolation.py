"""Order-M extrapolation: the polynomial of degree M through the last M + 1 points, k points on.

The next point is the one that makes the (M+1)-th difference vanish,

    x_{t+1} = sum_{i=0..M} (-1)^(M-i) C(M+1, i) x_{t-M+i}

and k of them are found one after another (Qiu et al. 2024, arXiv 2406.20087). All in all it is a
weighted sum of the last M + 1 points, exact on polynomials of degree M. Independent errors of the
points grow by the sum of squared weights: for one point 1, 5, 19, 69 for M = 0 ... 3, in general
C(2M+2, M+1) - 1; further on quickly more.
"""

from __future__ import annotations

import math


def one_step_weights(order: int) -> tuple[float, ...]:
    """Weights of the last `order + 1` points, the oldest first, in the next one."""
    return tuple(float((-1) ** (order - i) * math.comb(order + 1, i)) for i in range(order + 1))


def extrapolation_weights(order: int, horizon: int) -> tuple[float, ...]:
    """Weights of the last `order + 1` points, the oldest first, in the point `horizon` further on."""
    step = one_step_weights(order)
    # Each known or found point as weights of the known ones.
    rows = [[float(i == j) for j in range(order + 1)] for i in range(order + 1)]
    for _ in range(horizon):
        last = rows[-(order + 1) :]
        rows.append(
            [sum(c * row[j] for c, row in zip(step, last, strict=True)) for j in range(order + 1)]
        )
    return tuple(rows[-1])


def noise_gain(order: int, horizon: int) -> float:
    """By how much the variance of independent errors of the points grows."""
    return sum(weight * weight for weight in extrapolation_weights(order, horizon))

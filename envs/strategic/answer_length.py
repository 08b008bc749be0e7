"""Optimal lengths of answers: closed forms for two models of their value.

Saturating accuracy `A(n) = 1 - exp(-n / tau)`. A party that pays `c` for a unit of length wants
`n* = tau ln(1 / (c tau))` and nothing if `c >= 1 / tau`. With a user's reading cost and an
operator's price, linear welfare pays their mean; `sqrt(U L)` has no closed form, and the zero of
its derivative is found numerically.

Length windows of GTAlign (arXiv 2510.08872): `w sigmoid(k (n - low)) sigmoid(k (high - n))` less
`price n`. The window has its largest value in its middle. It is positive at length 0, and convex
below `low`. If `low` is far from 0, the optimum therefore jumps to 0 as the price rises. Between
two prices both the long answer and no answer are local optima: a learner that follows the gradient
stays where it started (hysteresis).

Under a reward that is linear in L, with a positive weight, the optimal expected number of words
does not rise with the price (revealed preference): that a perfect optimizer writes no more at
higher prices holds by construction. Under other rewards it does so for an answer whose accuracy
saturates, but not in general: if a request is vague with probability .55 and a turn costs .8,
Cobb-Douglas welfare is largest with an answer of 294 words at a price of .01 a hundred words, and
with an answer and a question, 426 words on average, at .02.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import brentq, minimize_scalar

from mores.envs.strategic.welfare_task import LengthWindow


def optimal_length(scale: float, cost: float) -> float:
    """Length with the largest `A(n) - cost n`, in the unit of `scale`."""
    return max(0.0, scale * math.log(1.0 / (cost * scale)))


def linear_length(scale: float, reading_cost: float, price: float) -> float:
    """Length with the largest mean of both utilities."""
    return optimal_length(scale, (reading_cost + price) / 2)


def length_utilities(
    length: float, scale: float, reading_cost: float, price: float
) -> tuple[float, float]:
    """Utilities `A(n) - cost n` of user and operator."""
    accuracy = 1.0 - math.exp(-length / scale)
    return accuracy - reading_cost * length, accuracy - price * length


def cobb_douglas_length(scale: float, reading_cost: float, price: float) -> float:
    """Length with the largest `sqrt(U L)` among those at which both gain.

    The logarithm is concave, so the zero of its derivative, between the optima of both, is unique.
    """

    def slope(length: float) -> float:
        user, assistant = length_utilities(length, scale, reading_cost, price)
        marginal = math.exp(-length / scale) / scale
        return (marginal - reading_cost) * assistant + (marginal - price) * user

    low, high = sorted((optimal_length(scale, reading_cost), optimal_length(scale, price)))
    if low == high:
        return low
    return float(brentq(slope, low, high, xtol=1e-12))  # type: ignore[arg-type]


class WindowPrices(NamedTuple):
    """Prices at which the optimal length under a window changes its kind.

    Attributes:
        zero_from: no answer is a local optimum from this price on: the slope at length 0.
        jump: the best answer and no answer are equally good.
        long_until: the long answer is a local optimum up to this price: the steepest slope.
        jump_length: length of the best answer at `jump`; 0: the length falls continuously.
    """

    zero_from: float
    jump: float
    long_until: float
    jump_length: float


def window_value(window: LengthWindow, length: float) -> float:
    """Reward of a length."""
    above = 1.0 + math.exp(window.steepness * (window.low - length))
    below = 1.0 + math.exp(window.steepness * (length - window.high))
    return window.weight / (above * below)


def window_slope(window: LengthWindow, length: float) -> float:
    """Derivative of the reward by length."""
    k = window.steepness
    above = 1.0 / (1.0 + math.exp(k * (length - window.low)))
    below = 1.0 / (1.0 + math.exp(k * (window.high - length)))
    return window_value(window, length) * k * (above - below)


def window_prices(window: LengthWindow) -> WindowPrices:
    """See `WindowPrices`."""
    middle = (window.low + window.high) / 2
    grid = np.linspace(0.0, middle, 20_001)[1:]
    start = window_value(window, 0.0)
    zero_from = window_slope(window, 0.0)

    def mean_slope(length: float) -> float:
        return (window_value(window, length) - start) / length

    def refine(function: Callable[[float], float]) -> tuple[float, float]:
        index = int(np.argmax([function(float(x)) for x in grid]))
        return _maximum(function, grid[max(index - 1, 0)], grid[min(index + 1, len(grid) - 1)])

    jump_length, jump = refine(mean_slope)
    _, steepest = refine(lambda length: window_slope(window, length))
    if jump <= zero_from or jump_length <= 2 * grid[0]:
        return WindowPrices(zero_from, zero_from, max(zero_from, steepest), 0.0)
    return WindowPrices(zero_from, jump, steepest, jump_length)


def optimal_window_length(window: LengthWindow, price: float) -> float:
    """Length with the largest window reward less `price` times length, by grid and refinement."""
    grid = np.linspace(0.0, window.high, 20_001)
    values = [window_value(window, float(n)) - price * n for n in grid]
    index = int(np.argmax(values))
    low, high = grid[max(index - 1, 0)], grid[min(index + 1, len(grid) - 1)]
    length, value = _maximum(lambda n: window_value(window, n) - price * n, low, high)
    return length if value > values[0] + 1e-15 else 0.0


def _maximum(function: Callable[[float], float], low: float, high: float) -> tuple[float, float]:
    """Place and value of the maximum of a function with one maximum in an interval."""
    options = {"xatol": 1e-12}
    bounds = (float(low), float(high))
    found: Any = minimize_scalar(
        lambda x: -function(x), bounds=bounds, method="bounded", options=options
    )
    return float(found.x), float(-found.fun)

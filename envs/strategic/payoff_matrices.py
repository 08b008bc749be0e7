"""Analysis of a 2 x 3 payoff matrix: equilibria, Pareto set, dominance, hypervolume, welfare.

A cell is a request of the user (definite, vague) and an act of the assistant, with the utilities
(user, assistant) of both. GTAlign (arXiv 2510.08872) lets a language model write such a matrix and
choose a cell. Three of its definitions are kept here under their own names, because they do not
measure what their names say; nothing else uses them:

    asymmetry_score          its reward `Pay` of a matrix counts cells whose utilities differ, right
                             or wrong: a true matrix with equal utilities gets 0
    signed_product_argmax    largest user times assistant: two losses beat two small gains
    reference_sum            its `hypervolume_2d`: rectangles overlap or are left out
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from mores.core.deterministic_sum import total
from mores.envs.strategic.bimatrix_games import Bimatrix, nash_equilibria

RELATIVE_DIFFERENCE = 0.1  # in GTAlign's Pay
Points = Float[np.ndarray, "point 2"]  # utilities (user, assistant)


class Anarchy(NamedTuple):
    """Welfare of equilibria compared with the best cell.

    Attributes:
        optimum: largest sum of both utilities of a cell.
        worst, best: smallest and largest sum in an equilibrium.
        price: optimum over worst; infinite if the worst is 0 or less.
    """

    optimum: float
    worst: float
    best: float
    price: float


def asymmetry_score(estimates: Float[Tensor, "*shape cell"]) -> Float[Tensor, "*shape"]:
    """GTAlign's reward `Pay` of six cells: 1/12 for unequal utilities, 1/12 if by over 10 %.

    The relative difference is `|a - b| / max(|a|, |b|)`.

    Args:
        estimates: utilities of assistant and user in turn, 12 numbers.
    """
    assistant, user = estimates[..., 0::2], estimates[..., 1::2]
    difference = (assistant - user).abs()
    larger = assistant.abs().maximum(user.abs())
    unequal = (difference > 0).to(estimates.dtype)
    clearly = (difference > RELATIVE_DIFFERENCE * larger).to(estimates.dtype)
    return total(unequal + clearly, -1) / 12


def pareto_set(points: Points) -> Bool[np.ndarray, " point"]:
    """Points that no other point dominates: at least as good for both, better for one."""
    as_good = (points[:, None] >= points).all(-1)  # first index: the dominating point
    better = (points[:, None] > points).any(-1)
    return np.asarray(~(as_good & better).any(0))


def epsilon_dominates(
    first: Float[np.ndarray, "a 2"], second: Float[np.ndarray, "b 2"], epsilon: float
) -> Bool[np.ndarray, "a b"]:
    """Which points of `first` are, up to `epsilon`, as good as which of `second` for both."""
    return np.asarray((first[:, None] >= second - epsilon).all(-1))


def epsilon_coverage(
    points: Float[np.ndarray, "a 2"], frontier: Float[np.ndarray, "b 2"], epsilon: float
) -> float:
    """Share of the points of a frontier that some point dominates up to `epsilon`."""
    return float(epsilon_dominates(points, frontier, epsilon).any(0).mean())


def hypervolume(points: Points, reference: tuple[float, float] = (0.0, 0.0)) -> float:
    """Area between the reference point and the points: exact, by strips of the Pareto set."""
    above = points[(points > np.array(reference)).all(1)]
    area, height = 0.0, reference[1]
    for user, assistant in sorted(map(tuple, above), reverse=True):
        if assistant > height:
            area += (user - reference[0]) * (assistant - height)
            height = assistant
    return area


def reference_sum(points: Points, reference: tuple[float, float] = (0.0, 0.0)) -> float:
    """GTAlign's `hypervolume_2d`: users descending, but steps of the user from the reference.

    Args:
        points: mutually nondominated. {(3, 1), (2, 2), (1, 3)} gives 3 in place of 6.
    """
    area, last = 0.0, reference[0]
    for user, assistant in sorted(map(tuple, points), reverse=True):
        area += max(0.0, user - last) * max(0.0, assistant - reference[1])
        last = max(last, user)
    return area


def signed_product_argmax(points: Points) -> int:
    """GTAlign's choice at inference: the largest product of signed utilities."""
    return int(np.argmax(points[:, 0] * points[:, 1]))


def nash_product_argmax(
    points: Points, disagreement: tuple[float, float] = (0.0, 0.0)
) -> int | None:
    """Cell with the largest product of gains among those in which nobody loses.

    Ties: the largest sum, then the larger utility of the user, as in GTAlign's prompt. None: in
    every cell a player is worse off than in disagreement.
    """
    gains = points - np.array(disagreement)
    rational = [index for index, gain in enumerate(gains) if (gain >= 0).all()]
    if not rational:
        return None

    def order(index: int) -> tuple[float, float, float]:
        user, assistant = gains[index].tolist()
        return user * assistant, user + assistant, user

    return max(rational, key=order)


def price_shift(points: Points, shift: float, shares: Sequence[float]) -> Points:
    """GTAlign's pricing at inference: the operator pays `shift` less, users get a share of it.

    Args:
        shares: share of each cell that reaches the user: 0 direct, 1 answer and ask, .5 clarify.
    """
    return points + shift * np.stack([np.asarray(shares, float), np.ones(len(points))], -1)


def pure_equilibria(bimatrix: Bimatrix) -> list[tuple[int, int]]:
    """Cells from which neither player gains alone, by enumeration; also of degenerate games."""
    rows, columns = np.array(bimatrix.row_payoffs), np.array(bimatrix.column_payoffs)
    stable = (rows >= rows.max(0)) & (columns >= columns.max(1, keepdims=True))
    return [(int(row), int(column)) for row, column in np.argwhere(stable)]


def anarchy(bimatrix: Bimatrix) -> Anarchy | None:
    """Price of anarchy over all equilibria, mixed ones too; None if the game is degenerate.

    Degenerate games may have a continuum of equilibria; `pure_equilibria` enumerates their pure
    ones.
    """
    equilibria = nash_equilibria(bimatrix)
    if equilibria is None:
        return None
    sums = [sum(each.payoffs) for each in equilibria]
    optimum, worst = 2 * bimatrix.max_mean_payoff, min(sums)
    price = optimum / worst if worst > 0 else float("inf")
    return Anarchy(optimum, worst, max(sums), price)

"""Zero-sum matrix games: value, exploitability, and the average of regret matching+.

M[i, j] is what the row player (defender) loses to the column player (attacker). The exploitability
of a pair of mixtures is the sum of what both gain by a best response,

    max_j (x' M)_j - min_i (M y)_i  >= 0,     0 if and only if (x, y) is an equilibrium.

The value x' M y does not identify an equilibrium: pairs far from one can have the game's value too.
Regret matching+ (Tammelin 2014, arXiv 1407.5042) converges in its average. The average has linear
weights, as in CFR+ there; but both players update simultaneously, where CFR+ alternates.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import linprog
from torch import Tensor

from mores.core.deterministic_sum import total


class ZeroSumSolution(NamedTuple):
    """Value, and optimal mixtures of both players."""

    value: float
    row: Float[np.ndarray, " row"]
    column: Float[np.ndarray, " column"]


class AverageMixtures(NamedTuple):
    """Averages over iterations of both players' mixtures, with weights 1, 2, 3 ..."""

    row: Float[Tensor, " row"]
    column: Float[Tensor, " column"]


def solve(losses: Float[np.ndarray, "row column"]) -> ZeroSumSolution:
    """Value and mixtures by one linear program; the column's mixture is its dual variables."""
    rows, columns = losses.shape
    solution = linprog(
        np.append(np.zeros(rows), 1.0),
        A_ub=np.column_stack([losses.T, -np.ones(columns)]),
        b_ub=np.zeros(columns),
        A_eq=np.append(np.ones(rows), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0, None)] * rows + [(None, None)],
        method="highs",
    )
    assert solution.success, solution.message
    return ZeroSumSolution(float(solution.fun), solution.x[:-1], -solution.ineqlin.marginals)


def exploitability(
    losses: Float[Tensor, "row column"],
    row: Float[Tensor, "*#batch row"],
    column: Float[Tensor, "*#batch column"],
) -> Float[Tensor, "*batch"]:
    """Sum of what both players gain by a best response to the other's mixture."""
    attacks = total(row[..., :, None] * losses, -2)
    defenses = total(losses * column[..., None, :], -1)
    return attacks.amax(-1) - defenses.amin(-1)


def regret_matching_plus(losses: Float[Tensor, "row column"], iterations: int) -> AverageMixtures:
    """Averages of the mixtures of simultaneous updates, from uniform ones.

    Args:
        losses: of the row player.
        iterations: at least 1.
    """
    assert iterations >= 1, "an average of no mixtures"
    rows, columns = losses.shape
    row_regret, column_regret = losses.new_zeros(rows), losses.new_zeros(columns)
    row_sum, column_sum = losses.new_zeros(rows), losses.new_zeros(columns)
    for weight in range(1, iterations + 1):
        row, column = _normalize(row_regret), _normalize(column_regret)
        row_sum, column_sum = row_sum + weight * row, column_sum + weight * column
        defenses, attacks = losses @ column, row @ losses
        row_regret = (row_regret + row @ defenses - defenses).clamp(min=0)
        column_regret = (column_regret + attacks - column @ attacks).clamp(min=0)
    return AverageMixtures(row_sum / row_sum.sum(), column_sum / column_sum.sum())


def _normalize(regret: Float[Tensor, " option"]) -> Float[Tensor, " option"]:
    """Mixture in proportion to positive regret; uniform if there is none."""
    amount = regret.sum()
    return regret / amount if amount > 0 else torch.full_like(regret, 1 / regret.numel())

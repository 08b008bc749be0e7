"""Bimatrix games: named payoff matrices, and all Nash equilibria of nondegenerate games.

A payoff matrix has one row per option of the first (row) player and one column per option of the
second (column) player. Option 0 is *cooperate* where the term applies.

Equilibria are computed by vertex enumeration (von Stengel 2002, Handbook of Game Theory 3, chapter
45). With payoffs A and B shifted above 0, the polytopes are `{x >= 0, B'x <= 1}` and
`{y >= 0, A y <= 1}`. A vertex has a label for each unused option (`x_i = 0`) and for each best
response to it (`(B'x)_j = 1`). Two vertices, except the pair of origins, whose labels are complete
together are an equilibrium after scaling to sum 1. If no vertex has more labels than dimensions,
these are all equilibria; otherwise the game is *degenerate* and may have a continuum of them.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mores.core.errors import ParameterError

PayoffMatrix = tuple[tuple[float, ...], ...]

GameName = Literal[
    "prisoners_dilemma",
    "stag_hunt",
    "chicken",
    "harmony",
    "deadlock",
    "coordination",
    "battle_of_the_sexes",
    "matching_pennies",
    "rock_paper_scissors",
]

MAX_OPTIONS = 100
MAX_SOLVED_OPTIONS = 6  # per player, for equilibria: up to 924 candidate vertices
TOLERANCE = 1e-9


class Bimatrix(NamedTuple):
    """Payoffs of row and column player, by row and column option."""

    row_payoffs: PayoffMatrix
    column_payoffs: PayoffMatrix

    @property
    def num_options(self) -> tuple[int, ...]:
        """Number of options of row and column player."""
        return len(self.row_payoffs), len(self.row_payoffs[0])

    @property
    def max_mean_payoff(self) -> float:
        """Largest mean payoff of both players of any joint action."""
        pairs = zip(self.row_payoffs, self.column_payoffs, strict=True)
        return max(a + b for rows in pairs for a, b in zip(*rows, strict=True)) / 2

    def payoffs(self, actions: Sequence[int]) -> Sequence[float]:
        """Payoffs of both players, by their options."""
        first, second = actions
        return self.row_payoffs[first][second], self.column_payoffs[first][second]

    def batch_payoffs(self, actions: Int[Tensor, "world 2"]) -> Float[Tensor, "world 2"]:
        """Payoffs of both players in many worlds."""
        return _payoff_tensor(self).to(actions.device)[:, actions[:, 0], actions[:, 1]].T


@functools.lru_cache(maxsize=256)
def _payoff_tensor(bimatrix: Bimatrix) -> Float[Tensor, "2 row column"]:
    return torch.tensor(bimatrix)


def symmetric_game(matrix: PayoffMatrix) -> Bimatrix:
    """Symmetric game; the matrix contains payoffs by own (row) and other's (column) option."""
    return Bimatrix(matrix, tuple(zip(*matrix, strict=True)))


def validate_payoffs(payoffs: Any) -> Any:
    """Payoffs as a name or as tuples of numbers.

    Args:
        payoffs: a name, a matrix or two matrices; rows may be lists.

    Raises:
        ParameterError: the value is not one of these.
    """
    if isinstance(payoffs, str):
        return payoffs
    payoffs = _as_tuples(payoffs)
    pair = _is_matrix_pair(payoffs)
    if pair and len(payoffs) != 2:
        raise ParameterError(
            message=f"needs two payoff matrices, of row and column player; given: {len(payoffs)}",
            code="wrong_shape",
        )
    matrices = payoffs if pair else (payoffs,)
    for matrix in matrices:
        if not isinstance(matrix, tuple) or not all(isinstance(row, tuple) for row in matrix):
            raise ParameterError(
                message="needs a name, a matrix (list of rows) or two matrices", code="wrong_type"
            )
        if len({len(row) for row in matrix}) > 1:
            raise ParameterError(
                message="rows of a payoff matrix must have equal lengths", code="wrong_shape"
            )
        if not all(2 <= len(part) <= MAX_OPTIONS for part in (matrix, *matrix)):
            raise ParameterError(
                message=f"a matrix must have 2 to {MAX_OPTIONS} rows and columns",
                code="wrong_shape",
            )
        for payoff in (payoff for row in matrix for payoff in row):
            if isinstance(payoff, bool) or not isinstance(payoff, (int, float)):
                raise ParameterError(
                    message=f"payoffs must be numbers, not {payoff!r:.40}", code="wrong_type"
                )
    if not pair and len(payoffs) != len(payoffs[0]):
        raise ParameterError(
            message="a single payoff matrix must be square; else give two", code="wrong_shape"
        )
    if len({(len(matrix), len(matrix[0])) for matrix in matrices}) > 1:
        raise ParameterError(
            message="both payoff matrices must have the same shape", code="wrong_shape"
        )
    return payoffs


def to_bimatrix(payoffs: str | PayoffMatrix | tuple[PayoffMatrix, PayoffMatrix]) -> Bimatrix:
    """Bimatrix of a named game, of one matrix (symmetric game) or of two."""
    if isinstance(payoffs, str):
        return NAMED_GAMES[payoffs]  # type: ignore[index]
    return Bimatrix(*payoffs) if _is_matrix_pair(payoffs) else symmetric_game(payoffs)  # type: ignore[arg-type]


def _as_tuples(value: Any) -> Any:
    """Nested lists as nested tuples."""
    return tuple(map(_as_tuples, value)) if isinstance(value, (list, tuple)) else value


def _is_matrix_pair(value: Any) -> bool:
    """Whether the value is a pair of matrices: their first elements are rows, not numbers."""
    for _ in range(2):
        value = value[0] if isinstance(value, tuple) and value else None
    return isinstance(value, tuple)


# Textbook payoffs; only their order determines the kind of game.
NAMED_GAMES: dict[GameName, Bimatrix] = {
    # Axelrod's: temptation 5, reward 3, punishment 1, sucker's payoff 0
    "prisoners_dilemma": symmetric_game(((3.0, 0.0), (5.0, 1.0))),
    "stag_hunt": symmetric_game(((4.0, 0.0), (3.0, 3.0))),  # options stag, hare
    "chicken": symmetric_game(((3.0, 1.0), (4.0, 0.0))),  # options swerve, straight
    "harmony": symmetric_game(((3.0, 1.0), (2.0, 0.0))),  # cooperation is dominant
    "deadlock": symmetric_game(((1.0, 0.0), (3.0, 2.0))),  # defection is dominant and efficient
    "coordination": symmetric_game(((1.0, 0.0), (0.0, 1.0))),
    "battle_of_the_sexes": Bimatrix(((3.0, 0.0), (0.0, 2.0)), ((2.0, 0.0), (0.0, 3.0))),
    "matching_pennies": Bimatrix(((1.0, -1.0), (-1.0, 1.0)), ((-1.0, 1.0), (1.0, -1.0))),
    "rock_paper_scissors": symmetric_game(((0.0, -1.0, 1.0), (1.0, 0.0, -1.0), (-1.0, 1.0, 0.0))),
}


class NashEquilibrium(NamedTuple):
    """Mixed strategies from which neither player gains by deviating.

    Attributes:
        row_strategy, column_strategy: probability of each option.
        payoffs: expected payoffs of both.
    """

    row_strategy: Float[np.ndarray, " option"]
    column_strategy: Float[np.ndarray, " option"]
    payoffs: tuple[float, float]

    @property
    def is_fully_mixed(self) -> bool:
        """Whether both strategies have full support."""
        return bool(
            (self.row_strategy > TOLERANCE).all() and (self.column_strategy > TOLERANCE).all()
        )


@functools.lru_cache(maxsize=256)
def nash_equilibria(bimatrix: Bimatrix) -> tuple[NashEquilibrium, ...] | None:
    """All equilibria of the one-shot game; None if it is degenerate or too large."""
    rows, columns = bimatrix.num_options
    if max(rows, columns) > MAX_SOLVED_OPTIONS:
        return None
    first, second = np.array(bimatrix.row_payoffs), np.array(bimatrix.column_payoffs)
    # labels: row option i is i, column option j is rows + j
    row_vertices = _labeled_vertices(_rescale(second).T, list(range(rows + columns)))
    column_labels = [*range(rows, rows + columns), *range(rows)]
    column_vertices = _labeled_vertices(_rescale(first), column_labels)
    if row_vertices is None or column_vertices is None:
        return None
    all_labels = frozenset(range(rows + columns))
    equilibria = []
    for labels, x in row_vertices.items():
        y = column_vertices.get(all_labels - labels)
        if y is None or not x.any() or not y.any():
            continue
        x, y = x / x.sum(), y / y.sum()
        equilibria.append(NashEquilibrium(x, y, (float(x @ first @ y), float(x @ second @ y))))
    return tuple(equilibria)


def critical_discount_factor(bimatrix: Bimatrix) -> float | None:
    """Smallest discount factor that sustains cooperation in a repeated prisoner's dilemma.

    Two grim triggers (grudgers) are an equilibrium if continuation probability times discount
    factor is at least `(T - R) / (T - P)`, the larger of both players'. None if the game is not a
    prisoner's dilemma, `T > R > P > S` for both players.
    """
    factors = []
    if bimatrix.num_options != (2, 2):
        return None
    for payoffs in (bimatrix.row_payoffs, tuple(zip(*bimatrix.column_payoffs, strict=True))):
        (reward, sucker), (temptation, punishment) = payoffs
        if not temptation > reward > punishment > sucker:
            return None
        factors.append((temptation - reward) / (temptation - punishment))
    return max(factors)


def _rescale(matrix: Float[np.ndarray, "row column"]) -> Float[np.ndarray, "row column"]:
    """Matrix rescaled to [1, 2]: equilibria are unchanged, and tolerances apply."""
    span = matrix.max() - matrix.min()
    return 1.0 + (matrix - matrix.min()) / (span if span > 0 else 1.0)


def _labeled_vertices(
    constraints: Float[np.ndarray, "reply option"], label_names: list[int]
) -> dict[frozenset[int], Float[np.ndarray, " option"]] | None:
    """Vertices of `{x >= 0, constraints x <= 1}` by their labels; None if degenerate.

    `label_names`: labels of the options, then of the constraints.
    """
    size = constraints.shape[1]
    sides = np.concatenate([-np.eye(size), constraints])
    limits = np.concatenate([np.zeros(size), np.ones(len(constraints))])
    vertices: dict[frozenset[int], np.ndarray] = {}
    for active in itertools.combinations(range(len(sides)), size):
        rows = list(active)
        if abs(np.linalg.det(sides[rows])) < TOLERANCE:
            continue
        vertex = np.linalg.solve(sides[rows], limits[rows])
        slack = limits - sides @ vertex
        if (slack < -TOLERANCE).any():
            continue
        labels = frozenset(label_names[i] for i in np.flatnonzero(slack < TOLERANCE))
        if len(labels) > size:
            return None
        vertices[labels] = np.where(slack[:size] < TOLERANCE, 0.0, vertex)
    return vertices

"""Games of two in one shot: their payoff tables by name, and all of their equilibria.

A table has a row for each option of the first and a column for each option of the second, and says
what one of them earns. Option 0 comes first; where the word fits at all, it is to *cooperate*.

Equilibria are found by enumerating vertices (von Stengel 2002, Handbook of Game Theory 3, chapter
45). With payoffs A and B shifted above 0, take the polytopes `{x >= 0, B'x <= 1}` and
`{y >= 0, A y <= 1}`. A vertex bears a label for each option it does not use (`x_i = 0`) and for
each best reply to it (`(B'x)_j = 1`). Two vertices, other than the two origins, that together bear
every label are an equilibrium once scaled to sum to 1. If no vertex bears more labels than it has
dimensions, these are all equilibria there are; else the game is *degenerate* and may have whole
lines of them.
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
MAX_SOLVED_OPTIONS = (
    6  # options a side, for equilibria: with 6 there are up to 924 vertices to look at
)
TOLERANCE = 1e-9


class Bimatrix(NamedTuple):
    """What the first and the second earn, by the option of the first and that of the second."""

    row_payoffs: PayoffMatrix
    column_payoffs: PayoffMatrix

    @property
    def num_options(self) -> tuple[int, ...]:
        """How many the first has, and the second."""
        return len(self.row_payoffs), len(self.row_payoffs[0])

    @property
    def max_mean_payoff(self) -> float:
        """The most that one earns on average, if both act for the sum."""
        pairs = zip(self.row_payoffs, self.column_payoffs, strict=True)
        return max(a + b for rows in pairs for a, b in zip(*rows, strict=True)) / 2

    def payoffs(self, actions: Sequence[int]) -> Sequence[float]:
        """Payoffs of both, by their options."""
        first, second = actions
        return self.row_payoffs[first][second], self.column_payoffs[first][second]

    def batch_payoffs(self, actions: Int[Tensor, "world 2"]) -> Float[Tensor, "world 2"]:
        """The same in many worlds."""
        return _payoff_tensor(self).to(actions.device)[:, actions[:, 0], actions[:, 1]].T


@functools.lru_cache(maxsize=256)
def _payoff_tensor(bimatrix: Bimatrix) -> Float[Tensor, "2 row column"]:
    return torch.tensor(bimatrix)


def symmetric_game(matrix: PayoffMatrix) -> Bimatrix:
    """The game of two who earn alike: the table says what one earns by own and other's option."""
    return Bimatrix(matrix, tuple(zip(*matrix, strict=True)))


def validate_payoffs(payoffs: Any) -> Any:
    """A name, or tables as rows of numbers, if they are those of a game.

    Args:
        payoffs: a name, a table, or two tables; lists will do for rows.

    Raises:
        ValueError: what is wrong with them.
    """
    if isinstance(payoffs, str):
        return payoffs
    payoffs = _as_tuples(payoffs)
    pair = _is_matrix_pair(payoffs)
    if pair and len(payoffs) != 2:
        raise ParameterError(
            message=f"two tables, of what the first and the second earn, not {len(payoffs)}",
            code="wrong_shape",
        )
    each = payoffs if pair else (payoffs,)
    for table in each:
        if not isinstance(table, tuple) or not all(isinstance(row, tuple) for row in table):
            raise ParameterError(
                message="a name, a table of payoffs row by row, or two tables", code="wrong_type"
            )
        if len({len(row) for row in table}) > 1:
            raise ParameterError(
                message="every row of a table has as many columns", code="wrong_shape"
            )
        if not all(2 <= len(part) <= MAX_OPTIONS for part in (table, *table)):
            raise ParameterError(
                message=f"a table has 2 to {MAX_OPTIONS} rows and columns", code="wrong_shape"
            )
        for payoff in (payoff for row in table for payoff in row):
            if isinstance(payoff, bool) or not isinstance(payoff, (int, float)):
                raise ParameterError(
                    message=f"payoffs are numbers, not {payoff!r:.40}", code="wrong_type"
                )
    if not pair and len(payoffs) != len(payoffs[0]):
        raise ParameterError(
            message="a table of two who earn alike is square; else give two tables",
            code="wrong_shape",
        )
    if len({(len(table), len(table[0])) for table in each}) > 1:
        raise ParameterError(
            message="both tables have as many rows and columns", code="wrong_shape"
        )
    return payoffs


def to_bimatrix(payoffs: str | PayoffMatrix | tuple[PayoffMatrix, PayoffMatrix]) -> Bimatrix:
    """The tables of a game by its name, from one table (both earn alike), or from two."""
    if isinstance(payoffs, str):
        return NAMED_GAMES[payoffs]  # type: ignore[index]
    return Bimatrix(*payoffs) if _is_matrix_pair(payoffs) else symmetric_game(payoffs)  # type: ignore[arg-type]


def _as_tuples(value: Any) -> Any:
    """Lists in lists as tuples in tuples."""
    return tuple(map(_as_tuples, value)) if isinstance(value, (list, tuple)) else value


def _is_matrix_pair(value: Any) -> bool:
    """Two tables, and not one: what stands first in the first row is a row itself."""
    for _ in range(2):
        value = value[0] if isinstance(value, tuple) and value else None
    return isinstance(value, tuple)


# Payoffs are those that textbooks use for the shape of the game; only their order matters to it.
NAMED_GAMES: dict[GameName, Bimatrix] = {
    # Axelrod's: temptation 5, reward 3, punishment 1, sucker's payoff 0
    "prisoners_dilemma": symmetric_game(((3.0, 0.0), (5.0, 1.0))),
    "stag_hunt": symmetric_game(((4.0, 0.0), (3.0, 3.0))),  # stag, hare
    "chicken": symmetric_game(((3.0, 1.0), (4.0, 0.0))),  # swerve, straight on
    "harmony": symmetric_game(
        ((3.0, 1.0), (2.0, 0.0))
    ),  # to cooperate is best whatever the other does
    "deadlock": symmetric_game(((1.0, 0.0), (3.0, 2.0))),  # to defect is, and for both together
    "coordination": symmetric_game(((1.0, 0.0), (0.0, 1.0))),
    "battle_of_the_sexes": Bimatrix(((3.0, 0.0), (0.0, 2.0)), ((2.0, 0.0), (0.0, 3.0))),
    "matching_pennies": Bimatrix(((1.0, -1.0), (-1.0, 1.0)), ((-1.0, 1.0), (1.0, -1.0))),
    "rock_paper_scissors": symmetric_game(((0.0, -1.0, 1.0), (1.0, 0.0, -1.0), (-1.0, 1.0, 0.0))),
}


class NashEquilibrium(NamedTuple):
    """Probabilities of both sides' options from which neither gains by departing.

    Attributes:
        row_strategy, column_strategy: probability of each option.
        payoffs: what they earn on average.
    """

    row_strategy: Float[np.ndarray, " option"]
    column_strategy: Float[np.ndarray, " option"]
    payoffs: tuple[float, float]

    @property
    def is_fully_mixed(self) -> bool:
        """Whether both use all of their options."""
        return bool(
            (self.row_strategy > TOLERANCE).all() and (self.column_strategy > TOLERANCE).all()
        )


@functools.lru_cache(maxsize=256)
def nash_equilibria(bimatrix: Bimatrix) -> tuple[NashEquilibrium, ...] | None:
    """All equilibria of the game played once; none where it is degenerate or too large."""
    rows, columns = bimatrix.num_options
    if max(rows, columns) > MAX_SOLVED_OPTIONS:
        return None
    first, second = np.array(bimatrix.row_payoffs), np.array(bimatrix.column_payoffs)
    # labels: option i of the first is i, option j of the second is rows + j
    of_first = _labeled_vertices(_rescale(second).T, list(range(rows + columns)))
    of_second = _labeled_vertices(_rescale(first), [*range(rows, rows + columns), *range(rows)])
    if of_first is None or of_second is None:
        return None
    every = frozenset(range(rows + columns))
    found = []
    for labels, x in of_first.items():
        y = of_second.get(every - labels)
        if y is None or not x.any() or not y.any():
            continue
        x, y = x / x.sum(), y / y.sum()
        found.append(NashEquilibrium(x, y, (float(x @ first @ y), float(x @ second @ y))))
    return tuple(found)


def critical_discount_factor(bimatrix: Bimatrix) -> float | None:
    """How much the future must count for cooperation to last in a prisoner's dilemma.

    Two who never forgive a defection (grudgers) are an equilibrium from `(T - R) / (T - P)` on, the
    probability of another round times the discount of its payoff; the larger of both sides'. None
    where the game is no prisoner's dilemma, `T > R > P > S` for both.
    """
    needed = []
    if bimatrix.num_options != (2, 2):
        return None
    for mine in (bimatrix.row_payoffs, tuple(zip(*bimatrix.column_payoffs, strict=True))):
        (reward, sucker), (temptation, punishment) = mine
        if not temptation > reward > punishment > sucker:
            return None
        needed.append((temptation - reward) / (temptation - punishment))
    return max(needed)


def _rescale(matrix: Float[np.ndarray, "row column"]) -> Float[np.ndarray, "row column"]:
    """The table moved and scaled into [1, 2]: equilibria stay, tolerances fit."""
    span = matrix.max() - matrix.min()
    return 1.0 + (matrix - matrix.min()) / (span if span > 0 else 1.0)


def _labeled_vertices(
    constraints: Float[np.ndarray, "reply option"], label_names: list[int]
) -> dict[frozenset[int], Float[np.ndarray, " option"]] | None:
    """Vertices of `{x >= 0, replies x <= 1}` by their labels; none if one has too many of them.

    `label_names`: labels of the options, then of the replies.
    """
    size = constraints.shape[1]
    sides = np.concatenate([-np.eye(size), constraints])
    limits = np.concatenate([np.zeros(size), np.ones(len(constraints))])
    found: dict[frozenset[int], np.ndarray] = {}
    for tight in itertools.combinations(range(len(sides)), size):
        chosen = list(tight)
        if abs(np.linalg.det(sides[chosen])) < TOLERANCE:
            continue
        vertex = np.linalg.solve(sides[chosen], limits[chosen])
        slack = limits - sides @ vertex
        if (slack < -TOLERANCE).any():
            continue
        labels = frozenset(label_names[i] for i in np.flatnonzero(slack < TOLERANCE))
        if len(labels) > size:
            return None
        found[labels] = np.where(slack[:size] < TOLERANCE, 0.0, vertex)
    return found

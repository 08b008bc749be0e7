"""What simple strategies come to against each other, and the best that can be done against them.

A strategy that is an *automaton* is in one of a few inner places. In each it cooperates with a
fixed probability, and what both did takes it to the next. Several of them at a table are a Markov
chain over their joint places, whose first `T` rounds are computed exactly:

    w_1 = (1, 0, ...), w_(t+1) = w_t M, expected payoff in round t: w_t . u

Against automata, one more player has a Markov decision process over *their* places. The most that
it can expect to earn in `T` rounds, knowing the places, is by backward induction

    V_0 = 0, V_T = max_a (u_a + c M_a V_(T-1))

with `c` the probability that another round follows.
"""

from __future__ import annotations

import collections
import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

MOST_PLACES = 512  # joint, and
MOST_WAYS = 2**18  # ways on from all of them: beyond this nothing is computed
ALMOST = 1e-6  # shares of others are rounded

Acts = tuple[int, ...]
Place = tuple[int, ...]  # the inner place of every automaton
Earned = Callable[[Acts], Sequence[float]]


@runtime_checkable
class Automaton(Protocol):
    """How a strategy moves between its inner places; it begins in place 0."""

    @property
    def chance(self) -> tuple[float, ...]:
        """Probability of cooperating (option 0, else the last option) in each place."""
        ...

    @property
    def after(self) -> tuple[tuple[int, int, int, int], ...]:
        """The place after each: both cooperated, only it did, only the others, nobody."""
        ...

    @property
    def threshold(self) -> float:
        """Share of the others' cooperation from which on the others cooperated."""
        ...


Seated = tuple[Automaton | None, ...]  # who sits where; none: somebody else


@runtime_checkable
class Scripted(Protocol):
    """A player whose seats are automata, all or some."""

    def automata(self, seats: int) -> tuple[Seated, ...] | None:
        """Who sits where in world 0, 1, ... of a replicate, until that repeats itself."""
        ...


class Joint(NamedTuple):
    """Automata at one table, and at most one seat that is free.

    Attributes:
        move: probability of going from place to place, for each option of the free seat; one
            option that says nothing where no seat is free.
        pay: what each seat earns on average from a place on.
        cooperation: probability that each seat takes option 0 there.
    """

    move: Float[np.ndarray, "option place place"]
    pay: Float[np.ndarray, "option place seat"]
    cooperation: Float[np.ndarray, "option place seat"]


class Course(NamedTuple):
    """What is expected of each seat in each round, the first one first."""

    pay: Float[np.ndarray, "round seat"]
    cooperation: Float[np.ndarray, "round seat"]


def joint(
    seated: Seated, options: Sequence[int], earned: Earned, trembles: float = 0.0
) -> Joint | None:
    """The chain over joint places; none where there are too many of them.

    Args:
        seated: the automaton of each seat; `None` for the free one.
        options: how many options each seat has.
        earned: payoffs of all seats by the options that they take.
        trembles: probability that a seat does any other option than it meant.
    """
    free = [seat for seat, automaton in enumerate(seated) if automaton is None]
    if len(free) > 1:
        return None
    choices = range(options[free[0]]) if free else range(1)
    places: dict[Place, int] = {tuple(0 for a in seated if a is not None): 0}
    ways: list[tuple[int, int, int, float, Acts]] = []
    queue = collections.deque(places)
    while queue:
        place = queue.popleft()
        for choice in choices:
            each = _each(seated, place, options, choice, trembles)
            if len(ways) + math.prod(map(len, each)) > MOST_WAYS:
                return None
            for way in itertools.product(*each):
                acts = tuple(act for act, _ in way)
                chance = math.prod(chance for _, chance in way)
                after = _after(seated, place, acts, options)
                if after not in places:
                    places[after] = len(places)
                    queue.append(after)
                ways.append((choice, places[place], places[after], chance, acts))
            if len(places) > MOST_PLACES:
                return None
    size = (len(choices), len(places))
    move, pay, cooperation = (np.zeros((*size, n)) for n in (len(places), len(seated), len(seated)))
    for choice, here, there, chance, acts in ways:
        move[choice, here, there] += chance
        pay[choice, here] += chance * np.asarray(earned(acts), dtype=np.float64)
        cooperation[choice, here] += chance * (np.asarray(acts) == 0)
    return Joint(move, pay, cooperation)


def course(table: Joint, rounds: int) -> Course:
    """What automata do and earn round by round; no seat may be free."""
    assert len(table.move) == 1, "a free seat decides for itself"
    weight = np.eye(len(table.move[0]))[0]
    pay, cooperation = (np.empty((rounds, table.pay.shape[2])) for _ in range(2))
    for played in range(rounds):
        pay[played], cooperation[played] = weight @ table.pay[0], weight @ table.cooperation[0]
        weight = weight @ table.move[0]
    return Course(pay, cooperation)


def best_return(
    table: Joint, seat: int, rounds: int, continuation: float
) -> Float[np.ndarray, " round"]:
    """The most that the free seat can expect in 0 to `rounds` rounds: sum of its payoffs."""
    value, found = np.zeros(table.move.shape[1]), np.zeros(rounds + 1)
    for left in range(1, rounds + 1):
        worth = table.pay[:, :, seat] + continuation * (table.move @ value)
        value = worth.max(0)
        found[left] = value[0]
    return found


def summed(
    each: Float[np.ndarray, "round seat"], continuation: float
) -> Float[np.ndarray, "round_1 seat"]:
    """Expected sum so far after 0, 1, ... rounds, when every next one may be the last."""
    reached = continuation ** np.arange(len(each))
    return np.concatenate([np.zeros((1, each.shape[1])), (reached[:, None] * each).cumsum(0)])


def averaged(
    each: Float[np.ndarray, "round seat"], continuation: float
) -> Float[np.ndarray, "round_1 seat"]:
    """Expected mean a round so far; none before the first. Worlds that ended keep theirs."""
    rounds = np.arange(1, len(each) + 1)
    mean = each.cumsum(0) / rounds[:, None]
    reached = continuation ** (rounds - 1)  # probability of a round
    ended = (1.0 - continuation) * reached[:, None] * mean  # by those that it is the last for
    before = np.concatenate([np.zeros((1, each.shape[1])), ended.cumsum(0)[:-1]])
    return np.concatenate([np.full((1, each.shape[1]), math.nan), before + reached[:, None] * mean])


def _each(
    seated: Seated, place: Place, options: Sequence[int], choice: int, trembles: float
) -> list[list[tuple[int, float]]]:
    """What each seat may do from a joint place, and how probable that is."""
    inner, each = iter(place), []
    for automaton, many in zip(seated, options, strict=True):
        meant = np.zeros(many)
        if automaton is None:
            meant[choice] = 1.0
        else:
            meant[0] = automaton.chance[next(inner)]
            meant[-1] = 1.0 - meant[0]
        done = (1.0 - trembles) * meant + trembles * (1.0 - meant) / (many - 1)
        each.append([(act, float(p)) for act, p in enumerate(done) if p > 0])
    return each


def _after(seated: Seated, place: Place, acts: Acts, options: Sequence[int]) -> Place:
    """The next joint place."""
    last = max(options) - 1
    given = [1.0 - act / last for act in acts]
    everything, inner, moved = math.fsum(given), iter(place), []
    for seat, automaton in enumerate(seated):
        if automaton is not None:
            others = (everything - given[seat]) / (len(seated) - 1)
            defected = others < automaton.threshold - ALMOST
            moved.append(automaton.after[next(inner)][2 * (acts[seat] != 0) + defected])
    return tuple(moved)

"""What theory says of a repeated matrix game: played once, repeated, and among named strategies."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from mores.envs.strategic import automaton_chains
from mores.envs.strategic.automaton_chains import Scripted, Seated
from mores.envs.strategic.bimatrix_games import Tables, equilibria, lasting
from mores.envs.strategic.public_goods import PublicGoods

SHOWN = 16  # seats of which predictions are made one by one
SOLVED = frozenset(
    {
        "best",
        "equilibrium_low",
        "equilibrium_high",
        "equilibrium_cooperation",
        "mixed_payoff",
        "mixed_cooperation",
        *(f"best_{what}[{seat}]" for what in ("return", "payoff") for seat in range(SHOWN)),
    }
)


Rules = Tables | PublicGoods


class Chance(NamedTuple):
    """Probability that another round follows, and that somebody does not do what was meant."""

    continuation: float
    trembles: float


def length(continuation: float, rounds: int) -> Float[np.ndarray, " round"]:
    """Expected number of rounds played, after 0 to `rounds`."""
    return automaton_chains.summed(np.ones((rounds, 1)), continuation)[:, 0]


def once(rules: Rules) -> dict[str, float]:
    """Equilibria of the game played once."""
    if isinstance(rules, PublicGoods):
        return _public_goods(rules)
    found: dict[str, float] = {}
    if (needed := lasting(rules)) is not None:
        found["lasting"] = needed
    every = equilibria(rules)
    if not every:
        return found
    means = [math.fsum(e.payoffs) / 2 for e in every]
    found |= {
        "equilibria": float(len(every)),
        "equilibrium_low": min(means),
        "equilibrium_high": max(means),
    }
    for equilibrium, payoff in zip(every, means, strict=True):
        cooperation = float(equilibrium.first[0] + equilibrium.second[0]) / 2
        if len(every) == 1:
            found["equilibrium_cooperation"] = cooperation
        if equilibrium.mixed:
            found |= {"mixed_payoff": payoff, "mixed_cooperation": cooperation}
    return found


def _public_goods(rules: PublicGoods) -> dict[str, float]:
    """What is best for oneself is so whatever the others do."""
    if rules.gives is None:
        return {}  # everything is an equilibrium
    payoff = rules.endowment * (rules.multiplier if rules.gives else 1.0)
    return {
        "equilibria": 1.0,
        "equilibrium_low": payoff,
        "equilibrium_high": payoff,
        "equilibrium_cooperation": float(rules.gives),
    }


def repeated(
    rules: Rules, player: Any, rounds: int, chance: Chance
) -> dict[str, Float[np.ndarray, " round"]]:
    """What strategies come to among themselves, and the best that one more can do against them."""
    seats = len(rules.options)
    worlds = player.automata(seats) if isinstance(player, Scripted) else None
    if worlds is None:
        return {}
    each = [_of_world(rules, seated, rounds, chance) for seated in worlds]
    known = set.intersection(*(set(found) for found in each))
    return {name: np.mean([found[name] for found in each], 0) for name in sorted(known)}


@functools.lru_cache(maxsize=1024)
def _of_world(
    rules: Rules, seated: Seated, rounds: int, chance: Chance
) -> dict[str, Float[np.ndarray, " round"]]:
    found: dict[str, np.ndarray] = {}
    if all(automaton is not None for automaton in seated):
        table = automaton_chains.joint(seated, rules.options, rules.earned, chance.trembles)
        if table is None:
            return {}
        found |= _expected(automaton_chains.course(table, rounds), chance.continuation)
    for seat in range(min(len(seated), SHOWN)):
        others = (*seated[:seat], None, *seated[seat + 1 :])
        table = automaton_chains.joint(others, rules.options, rules.earned, chance.trembles)
        if table is not None:
            best = automaton_chains.best_return(table, seat, rounds, chance.continuation)
            found[f"best_return[{seat}]"] = best
            if chance.continuation == 1:
                found[f"best_payoff[{seat}]"] = np.append(
                    math.nan, best[1:] / np.arange(1, rounds + 1)
                )
    return found


def _expected(course: automaton_chains.Course, continuation: float) -> dict[str, np.ndarray]:
    """By the names of the measures."""
    payoffs = automaton_chains.averaged(course.pay, continuation)
    cooperations = automaton_chains.averaged(course.cooperation, continuation)
    returns = automaton_chains.summed(course.pay, continuation)
    found = {"payoff": payoffs.mean(1), "cooperation": cooperations.mean(1)}
    for seat in range(min(payoffs.shape[1], SHOWN)):
        found[f"payoffs[{seat}]"] = payoffs[:, seat]
        found[f"cooperations[{seat}]"] = cooperations[:, seat]
        found[f"returns[{seat}]"] = returns[:, seat]
    return found

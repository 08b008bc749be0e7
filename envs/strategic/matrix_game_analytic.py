"""What theory says of a repeated matrix game: played once, repeated, and among named strategies."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from mores.envs.strategic import automaton_chains
from mores.envs.strategic.automaton_chains import AgentAutomata, AutomatonPolicy
from mores.envs.strategic.bimatrix_games import Bimatrix, critical_discount_factor, nash_equilibria
from mores.envs.strategic.public_goods import PublicGoods

MAX_LISTED_AGENTS = 16  # seats of which predictions are made one by one
SOLVER_VALUES = frozenset(
    {
        "max_mean_payoff",
        "worst_equilibrium_payoff",
        "best_equilibrium_payoff",
        "equilibrium_cooperation_rate",
        "mixed_equilibrium_payoff",
        "mixed_equilibrium_cooperation_rate",
        *(
            f"best_response_{what}[{seat}]"
            for what in ("return", "payoff")
            for seat in range(MAX_LISTED_AGENTS)
        ),
    }
)


PayoffRule = Bimatrix | PublicGoods


class RepetitionProbabilities(NamedTuple):
    """Probability that another round follows, and that somebody does not do what was meant."""

    continuation_probability: float
    tremble_probability: float


def expected_length(continuation_probability: float, rounds: int) -> Float[np.ndarray, " round"]:
    """Expected number of rounds played, after 0 to `rounds`."""
    return automaton_chains.expected_sums(np.ones((rounds, 1)), continuation_probability)[:, 0]


def one_shot_values(payoff_rule: PayoffRule) -> dict[str, float]:
    """Equilibria of the game played once."""
    if isinstance(payoff_rule, PublicGoods):
        return _public_goods_values(payoff_rule)
    found: dict[str, float] = {}
    if (needed := critical_discount_factor(payoff_rule)) is not None:
        found["critical_discount_factor"] = needed
    every = nash_equilibria(payoff_rule)
    if not every:
        return found
    means = [math.fsum(e.payoffs) / 2 for e in every]
    found |= {
        "num_equilibria": float(len(every)),
        "worst_equilibrium_payoff": min(means),
        "best_equilibrium_payoff": max(means),
    }
    for equilibrium, payoff in zip(every, means, strict=True):
        cooperation = float(equilibrium.row_strategy[0] + equilibrium.column_strategy[0]) / 2
        if len(every) == 1:
            found["equilibrium_cooperation_rate"] = cooperation
        if equilibrium.is_fully_mixed:
            found |= {"mixed_equilibrium_payoff": payoff, "mixed_equilibrium_cooperation_rate": cooperation}
    return found


def _public_goods_values(payoff_rule: PublicGoods) -> dict[str, float]:
    """What is best for oneself is so whatever the others do."""
    if payoff_rule.giving_dominates is None:
        return {}  # everything is an equilibrium
    payoff = payoff_rule.endowment * (
        payoff_rule.multiplier if payoff_rule.giving_dominates else 1.0
    )
    return {
        "num_equilibria": 1.0,
        "worst_equilibrium_payoff": payoff,
        "best_equilibrium_payoff": payoff,
        "equilibrium_cooperation_rate": float(payoff_rule.giving_dominates),
    }


def repeated_game_values(
    payoff_rule: PayoffRule, policy: Any, rounds: int, probabilities: RepetitionProbabilities
) -> dict[str, Float[np.ndarray, " round"]]:
    """What strategies come to among themselves, and the best that one more can do against them."""
    seats = len(payoff_rule.num_options)
    worlds = policy.automata_by_world(seats) if isinstance(policy, AutomatonPolicy) else None
    if worlds is None:
        return {}
    each = [_world_values(payoff_rule, seated, rounds, probabilities) for seated in worlds]
    known = set.intersection(*(set(found) for found in each))
    return {name: np.mean([found[name] for found in each], 0) for name in sorted(known)}


@functools.lru_cache(maxsize=1024)
def _world_values(
    payoff_rule: PayoffRule,
    agent_automata: AgentAutomata,
    rounds: int,
    probabilities: RepetitionProbabilities,
) -> dict[str, Float[np.ndarray, " round"]]:
    found: dict[str, np.ndarray] = {}
    if all(automaton is not None for automaton in agent_automata):
        table = automaton_chains.joint_chain(
            agent_automata,
            payoff_rule.num_options,
            payoff_rule.payoffs,
            probabilities.tremble_probability,
        )
        if table is None:
            return {}
        found |= _expected_metrics(
            automaton_chains.expected_play(table, rounds), probabilities.continuation_probability
        )
    for seat in range(min(len(agent_automata), MAX_LISTED_AGENTS)):
        others = (*agent_automata[:seat], None, *agent_automata[seat + 1 :])
        table = automaton_chains.joint_chain(
            others, payoff_rule.num_options, payoff_rule.payoffs, probabilities.tremble_probability
        )
        if table is not None:
            best = automaton_chains.best_response_return(
                table, seat, rounds, probabilities.continuation_probability
            )
            found[f"best_response_return[{seat}]"] = best
            if probabilities.continuation_probability == 1:
                found[f"best_response_payoff[{seat}]"] = np.append(
                    math.nan, best[1:] / np.arange(1, rounds + 1)
                )
    return found


def _expected_metrics(
    play: automaton_chains.ExpectedPlay, continuation_probability: float
) -> dict[str, np.ndarray]:
    """By the names of the measures."""
    payoffs = automaton_chains.expected_means(play.payoff, continuation_probability)
    cooperations = automaton_chains.expected_means(
        play.cooperation_probability, continuation_probability
    )
    returns = automaton_chains.expected_sums(play.payoff, continuation_probability)
    found = {"mean_payoff": payoffs.mean(1), "cooperation_rate": cooperations.mean(1)}
    for seat in range(min(payoffs.shape[1], MAX_LISTED_AGENTS)):
        found[f"mean_payoff_by_agent[{seat}]"] = payoffs[:, seat]
        found[f"cooperation_rate_by_agent[{seat}]"] = cooperations[:, seat]
        found[f"return_by_agent[{seat}]"] = returns[:, seat]
    return found

"""Analytic values of matrix games: one-shot, repeated, and between automata."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from mores.core.analytic_policies import AgentAutomata, AutomatonPolicy
from mores.envs.strategic import automaton_chains
from mores.envs.strategic.bimatrix_games import Bimatrix, critical_discount_factor, nash_equilibria
from mores.envs.strategic.public_goods import PublicGoods

MAX_LISTED_AGENTS = 16  # agents with individual analytic values
SOLVER_VALUES = frozenset(
    {
        "max_mean_payoff",
        "worst_equilibrium_payoff",
        "best_equilibrium_payoff",
        "equilibrium_cooperation_rate",
        "mixed_equilibrium_payoff",
        "mixed_equilibrium_cooperation_rate",
        *(
            f"best_response_{quantity}[{agent}]"
            for quantity in ("return", "payoff")
            for agent in range(MAX_LISTED_AGENTS)
        ),
    }
)


PayoffRule = Bimatrix | PublicGoods


class RepetitionProbabilities(NamedTuple):
    """Probabilities of continuation after a round, and of another than the intended option."""

    continuation_probability: float
    tremble_probability: float


def expected_length(continuation_probability: float, rounds: int) -> Float[np.ndarray, " round"]:
    """Expected number of rounds, limited to 0 ... `rounds`."""
    return automaton_chains.expected_sums(np.ones((rounds, 1)), continuation_probability)[:, 0]


def one_shot_values(payoff_rule: PayoffRule) -> dict[str, float]:
    """Equilibria of the one-shot game."""
    if isinstance(payoff_rule, PublicGoods):
        return _public_goods_values(payoff_rule)
    values: dict[str, float] = {}
    if (factor := critical_discount_factor(payoff_rule)) is not None:
        values["critical_discount_factor"] = factor
    equilibria = nash_equilibria(payoff_rule)
    if not equilibria:
        return values
    means = [math.fsum(e.payoffs) / 2 for e in equilibria]
    values |= {
        "num_equilibria": float(len(equilibria)),
        "worst_equilibrium_payoff": min(means),
        "best_equilibrium_payoff": max(means),
    }
    for equilibrium, payoff in zip(equilibria, means, strict=True):
        cooperation = float(equilibrium.row_strategy[0] + equilibrium.column_strategy[0]) / 2
        if len(equilibria) == 1:
            values["equilibrium_cooperation_rate"] = cooperation
        if equilibrium.is_fully_mixed:
            values["mixed_equilibrium_payoff"] = payoff
            values["mixed_equilibrium_cooperation_rate"] = cooperation
    return values


def _public_goods_values(payoff_rule: PublicGoods) -> dict[str, float]:
    """Equilibrium in dominant strategies."""
    if payoff_rule.giving_dominates is None:
        return {}  # every joint action is an equilibrium
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
    """Expectations of metrics between automata, and best responses; means over worlds."""
    agents = len(payoff_rule.num_options)
    worlds = policy.automata_by_world(agents) if isinstance(policy, AutomatonPolicy) else None
    if worlds is None:
        return {}
    by_world = [_world_values(payoff_rule, world, rounds, probabilities) for world in worlds]
    names = set.intersection(*(set(values) for values in by_world))
    return {name: np.mean([values[name] for values in by_world], 0) for name in sorted(names)}


@functools.lru_cache(maxsize=1024)
def _world_values(
    payoff_rule: PayoffRule,
    agent_automata: AgentAutomata,
    rounds: int,
    probabilities: RepetitionProbabilities,
) -> dict[str, Float[np.ndarray, " round"]]:
    values: dict[str, np.ndarray] = {}
    setting = (payoff_rule.num_options, payoff_rule.payoffs, probabilities.tremble_probability)
    continuation = probabilities.continuation_probability
    if all(automaton is not None for automaton in agent_automata):
        chain = automaton_chains.joint_chain(agent_automata, *setting)
        if chain is None:
            return {}
        play = automaton_chains.expected_play(chain, rounds)
        values |= _expected_metrics(play, continuation)
    for agent in range(min(len(agent_automata), MAX_LISTED_AGENTS)):
        others = (*agent_automata[:agent], None, *agent_automata[agent + 1 :])
        chain = automaton_chains.joint_chain(others, *setting)
        if chain is not None:
            best = automaton_chains.best_response_return(chain, agent, rounds, continuation)
            values[f"best_response_return[{agent}]"] = best
            if continuation == 1:
                payoff = np.append(math.nan, best[1:] / np.arange(1, rounds + 1))
                values[f"best_response_payoff[{agent}]"] = payoff
    return values


def _expected_metrics(
    play: automaton_chains.ExpectedPlay, continuation_probability: float
) -> dict[str, np.ndarray]:
    """Expectations of metrics, by name."""
    payoffs = automaton_chains.expected_means(play.payoff, continuation_probability)
    cooperation = automaton_chains.expected_means(
        play.cooperation_probability, continuation_probability
    )
    returns = automaton_chains.expected_sums(play.payoff, continuation_probability)
    metrics = {"mean_payoff": payoffs.mean(1), "cooperation_rate": cooperation.mean(1)}
    for agent in range(min(payoffs.shape[1], MAX_LISTED_AGENTS)):
        metrics[f"mean_payoff_by_agent[{agent}]"] = payoffs[:, agent]
        metrics[f"cooperation_rate_by_agent[{agent}]"] = cooperation[:, agent]
        metrics[f"return_by_agent[{agent}]"] = returns[:, agent]
    return metrics

"""Exact expected payoffs of finite automata in repeated games, and best responses to them.

An *automaton* is a strategy with a finite number of states. In each state it cooperates with a
fixed probability; its own action and the mean cooperation of the others determine the next state.
If all agents are automata, their joint states form a Markov chain with transition matrix M and
expected payoffs u by state, whose first `T` rounds are computed exactly:

    w_1 = (1, 0, ...), w_(t+1) = w_t M, expected payoff in round t: w_t . u

with w_t the distribution over joint states. If one agent, the *free agent*, follows no automaton,
it has a Markov decision process over the joint states of the others. Its largest expected return in
`T` rounds, if it observes the states, follows by backward induction over its actions a,

    V_0 = 0, V_T = max_a (u_a + c M_a V_(T-1))

with `c` the continuation probability.
"""

from __future__ import annotations

import collections
import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mores.core.analytic_policies import AgentAutomata

# Larger chains are not computed.
MAX_JOINT_STATES = 512
MAX_TRANSITIONS = 2**18
COOPERATION_TOLERANCE = 1e-6  # for rounding of mean cooperation

JointAction = tuple[int, ...]
JointState = tuple[int, ...]  # state of every automaton
PayoffFunction = Callable[[JointAction], Sequence[float]]


class JointChain(NamedTuple):
    """Markov chain of the automata of one world; a decision process if there is a free agent.

    Attributes:
        transition: transition probabilities, by option of the free agent; one dummy option without
            a free agent.
        expected_payoff: expected payoff of each agent in the next round.
        cooperation_probability: probability that each agent takes option 0.
    """

    transition: Float[np.ndarray, "option state state"]
    expected_payoff: Float[np.ndarray, "option state agent"]
    cooperation_probability: Float[np.ndarray, "option state agent"]


class ExpectedPlay(NamedTuple):
    """Expected payoff and probability of cooperation of each agent in each round."""

    payoff: Float[np.ndarray, "round agent"]
    cooperation_probability: Float[np.ndarray, "round agent"]


def joint_chain(
    agent_automata: AgentAutomata,
    num_options: Sequence[int],
    payoffs: PayoffFunction,
    tremble_probability: float = 0.0,
) -> JointChain | None:
    """Chain over joint states; None if it is too large or more than one agent is free.

    Args:
        agent_automata: automaton of each agent; None for the free agent.
        num_options: number of options of each agent.
        payoffs: payoffs of all agents by their options.
        tremble_probability: probability that another than the intended option is taken.
    """
    free = [agent for agent, automaton in enumerate(agent_automata) if automaton is None]
    if len(free) > 1:
        return None
    options = range(num_options[free[0]]) if free else range(1)
    indices: dict[JointState, int] = {tuple(0 for a in agent_automata if a is not None): 0}
    transitions: list[tuple[int, int, int, float, JointAction]] = []
    queue = collections.deque(indices)
    while queue:
        state = queue.popleft()
        for option in options:
            distributions = _action_distributions(
                agent_automata, state, num_options, option, tremble_probability
            )
            if len(transitions) + math.prod(map(len, distributions)) > MAX_TRANSITIONS:
                return None
            for outcome in itertools.product(*distributions):
                actions = tuple(action for action, _ in outcome)
                probability = math.prod(p for _, p in outcome)
                next_state = _next_state(agent_automata, state, actions, num_options)
                if next_state not in indices:
                    indices[next_state] = len(indices)
                    queue.append(next_state)
                start, end = indices[state], indices[next_state]
                transitions.append((option, start, end, probability, actions))
            if len(indices) > MAX_JOINT_STATES:
                return None
    size, agents = (len(options), len(indices)), len(agent_automata)
    transition, payoff, cooperation = (np.zeros((*size, n)) for n in (size[1], agents, agents))
    for option, start, end, probability, actions in transitions:
        transition[option, start, end] += probability
        payoff[option, start] += probability * np.asarray(payoffs(actions), dtype=np.float64)
        cooperation[option, start] += probability * (np.asarray(actions) == 0)
    return JointChain(transition, payoff, cooperation)


def expected_play(chain: JointChain, rounds: int) -> ExpectedPlay:
    """Expected payoffs and cooperation by round, of a chain without a free agent."""
    assert len(chain.transition) == 1, "the chain has a free agent"
    distribution = np.eye(len(chain.transition[0]))[0]
    payoff, cooperation = (np.empty((rounds, chain.expected_payoff.shape[2])) for _ in range(2))
    for elapsed in range(rounds):
        payoff[elapsed] = distribution @ chain.expected_payoff[0]
        cooperation[elapsed] = distribution @ chain.cooperation_probability[0]
        distribution = distribution @ chain.transition[0]
    return ExpectedPlay(payoff, cooperation)


def best_response_return(
    chain: JointChain, agent: int, rounds: int, continuation_probability: float
) -> Float[np.ndarray, " round"]:
    """Largest expected return of the free agent, for 0, 1, ... `rounds` rounds."""
    value, returns = np.zeros(chain.transition.shape[1]), np.zeros(rounds + 1)
    for remaining in range(1, rounds + 1):
        next_value = continuation_probability * (chain.transition @ value)
        value = (chain.expected_payoff[:, :, agent] + next_value).max(0)
        returns[remaining] = value[0]
    return returns


def expected_sums(
    values: Float[np.ndarray, "round agent"], continuation_probability: float
) -> Float[np.ndarray, "round_1 agent"]:
    """Expected sum after 0, 1, ... rounds with random termination."""
    survival = continuation_probability ** np.arange(len(values))
    return np.concatenate([np.zeros((1, values.shape[1])), (survival[:, None] * values).cumsum(0)])


def expected_means(
    values: Float[np.ndarray, "round agent"], continuation_probability: float
) -> Float[np.ndarray, "round_1 agent"]:
    """Expected mean per round so far; NaN before the first round.

    A world that has terminated keeps the mean that it had then.
    """
    rounds = np.arange(1, len(values) + 1)
    mean = values.cumsum(0) / rounds[:, None]
    survival = continuation_probability ** (rounds - 1)  # probability that a round is simulated
    # Probability of termination after each round, times the mean until then.
    terminated = (1.0 - continuation_probability) * survival[:, None] * mean
    earlier = np.concatenate([np.zeros((1, values.shape[1])), terminated.cumsum(0)[:-1]])
    undefined = np.full((1, values.shape[1]), math.nan)
    return np.concatenate([undefined, earlier + survival[:, None] * mean])


def _action_distributions(
    agent_automata: AgentAutomata,
    state: JointState,
    num_options: Sequence[int],
    free_action: int,
    tremble_probability: float,
) -> list[list[tuple[int, float]]]:
    """Possible actions of each agent in a joint state, with their probabilities."""
    states, distributions = iter(state), []
    for automaton, size in zip(agent_automata, num_options, strict=True):
        intended = np.zeros(size)
        if automaton is None:
            intended[free_action] = 1.0
        else:
            intended[0] = automaton.cooperation_probabilities[next(states)]
            intended[-1] = 1.0 - intended[0]
        unintended = tremble_probability * (1.0 - intended) / (size - 1)
        actual = (1.0 - tremble_probability) * intended + unintended
        distributions.append([(action, float(p)) for action, p in enumerate(actual) if p > 0])
    return distributions


def _next_state(
    agent_automata: AgentAutomata,
    state: JointState,
    actions: JointAction,
    num_options: Sequence[int],
) -> JointState:
    """Next joint state."""
    last = max(num_options) - 1
    cooperation = [1.0 - action / last for action in actions]
    total, states, next_states = math.fsum(cooperation), iter(state), []
    for agent, automaton in enumerate(agent_automata):
        if automaton is not None:
            others = (total - cooperation[agent]) / (len(agent_automata) - 1)
            defected = others < automaton.threshold - COOPERATION_TOLERANCE
            outcome = 2 * (actions[agent] != 0) + defected
            next_states.append(automaton.transitions[next(states)][outcome])
    return tuple(next_states)

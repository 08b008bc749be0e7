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

MAX_JOINT_STATES = 512  # joint, and
MAX_TRANSITIONS = 2**18  # ways on from all of them: beyond this nothing is computed
SHARE_TOLERANCE = 1e-6  # shares of others are rounded

JointAction = tuple[int, ...]
JointState = tuple[int, ...]  # the inner place of every automaton
PayoffFunction = Callable[[JointAction], Sequence[float]]


@runtime_checkable
class AutomatonProtocol(Protocol):
    """How a strategy moves between its inner places; it begins in place 0."""

    @property
    def cooperation_probabilities(self) -> tuple[float, ...]:
        """Probability of cooperating (option 0, else the last option) in each place."""
        ...

    @property
    def transitions(self) -> tuple[tuple[int, int, int, int], ...]:
        """The place after each: both cooperated, only it did, only the others, nobody."""
        ...

    @property
    def threshold(self) -> float:
        """Share of the others' cooperation from which on the others cooperated."""
        ...


AgentAutomata = tuple[AutomatonProtocol | None, ...]  # who sits where; none: somebody else


@runtime_checkable
class AutomatonPolicy(Protocol):
    """A player whose seats are automata, all or some."""

    def automata_by_world(self, num_agents: int) -> tuple[AgentAutomata, ...] | None:
        """Who sits where in world 0, 1, ... of a replicate, until that repeats itself."""
        ...


class JointChain(NamedTuple):
    """Automata at one table, and at most one seat that is free.

    Attributes:
        transition: probability of going from place to place, for each option of the free seat; one
            option that says nothing where no seat is free.
        expected_payoff: what each seat earns on average from a place on.
        cooperation_probability: probability that each seat takes option 0 there.
    """

    transition: Float[np.ndarray, "option place place"]
    expected_payoff: Float[np.ndarray, "option place seat"]
    cooperation_probability: Float[np.ndarray, "option place seat"]


class ExpectedPlay(NamedTuple):
    """What is expected of each seat in each round, the first one first."""

    payoff: Float[np.ndarray, "round seat"]
    cooperation_probability: Float[np.ndarray, "round seat"]


def joint_chain(
    agent_automata: AgentAutomata,
    num_options: Sequence[int],
    payoffs: PayoffFunction,
    tremble_probability: float = 0.0,
) -> JointChain | None:
    """The chain over joint places; none where there are too many of them.

    Args:
        agent_automata: the automaton of each seat; `None` for the free one.
        num_options: how many options each seat has.
        payoffs: payoffs of all seats by the options that they take.
        tremble_probability: probability that a seat does any other option than it meant.
    """
    free = [seat for seat, automaton in enumerate(agent_automata) if automaton is None]
    if len(free) > 1:
        return None
    choices = range(num_options[free[0]]) if free else range(1)
    places: dict[JointState, int] = {tuple(0 for a in agent_automata if a is not None): 0}
    ways: list[tuple[int, int, int, float, JointAction]] = []
    queue = collections.deque(places)
    while queue:
        place = queue.popleft()
        for choice in choices:
            each = _action_distributions(
                agent_automata, place, num_options, choice, tremble_probability
            )
            if len(ways) + math.prod(map(len, each)) > MAX_TRANSITIONS:
                return None
            for way in itertools.product(*each):
                acts = tuple(act for act, _ in way)
                chance = math.prod(chance for _, chance in way)
                after = _next_state(agent_automata, place, acts, num_options)
                if after not in places:
                    places[after] = len(places)
                    queue.append(after)
                ways.append((choice, places[place], places[after], chance, acts))
            if len(places) > MAX_JOINT_STATES:
                return None
    size = (len(choices), len(places))
    move, pay, cooperation = (
        np.zeros((*size, n)) for n in (len(places), len(agent_automata), len(agent_automata))
    )
    for choice, here, there, chance, acts in ways:
        move[choice, here, there] += chance
        pay[choice, here] += chance * np.asarray(payoffs(acts), dtype=np.float64)
        cooperation[choice, here] += chance * (np.asarray(acts) == 0)
    return JointChain(move, pay, cooperation)


def expected_play(chain: JointChain, rounds: int) -> ExpectedPlay:
    """What automata do and earn round by round; no seat may be free."""
    assert len(chain.transition) == 1, "a free seat decides for itself"
    weight = np.eye(len(chain.transition[0]))[0]
    pay, cooperation = (np.empty((rounds, chain.expected_payoff.shape[2])) for _ in range(2))
    for played in range(rounds):
        pay[played], cooperation[played] = (
            weight @ chain.expected_payoff[0],
            weight @ chain.cooperation_probability[0],
        )
        weight = weight @ chain.transition[0]
    return ExpectedPlay(pay, cooperation)


def best_response_return(
    chain: JointChain, agent: int, rounds: int, continuation_probability: float
) -> Float[np.ndarray, " round"]:
    """The most that the free seat can expect in 0 to `rounds` rounds: sum of its payoffs."""
    value, found = np.zeros(chain.transition.shape[1]), np.zeros(rounds + 1)
    for left in range(1, rounds + 1):
        worth = chain.expected_payoff[:, :, agent] + continuation_probability * (
            chain.transition @ value
        )
        value = worth.max(0)
        found[left] = value[0]
    return found


def expected_sums(
    values: Float[np.ndarray, "round seat"], continuation_probability: float
) -> Float[np.ndarray, "round_1 seat"]:
    """Expected sum so far after 0, 1, ... rounds, when every next one may be the last."""
    reached = continuation_probability ** np.arange(len(values))
    return np.concatenate([np.zeros((1, values.shape[1])), (reached[:, None] * values).cumsum(0)])


def expected_means(
    values: Float[np.ndarray, "round seat"], continuation_probability: float
) -> Float[np.ndarray, "round_1 seat"]:
    """Expected mean a round so far; none before the first. Worlds that ended keep theirs."""
    rounds = np.arange(1, len(values) + 1)
    mean = values.cumsum(0) / rounds[:, None]
    reached = continuation_probability ** (rounds - 1)  # probability of a round
    ended = (
        (1.0 - continuation_probability) * reached[:, None] * mean
    )  # by those that it is the last for
    before = np.concatenate([np.zeros((1, values.shape[1])), ended.cumsum(0)[:-1]])
    return np.concatenate(
        [np.full((1, values.shape[1]), math.nan), before + reached[:, None] * mean]
    )


def _action_distributions(
    agent_automata: AgentAutomata,
    state: JointState,
    num_options: Sequence[int],
    free_action: int,
    tremble_probability: float,
) -> list[list[tuple[int, float]]]:
    """What each seat may do from a joint place, and how probable that is."""
    inner, each = iter(state), []
    for automaton, many in zip(agent_automata, num_options, strict=True):
        meant = np.zeros(many)
        if automaton is None:
            meant[free_action] = 1.0
        else:
            meant[0] = automaton.cooperation_probabilities[next(inner)]
            meant[-1] = 1.0 - meant[0]
        done = (1.0 - tremble_probability) * meant + tremble_probability * (1.0 - meant) / (
            many - 1
        )
        each.append([(act, float(p)) for act, p in enumerate(done) if p > 0])
    return each


def _next_state(
    agent_automata: AgentAutomata,
    state: JointState,
    actions: JointAction,
    num_options: Sequence[int],
) -> JointState:
    """The next joint place."""
    last = max(num_options) - 1
    given = [1.0 - act / last for act in actions]
    everything, inner, moved = math.fsum(given), iter(state), []
    for seat, automaton in enumerate(agent_automata):
        if automaton is not None:
            others = (everything - given[seat]) / (len(agent_automata) - 1)
            defected = others < automaton.threshold - SHARE_TOLERANCE
            moved.append(automaton.transitions[next(inner)][2 * (actions[seat] != 0) + defected])
    return tuple(moved)

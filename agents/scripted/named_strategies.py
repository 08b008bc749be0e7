"""Named strategies for repeated games, each as a small automaton.

An automaton has a few states, numbered from 0. In each it cooperates with a fixed probability; the
next state depends on its own action and the other's. The probabilities of a *memory-one* strategy
are those of cooperating after both cooperated, only it, only the other, or neither:
`p_CC, p_CD, p_DC, p_DD`.

| name | behavior | source |
|---|---|---|
| cooperator, full_contributor | cooperates | |
| defector, free_rider | defects | |
| random | cooperates with probability 1/2 | |
| alternator | cooperates, defects, cooperates, ... | |
| tit_for_tat | cooperates, then repeats the other's last action | Axelrod 1984 |
| suspicious_tit_for_tat | the same, but defects first | Boyd 1987 |
| tit_for_two_tats | defects after two defections in a row | Axelrod 1984 |
| generous_tit_for_tat | tit for tat that forgives a defection with probability 1/3 | Nowak 1992 |
| grudger | cooperates until the other defects once, then defects | Friedman 1971 |
| win_stay_lose_shift | repeats its action if the other cooperated, else switches | Nowak 1993 |
| extort_2 | memory-one 8/9, 1/2, 1/3, 0: its payoff above 1 is twice the other's | Stewart 2012 |
| conditional_cooperator | cooperates first, then if enough others cooperated | Fischbacher 2001 |
| memory_one | given by `cooperation_probabilities` | |

Generosity of one third and the probabilities of `extort_2` belong to payoffs 5, 3, 1, 0
(temptation, reward, punishment, sucker's payoff). With several others, *the other cooperated* means
that all of them did, or half of them for a conditional cooperator.

Axelrod 1984, The Evolution of Cooperation; Boyd and Lorberbaum 1987, Nature 327, 58; Fischbacher,
Gaechter and Fehr 2001, Economics Letters 71, 397; Friedman 1971, Review of Economic Studies 38, 1;
Nowak and Sigmund 1992, Nature 355, 250, and 1993, Nature 364, 56; Stewart and Plotkin 2012, PNAS
109, 10134.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

# Next state after: both cooperated, only it, only the others, neither.
NextStates = tuple[int, int, int, int]
MemoryOneProbabilities = tuple[float, float, float, float]

UNANIMITY = 1.0


@dataclasses.dataclass(frozen=True)
class StrategyAutomaton:
    """A strategy as a finite automaton.

    Attributes:
        cooperation_probabilities: probability of cooperating in each state.
        transitions: next states of each state.
        threshold: share of cooperating others from which on they count as cooperating.
    """

    cooperation_probabilities: tuple[float, ...]
    transitions: tuple[NextStates, ...]
    threshold: float = UNANIMITY

    @property
    def uses_history(self) -> bool:
        """Whether transitions depend on actions."""
        return any(len(set(states)) > 1 for states in self.transitions)

    def with_noise(self, noise_probability: float) -> StrategyAutomaton:
        """The same strategy where each action is flipped with this probability."""
        probabilities = tuple(
            p * (1.0 - noise_probability) + (1.0 - p) * noise_probability
            for p in self.cooperation_probabilities
        )
        return dataclasses.replace(self, cooperation_probabilities=probabilities)


def _constant(cooperation_probability: float) -> StrategyAutomaton:
    return StrategyAutomaton((cooperation_probability,), ((0, 0, 0, 0),))


def _tit_for_tat(
    initial_cooperation_probability: float, threshold: float = UNANIMITY
) -> StrategyAutomaton:
    """Repeats the other's action; the first action has its own probability."""
    return StrategyAutomaton(
        (initial_cooperation_probability, 1.0, 0.0), ((1, 2, 1, 2),) * 3, threshold
    )


def memory_one(
    cooperation_probabilities: MemoryOneProbabilities, initial_cooperation_probability: float = 1.0
) -> StrategyAutomaton:
    """A strategy that depends on the last round alone: state 0, then one state per outcome.

    Args:
        cooperation_probabilities: after both cooperated, only it, only the other, neither.
        initial_cooperation_probability: in the first round.
    """
    return StrategyAutomaton(
        (initial_cooperation_probability, *cooperation_probabilities), ((1, 2, 3, 4),) * 5
    )


STRATEGIES: Mapping[str, StrategyAutomaton] = {
    "cooperator": _constant(1.0),
    "full_contributor": _constant(1.0),
    "defector": _constant(0.0),
    "free_rider": _constant(0.0),
    "random": _constant(0.5),
    "alternator": StrategyAutomaton((1.0, 0.0), ((1, 1, 1, 1), (0, 0, 0, 0))),
    "tit_for_tat": _tit_for_tat(1.0),
    "suspicious_tit_for_tat": _tit_for_tat(0.0),
    "conditional_cooperator": _tit_for_tat(1.0, threshold=0.5),
    "tit_for_two_tats": StrategyAutomaton(
        (1.0, 1.0, 0.0), ((0, 1, 0, 1), (0, 2, 0, 2), (0, 2, 0, 2))
    ),
    "generous_tit_for_tat": memory_one((1.0, 1 / 3, 1.0, 1 / 3)),
    "grudger": StrategyAutomaton((1.0, 0.0), ((0, 1, 0, 1), (1, 1, 1, 1))),
    "win_stay_lose_shift": memory_one((1.0, 0.0, 0.0, 1.0)),
    "extort_2": memory_one((8 / 9, 1 / 2, 1 / 3, 0.0)),
}
MEMORY_ONE = "memory_one"  # the strategy whose probabilities are parameters

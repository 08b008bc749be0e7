"""Named strategies for repeated games, each as a small automaton.

An automaton is in one of a few inner places, from 0 on. In each it cooperates with a fixed
probability; then it goes on by what it did itself and what the other did. Chances of a *memory-one*
strategy are those of cooperating after both cooperated, only it did, only the other did, nobody
did: `p_CC, p_CD, p_DC, p_DD`.

| name | what it does | from |
|---|---|---|
| cooperator, full_contributor | cooperates | |
| defector, free_rider | defects | |
| random | tosses a coin | |
| alternator | cooperates, defects, cooperates, ... | |
| tit_for_tat | cooperates, then does what the other did | Axelrod 1984 |
| suspicious_tit_for_tat | the same, but defects first | Boyd 1987 |
| tit_for_two_tats | defects after two defections in a row | Axelrod 1984 |
| generous_tit_for_tat | tit for tat that forgives one defection in three | Nowak 1992 |
| grudger | cooperates until the other defects once, then never again | Friedman 1971 |
| win_stay_lose_shift | Pavlov: as before if the other cooperated, else the opposite | Nowak 1993 |
| extort_2 | memory-one 8/9, 1/2, 1/3, 0: gains twice what the other gains over 1 | Stewart 2012 |
| conditional_cooperator | cooperates first, then if enough others did | Fischbacher 2001 |
| memory_one | the `cooperation_probabilities` that it is given | |

Generosity of one third and the chances of `extort_2` belong to payoffs 5, 3, 1, 0 (temptation,
reward, punishment, sucker's payoff). With more than one other, *the other cooperated* means that
all of them did, or for a conditional cooperator half of them.

Axelrod 1984, The Evolution of Cooperation; Boyd and Lorberbaum 1987, Nature 327, 58; Fischbacher,
Gaechter and Fehr 2001, Economics Letters 71, 397; Friedman 1971, Review of Economic Studies 38, 1;
Nowak and Sigmund 1992, Nature 355, 250, and 1993, Nature 364, 56; Stewart and Plotkin 2012, PNAS
109, 10134.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

NextStates = tuple[
    int, int, int, int
]  # if both cooperated, only I did, only the others did, nobody did
MemoryOneProbabilities = tuple[float, float, float, float]

UNANIMITY = 1.0


@dataclasses.dataclass(frozen=True)
class StrategyAutomaton:
    """A strategy.

    Attributes:
        cooperation_probabilities: probability of cooperating in each place.
        transitions: the next place, for each place.
        threshold: share of the others' cooperation from which on the others cooperated.
    """

    cooperation_probabilities: tuple[float, ...]
    transitions: tuple[NextStates, ...]
    threshold: float = UNANIMITY

    @property
    def uses_history(self) -> bool:
        """Whether it matters what anybody did."""
        return any(len(set(after)) > 1 for after in self.transitions)

    def with_noise(self, noise_probability: float) -> StrategyAutomaton:
        """The same where each act is, with this probability, the opposite of what was meant."""
        chance = tuple(
            p * (1.0 - noise_probability) + (1.0 - p) * noise_probability
            for p in self.cooperation_probabilities
        )
        return dataclasses.replace(self, cooperation_probabilities=chance)


def _constant(cooperation_probability: float) -> StrategyAutomaton:
    return StrategyAutomaton((cooperation_probability,), ((0, 0, 0, 0),))


def _tit_for_tat(
    initial_cooperation_probability: float, threshold: float = UNANIMITY
) -> StrategyAutomaton:
    """Does what the other did; the first act with a probability of its own."""
    return StrategyAutomaton(
        (initial_cooperation_probability, 1.0, 0.0), ((1, 2, 1, 2),) * 3, threshold
    )


def memory_one(
    cooperation_probabilities: MemoryOneProbabilities, initial_cooperation_probability: float = 1.0
) -> StrategyAutomaton:
    """A strategy that goes by the last round alone: place 0 before it, then one for each outcome.

    Args:
        cooperation_probabilities: of cooperating after both cooperated, only I did, only the other did, nobody did.
        initial_cooperation_probability: of cooperating in the first round.
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
MEMORY_ONE = "memory_one"  # the name of those whose chances are parameters

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
| memory_one | the `chances` that it is given | |

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

Next = tuple[int, int, int, int]  # if both cooperated, only I did, only the others did, nobody did
Chances = tuple[float, float, float, float]

ALL = 1.0


@dataclasses.dataclass(frozen=True)
class Automaton:
    """A strategy.

    Attributes:
        chance: probability of cooperating in each place.
        after: the next place, for each place.
        threshold: share of the others' cooperation from which on the others cooperated.
    """

    chance: tuple[float, ...]
    after: tuple[Next, ...]
    threshold: float = ALL

    @property
    def looks(self) -> bool:
        """Whether it matters what anybody did."""
        return any(len(set(after)) > 1 for after in self.after)

    def slipping(self, noise: float) -> Automaton:
        """The same where each act is, with this probability, the opposite of what was meant."""
        chance = tuple(p * (1.0 - noise) + (1.0 - p) * noise for p in self.chance)
        return dataclasses.replace(self, chance=chance)


def _steady(chance: float) -> Automaton:
    return Automaton((chance,), ((0, 0, 0, 0),))


def _answering(first: float, threshold: float = ALL) -> Automaton:
    """Does what the other did; the first act with a probability of its own."""
    return Automaton((first, 1.0, 0.0), ((1, 2, 1, 2),) * 3, threshold)


def memory_one(chances: Chances, first: float = 1.0) -> Automaton:
    """A strategy that goes by the last round alone: place 0 before it, then one for each outcome.

    Args:
        chances: of cooperating after both cooperated, only I did, only the other did, nobody did.
        first: of cooperating in the first round.
    """
    return Automaton((first, *chances), ((1, 2, 3, 4),) * 5)


NAMED: Mapping[str, Automaton] = {
    "cooperator": _steady(1.0),
    "full_contributor": _steady(1.0),
    "defector": _steady(0.0),
    "free_rider": _steady(0.0),
    "random": _steady(0.5),
    "alternator": Automaton((1.0, 0.0), ((1, 1, 1, 1), (0, 0, 0, 0))),
    "tit_for_tat": _answering(1.0),
    "suspicious_tit_for_tat": _answering(0.0),
    "conditional_cooperator": _answering(1.0, threshold=0.5),
    "tit_for_two_tats": Automaton((1.0, 1.0, 0.0), ((0, 1, 0, 1), (0, 2, 0, 2), (0, 2, 0, 2))),
    "generous_tit_for_tat": memory_one((1.0, 1 / 3, 1.0, 1 / 3)),
    "grudger": Automaton((1.0, 0.0), ((0, 1, 0, 1), (1, 1, 1, 1))),
    "win_stay_lose_shift": memory_one((1.0, 0.0, 0.0, 1.0)),
    "extort_2": memory_one((8 / 9, 1 / 2, 1 / 3, 0.0)),
}
GIVEN = "memory_one"  # the name of those whose chances are parameters

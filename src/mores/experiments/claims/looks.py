"""Looks: the verdicts on a claim that is judged again after its data grew.

Whoever adds replicates until a claim holds, and takes a 95 % interval each time, accepts a false
claim more often than with one interval. Look k therefore uses the level

    1 - .05 / 2^(k - 1):    95 %, 97.5 %, 98.75 %, ...

A false claim with a bound on one side (`above`, `below`, an end of `within`) holds at look k with
a probability of at most half of .05 / 2^(k - 1), and so at any of its looks with at most .05 (the
union bound: alpha spending by halves). `differs_from` can hold falsely beyond both of its ends: its
first look spends .05, and all looks together at most .10. Both assume that the numbers of
replicates do not depend on the results, as if they are doubled; docs/explanation/intervals.md has
the rates, and the largest if they do.

A look counts if the data of the claim changed since its last verdict, by their digest: claims whose
cells were not extended keep their look and their verdict. Claims without an interval have no looks:
exact ones, which must hold in every replicate, and reports, which have no verdict. The values of
cells that drew no random number are certain; more of them are no new data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mores.experiments.claims.claim_estimates import ClaimData
from mores.experiments.results.run_manifest import EarlierLook
from mores.experiments.scenario.specification import Claim

MAX_HALVINGS = 30  # a level must be below 1; later looks add less than 1e-10 each
ORDINALS = ("first", "second", "third", "fourth", "fifth")


class Look(NamedTuple):
    """How often a claim was judged.

    Attributes:
        number: 1 for the first verdict, one more for each on other data.
        data: digest of the data.
        earlier: the verdicts before this look, the oldest first.
    """

    number: int = 1
    data: str = ""
    earlier: tuple[EarlierLook, ...] = ()


FIRST_LOOK = Look()


def has_looks(claim: Claim) -> bool:
    """Whether the verdict on a claim rests on an interval."""
    return claim.bound is not None and not claim.checks_every_replicate


def level_at_look(level: float, look: int) -> float:
    """Level of the interval at a look, of a claim that has `level` at the first."""
    return level if look == 1 else 1.0 - (1.0 - level) / 2 ** min(look - 1, MAX_HALVINGS)


def largest_false_rate(claim: Claim, look: int, alpha: float = 0.05) -> float:
    """Largest probability that a false claim holds at any look up to this one.

    Args:
        claim: the claim.
        look: number of the look.
        alpha: 1 minus the level of the first look.
    """
    one_side = alpha * (1.0 - 0.5**look)
    both_sides = claim.bound is not None and claim.bound.differs_from is not None
    return 2.0 * one_side if both_sides else one_side


def current_look(claim: Claim, index: int, data: str, earlier_looks: Sequence[EarlierLook]) -> Look:
    """The look at a claim with this data.

    Args:
        claim: the claim.
        index: its index in the scenario.
        data: digest of its data.
        earlier_looks: looks at all claims of the run before it was last extended, oldest first.
    """
    earlier = tuple(look for look in earlier_looks if look.claim == index)
    if not earlier or not has_looks(claim):
        return Look(1, data)
    if earlier[-1].data == data:
        return Look(earlier[-1].look, data, earlier[:-1])
    return Look(earlier[-1].look + 1, data, earlier)


def data_digest(points: Sequence[tuple[ClaimData, ClaimData | None]]) -> str:
    """Digest of a claim's data and of those of its ablation, at all points."""
    digest = hashlib.blake2b(digest_size=16)
    for each in (data for pair in points for data in pair):
        if each is None:
            digest.update(b"no ablation")
            continue
        values = [np.atleast_1d(np.asarray(each.values, dtype=np.float64))]
        if each.comparison is not None:
            values.append(np.atleast_1d(np.asarray(each.comparison, dtype=np.float64)))
        if each.deterministic and all((array == array[0]).all() for array in values):
            values = [array[:1] for array in values]
        for array in values:
            digest.update(f"{len(array)} numbers".encode() + array.astype("<f8").tobytes())
    return digest.hexdigest()


def describe_look(claim: Claim, look: Look, level: float) -> str:
    """Sentence on a look after the first; empty for the first.

    Args:
        claim: the claim.
        look: the look.
        level: the level of its interval.
    """
    if look.number == 1:
        return ""
    before = ", ".join(f"{each.verdict} with n = {each.n}" for each in look.earlier)
    rate = 100.0 * largest_false_rate(claim, MAX_HALVINGS)
    return (
        f"{ordinal(look.number)} look (before: {before}): the interval has a level of "
        f"{100.0 * level:.6g} %, so that a false claim holds at any of its looks in at most "
        f"{rate:.0f} % of experiments"
    )


def ordinal(number: int) -> str:
    """`second` for 2; beyond five `6th`."""
    return ORDINALS[number - 1] if number <= len(ORDINALS) else f"{number}th"

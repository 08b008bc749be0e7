"""Looks: repeated verdicts on a claim as its data grow, and the levels of their intervals.

A look is one analysis of the data collected so far (a term of group sequential tests). If
replicates are added until a claim holds, with a 95 % interval each time, a false claim holds more
often than with one interval. Look k therefore uses the level

    1 - .05 / 2^(k - 1):    95 %, 97.5 %, 98.75 %, ...

A false claim with a bound on one side (`above`, `below`, an end of `within`) holds at look k with
probability at most .05 / 2^k, half of alpha, and at any look with probability at most .05 (union
bound). A false claim `differs_from` can hold on both sides: at look k with probability at most
.05 / 2^(k - 1), at any look at most .10. Both assume that the numbers of replicates do not depend
on the results, for example because they are doubled; docs/explanation/intervals.md has rates, also
for numbers that depend on them. This is alpha spending with halves (compare Lan and DeMets 1983,
Biometrika 70, 659).

A new verdict is a new look only if the digest of the claim's data has changed; otherwise the claim
keeps its look and its verdict. Claims without an interval have no looks: exact claims, which must
hold in every replicate, and reports, which have no bound. Replicates of a deterministic cell (no
random number was drawn) are equal, so that more of them do not change the digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mores.experiments.claims.claim_estimates import ClaimData
from mores.experiments.results.run_manifest import EarlierLook
from mores.experiments.scenario.specification import Claim

MAX_HALVINGS = 30  # a level must be below 1; alpha stays below 1e-10 afterwards
ORDINALS = ("first", "second", "third", "fourth", "fifth")


class Look(NamedTuple):
    """Number of a verdict on a claim, and the earlier verdicts.

    Attributes:
        number: 1 for the first verdict; 1 more for each later one on changed data.
        data: digest of the claim's data, see `data_digest`.
        earlier: the earlier looks, oldest first.
    """

    number: int = 1
    data: str = ""
    earlier: tuple[EarlierLook, ...] = ()


FIRST_LOOK = Look()


def has_looks(claim: Claim) -> bool:
    """Whether the verdict on a claim is decided by an interval."""
    return claim.bound is not None and not claim.checks_every_replicate


def level_at_look(level: float, look: int) -> float:
    """Level of the interval at a look.

    Args:
        level: level at the first look, in (0, 1), such as 0.95.
        look: number of the look, from 1.
    """
    return level if look == 1 else 1.0 - (1.0 - level) / 2 ** min(look - 1, MAX_HALVINGS)


def largest_false_rate(claim: Claim, look: int, alpha: float = 0.05) -> float:
    """Largest probability, in [0, 1], that a false claim holds at this or an earlier look.

    Args:
        claim: the claim.
        look: number of the look, from 1.
        alpha: 1 minus the level of the first look.
    """
    one_side = alpha * (1.0 - 0.5**look)
    both_sides = claim.bound is not None and claim.bound.differs_from is not None
    return 2.0 * one_side if both_sides else one_side


def current_look(claim: Claim, index: int, data: str, earlier_looks: Sequence[EarlierLook]) -> Look:
    """Look of the verdict on a claim with these data.

    Args:
        claim: the claim.
        index: index of the claim in the scenario.
        data: digest of its data.
        earlier_looks: looks at all claims before the run was last extended, oldest first.
    """
    earlier = tuple(look for look in earlier_looks if look.claim == index)
    if not earlier or not has_looks(claim):
        return Look(1, data)
    if earlier[-1].data == data:
        return Look(earlier[-1].look, data, earlier[:-1])
    return Look(earlier[-1].look + 1, data, earlier)


def data_digest(points: Sequence[tuple[ClaimData, ClaimData | None]]) -> str:
    """Hexadecimal digest of the data of a claim.

    Args:
        points: data of the claim and, if it has an ablation, data of the ablation, at every point
            of the sweep.
    """
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
    """Note for terminal and report on a second or later look; empty for the first.

    Args:
        claim: the claim.
        look: the look.
        level: level of its interval, in (0, 1).
    """
    if look.number == 1:
        return ""
    before = ", ".join(f"{each.verdict} with n = {each.n}" for each in look.earlier)
    rate = 100.0 * largest_false_rate(claim, MAX_HALVINGS)
    return (
        f"{ordinal(look.number)} look, a verdict on more data (earlier: {before}): the interval "
        f"has a level of {100.0 * level:.6g} %, so that a false claim holds at any of its looks in "
        f"at most {rate:.0f} % of experiments"
    )


def ordinal(number: int) -> str:
    """Ordinal in words up to `fifth`, then `6th`, `7th`, ..."""
    return ORDINALS[number - 1] if number <= len(ORDINALS) else f"{number}th"

"""Cohorts: people go and newcomers take their seats, with a parent's disposition, changed a little.

Every round each person is replaced with probability `turnover`. The newcomer has a parent, drawn
evenly from all people of the round before (Wright 1931; Fisher 1930; without selection), and

    d' = d_parent + tutored way(d_parent) + shift + mutation z

`way` goes from there to what teachers say, by how loudly they speak and how far they are trusted.

Whatever has no bearing on newcomers (temporary state, trust) they do not inherit. With N people,
turnover q and neither tutoring nor shift, the expected variance over people (divisor N - 1) obeys

    V' = V (1 - (1 - (1 - q)^2) / N) + q mutation^2

which for q = 1 is Wright and Fisher's `V' = V (1 - 1/N) + mutation^2`; without mutation the share
of pairs with different ancestors, heterozygosity, falls alike. The centre moves, on average, by
`q (tutored way + shift)` a round. docs/explanation/default_human.md sets this
beside what is known of countries.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from mores.core.environment import Configured
from mores.core.people import People
from mores.core.random_streams import Draws

Teaching = Callable[[Tensor], Tensor]  # values `[world, agent, value]` to the way from there


class Newcomers(NamedTuple):
    """Who was replaced in a round, and by whom.

    Attributes:
        born: where somebody is new.
        parent: seat of the person whom a newcomer to each seat takes after.
        disposition: what a newcomer to each seat holds; to be read where `born`.
    """

    born: Bool[Tensor, "world agent"]
    parent: Int[Tensor, "world agent"]
    disposition: Float[Tensor, "world agent value"]


class Cohorts(Configured):
    """Parameters of how generations follow each other; by default nobody goes."""

    turnover: float = Field(
        default=0.0, ge=0, le=1, description="probability of being replaced, a round"
    )
    mutation: float = Field(
        default=0.0, ge=0, description="standard deviation of a newcomer around the parent"
    )
    tutored: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of the way from the parent to what assistants advise",
    )
    shift: float = Field(
        default=0.0, description="by how much newcomers differ from parents on average, each value"
    )

    def newcomers(
        self,
        disposition: Float[Tensor, "world agent value"],
        taught: Teaching | None,
        draws: Draws,
    ) -> Newcomers:
        """Who is replaced this round.

        Args:
            disposition: of everybody before.
            taught: the way from values to what teachers say; `None`: nobody is tutored.
            draws: of this round.
        """
        people, values = disposition.shape[1:]
        born = draws.uniform("born", people)[..., 0] < self.turnover
        u = draws.uniform("parent", people)[..., 0]
        parent = (u * people).to(torch.int64).clamp(max=people - 1)  # u * N may round to N
        new = inherited(disposition, parent)
        if self.tutored and taught is not None:
            new = new + self.tutored * taught(new)
        new = new + self.shift
        if self.mutation:
            new = new + self.mutation * draws.normal("mutation", people, values)
        return Newcomers(born, parent, new)


def inherited(
    theirs: Float[Tensor, "world agent value"], parent: Int[Tensor, "world agent"]
) -> Float[Tensor, "world agent value"]:
    """What each person's parent has."""
    return theirs.gather(1, parent[..., None].expand(theirs.shape))


def succeeded(people: People, new: Newcomers) -> People:
    """People of the next round: newcomers have their parent's traits and group, and own values."""
    groups = people.groups
    if groups is not None:
        groups = torch.where(new.born, groups.gather(1, new.parent), groups)
    return dataclasses.replace(
        people,
        values=torch.where(new.born[..., None], new.disposition, people.values),
        traits={
            name: torch.where(new.born, trait.gather(1, new.parent), trait)
            for name, trait in people.traits.items()
        },
        groups=groups,
    )


def expected_variance(
    start: float, rounds: int, people: int, turnover: float, mutation: float
) -> float:
    """Expected variance over people (divisor N - 1) after so many rounds, from that at the start.

    Derived for mores by following the squared difference of two people: both stay, one or both
    are replaced, and a newcomer's parent is the other one with probability 1 / N.
    """
    kept = 1.0 - (1.0 - (1.0 - turnover) ** 2) / people
    variance = start
    for _ in range(rounds):
        variance = kept * variance + turnover * mutation**2
    return variance

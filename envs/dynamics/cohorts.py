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

from mores.core.environment import Config
from mores.core.people import People
from mores.core.random_streams import RandomStreams

DisplacementFunction = Callable[
    [Tensor], Tensor
]  # values `[world, agent, value]` to the way from there


class Newcomers(NamedTuple):
    """Who was replaced in a round, and by whom.

    Attributes:
        is_new: where somebody is new.
        parent: seat of the person whom a newcomer to each seat takes after.
        disposition: what a newcomer to each seat holds; to be read where `born`.
    """

    is_new: Bool[Tensor, "world agent"]
    parent: Int[Tensor, "world agent"]
    disposition: Float[Tensor, "world agent value"]


class Cohorts(Config):
    """Parameters of how generations follow each other; by default nobody goes."""

    turnover: float = Field(
        default=0.0, ge=0, le=1, description="probability of being replaced, a round"
    )
    mutation_std: float = Field(
        default=0.0, ge=0, description="standard deviation of a newcomer around the parent"
    )
    tutoring_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of the way from the parent to what assistants advise",
    )
    mean_shift: float = Field(
        default=0.0, description="by how much newcomers differ from parents on average, each value"
    )

    def sample_newcomers(
        self,
        disposition: Float[Tensor, "world agent value"],
        advice_displacement: DisplacementFunction | None,
        streams: RandomStreams,
    ) -> Newcomers:
        """Who is replaced this round.

        Args:
            disposition: of everybody before.
            advice_displacement: the way from values to what teachers say; `None`: nobody is tutored.
            streams: of this round.
        """
        people, values = disposition.shape[1:]
        born = streams.uniform("born", people)[..., 0] < self.turnover
        u = streams.uniform("parent", people)[..., 0]
        parent = (u * people).to(torch.int64).clamp(max=people - 1)  # u * N may round to N
        new = parent_values(disposition, parent)
        if self.tutoring_share and advice_displacement is not None:
            new = new + self.tutoring_share * advice_displacement(new)
        new = new + self.mean_shift
        if self.mutation_std:
            new = new + self.mutation_std * streams.normal("mutation", people, values)
        return Newcomers(born, parent, new)


def parent_values(
    values: Float[Tensor, "world agent value"], parent: Int[Tensor, "world agent"]
) -> Float[Tensor, "world agent value"]:
    """What each person's parent has."""
    return values.gather(1, parent[..., None].expand(values.shape))


def replace_people(people: People, newcomers: Newcomers) -> People:
    """People of the next round: newcomers have their parent's traits and group, and own values."""
    groups = people.groups
    if groups is not None:
        groups = torch.where(newcomers.is_new, groups.gather(1, newcomers.parent), groups)
    return dataclasses.replace(
        people,
        values=torch.where(newcomers.is_new[..., None], newcomers.disposition, people.values),
        traits={
            name: torch.where(newcomers.is_new, trait.gather(1, newcomers.parent), trait)
            for name, trait in people.traits.items()
        },
        groups=groups,
    )


def expected_variance(
    initial_variance: float, rounds: int, num_people: int, turnover: float, mutation_std: float
) -> float:
    """Expected variance over people (divisor N - 1) after so many rounds, from that at the start.

    Derived for mores by following the squared difference of two people: both stay, one or both
    are replaced, and a newcomer's parent is the other one with probability 1 / N.
    """
    kept = 1.0 - (1.0 - (1.0 - turnover) ** 2) / num_people
    variance = initial_variance
    for _ in range(rounds):
        variance = kept * variance + turnover * mutation_std**2
    return variance

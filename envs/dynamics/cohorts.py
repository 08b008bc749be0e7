"""Cohorts: newcomers replace people and inherit a parent's disposition with a mutation.

Each round each person is replaced with probability q = `turnover`. The newcomer has a parent, drawn
uniformly from all people of the round before (Wright 1931; Fisher 1930; no selection), and

    d' = d_parent + tutoring_share * displacement(d_parent) + mean_shift + mutation_std z

`displacement` is the assistants' advice minus the parent's disposition, weighted by intensity and
trust. A newcomer's temporary state and trust are drawn anew, not inherited. With N people and
neither tutoring nor shift, the expected variance over people (divisor N - 1) obeys

    V' = V (1 - (1 - (1 - q)^2) / N) + q mutation_std^2

which for q = 1 is Wright and Fisher's `V' = V (1 - 1/N) + mutation_std^2`. Without mutation the
share of pairs with different ancestors (heterozygosity) falls at the same rate. The mean moves by
`q (tutoring_share * displacement + mean_shift)` per round in expectation. Known figures about
countries: docs/explanation/default_human.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from mores.core.config import Config
from mores.core.people import People
from mores.core.random_streams import RandomStreams
from mores.registry.varying import WorldNumber

# Of values [world, agent, value] of newcomers and the indices of their parents [world, agent].
DisplacementFunction = Callable[[Tensor, Tensor], Tensor]


class Newcomers(NamedTuple):
    """Replacements of one round.

    Attributes:
        is_new: persons that are replaced.
        parent: index of the parent of each person's potential newcomer.
        disposition: disposition of each potential newcomer; valid where `is_new`.
    """

    is_new: Bool[Tensor, "world agent"]
    parent: Int[Tensor, "world agent"]
    disposition: Float[Tensor, "world agent value"]


class Cohorts(Config):
    """Parameters of the succession of generations; default: no turnover."""

    turnover: Annotated[float, WorldNumber(ge=0, le=1)] = Field(
        default=0.0, description="probability of replacement per person and round"
    )
    mutation_std: Annotated[float, WorldNumber(ge=0)] = Field(
        default=0.0, description="standard deviation of newcomers around their parents"
    )
    tutoring_share: Annotated[float, WorldNumber(ge=0, le=1)] = Field(
        default=0.0,
        description="share of the change by advice that is added to the inherited disposition",
    )
    mean_shift: Annotated[float, WorldNumber()] = Field(
        default=0.0, description="mean difference of newcomers from parents, in every value"
    )

    def sample_newcomers(
        self,
        disposition: Float[Tensor, "world agent value"],
        advice_displacement: DisplacementFunction | None,
        streams: RandomStreams,
    ) -> Newcomers:
        """Sample this round's replacements.

        Args:
            disposition: dispositions before the round.
            advice_displacement: displacement of newcomers' values by advice, with the parameters
                and the groups of their parents; None: no tutoring.
            streams: random streams of this round.
        """
        num_people, num_values = disposition.shape[1:]
        is_new = (streams.uniform("born", num_people) < self.turnover)[..., 0]
        u = streams.uniform("parent", num_people)[..., 0]
        parent = (u * num_people).to(torch.int64).clamp(max=num_people - 1)  # u * N may round to N
        inherited = parent_values(disposition, parent)
        if self.tutoring_share and advice_displacement is not None:
            inherited = inherited + self.tutoring_share * advice_displacement(inherited, parent)
        inherited = inherited + self.mean_shift
        if self.mutation_std:
            z = streams.normal("mutation", num_people, num_values)
            inherited = inherited + self.mutation_std * z
        return Newcomers(is_new, parent, inherited)


def parent_values(
    values: Float[Tensor, "world agent value"], parent: Int[Tensor, "world agent"]
) -> Float[Tensor, "world agent value"]:
    """Values of each person's parent."""
    return values.gather(1, parent[..., None].expand(values.shape))


def replace_people(people: People, newcomers: Newcomers) -> People:
    """People of the next round; a newcomer has the parent's traits and group."""
    groups = people.groups
    if groups is not None:
        groups = torch.where(newcomers.is_new, groups.gather(1, newcomers.parent), groups)
    return dataclasses.replace(
        people,
        values=torch.where(newcomers.is_new[..., None], newcomers.disposition, people.values),
        traits=inherited_traits(people, newcomers.is_new, newcomers.parent),
        groups=groups,
    )


def inherited_traits(
    people: People, is_new: Bool[Tensor, "world agent"], parent: Int[Tensor, "world agent"]
) -> dict[str, Float[Tensor, "world agent"]]:
    """Traits of the next round: those of the parent where a person is new."""
    return {
        name: torch.where(is_new, trait.gather(1, parent), trait)
        for name, trait in people.traits.items()
    }


def expected_variance(
    initial_variance: float, rounds: int, num_people: int, turnover: float, mutation_std: float
) -> float:
    """Expected variance over people (divisor N - 1) after `rounds` rounds.

    Derived for mores from the squared difference of two people: both stay, or one or both are
    replaced; a newcomer's parent is the other person with probability 1 / N.
    """
    retained_share = 1.0 - (1.0 - (1.0 - turnover) ** 2) / num_people
    variance = initial_variance
    for _ in range(rounds):
        variance = retained_share * variance + turnover * mutation_std**2
    return variance

"""Audiences of an assistant: sets of people whose answers it averages and whom it advises alike.

An assistant has one or more audiences, which do not overlap: all people of a world, each group, or
each person. It observes the mean answer of each audience and gives one advice to each. There is one
agent for every assistant and audience: agent `m * num_audiences + u` is assistant m for audience u.
The index of a person's audience is 0, the person's group, or the person's index.

Two agent dimensions occur. In a tensor `[world, agent, ...]` the agents are people; the length is 1
if all people of a world receive the same advice, which saves a copy for each. In a tensor
`[world, assistant_agent, ...]` they are the agents of the role `assistant`.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mores.core.deterministic_sum import mean
from mores.core.errors import ParameterError, UserError
from mores.core.people import People
from mores.core.people_statistics import group_means

Audience = Literal["everybody", "group", "person"]
Groups = Int[Tensor, "world agent"]


class ReceivedAdvice(NamedTuple):
    """Last advice of each assistant that a person receives.

    Attributes:
        position: advised position, value units.
        intensity: weight of the advice, in [0, 1]; 0: no advice.
    """

    position: Float[Tensor, "world #agent assistant value"]
    intensity: Float[Tensor, "world #agent assistant"]


@dataclasses.dataclass(frozen=True)
class Audiences:
    """The audiences of all assistants of a world.

    Attributes:
        audience: kind of audience: everybody, each group, or each person.
        num_assistants: number of assistants.
        num_audiences: number of audiences of each assistant.
    """

    audience: Audience
    num_assistants: int
    num_audiences: int

    @property
    def num_agents(self) -> int:
        """Number of agents of the role `assistant`."""
        return self.num_assistants * self.num_audiences

    def received(
        self,
        advice: Float[Tensor, "world assistant_agent value"],
        intensity: Float[Tensor, "world assistant_agent"],
        groups: Groups | None,
    ) -> ReceivedAdvice:
        """Advice that each person receives from every assistant.

        Args:
            advice: position advised by each agent of the role `assistant`, value units.
            intensity: intensity of this advice, in [0, 1].
            groups: group index of each person; only used if `audience` is `group`.
        """
        if self.audience == "everybody":
            return ReceivedAdvice(advice[:, None], intensity[:, None])
        shape = (self.num_assistants, self.num_audiences)
        position = advice.unflatten(1, shape).transpose(1, 2)  # world audience assistant value
        intensity = intensity.unflatten(1, shape).transpose(1, 2)  # world audience assistant
        if self.audience == "person":
            return ReceivedAdvice(position, intensity)
        assert groups is not None
        index = groups[..., None].expand(-1, -1, self.num_assistants)  # world agent assistant
        return ReceivedAdvice(
            position.gather(1, index[..., None].expand(-1, -1, -1, advice.shape[2])),
            intensity.gather(1, index),
        )

    def mean_by_audience(
        self,
        x: Float[Tensor, "world agent n"],
        groups: Groups | None,
        if_empty: Float[Tensor, "world 1 n"] | float,
    ) -> Float[Tensor, "world audience n"]:
        """Mean of `x` over the people of each audience.

        Args:
            x: n numbers of each person.
            groups: group index of each person; only used if `audience` is `group`.
            if_empty: result for an audience without people.
        """
        if self.audience == "everybody":
            return mean(x, 1)[:, None]
        if self.audience == "person":
            return x
        assert groups is not None
        means = group_means(x, groups, self.num_audiences)
        return torch.where(means.num_people[..., None] > 0, means.mean, if_empty)

    def by_agent(
        self, x: Float[Tensor, "world audience assistant *n"]
    ) -> Float[Tensor, "world assistant_agent *n"]:
        """The same elements with audiences and assistants merged into one dimension of agents."""
        return x[:, 0] if self.audience == "everybody" else x.transpose(1, 2).flatten(1, 2)


def num_audiences(audience: Audience, num_people: int, num_groups: int | None) -> int:
    """Number of audiences of an assistant.

    Raises:
        ParameterError: the audience is `group`, and `num_groups` is None.
    """
    if audience == "group":
        if num_groups is None:
            raise ParameterError(
                "num_groups",
                message="the audience `group` needs num_groups; a population with groups sets it",
                code="missing",
            )
        return num_groups
    return num_people if audience == "person" else 1


def check_groups(people: People, num_groups: int) -> None:
    """Check that every person has a group index below `num_groups`, if `audience` is `group`.

    Raises:
        UserError: people have no groups, or an index outside 0 ... `num_groups` - 1.
    """
    groups = people.groups
    if groups is None:
        raise UserError(
            "the audience `group` needs people with groups, from a population such as normal with "
            "components; without groups the audience is `everybody` or `person`",
            code="missing",
            path="population",
        )
    lowest, highest = int(groups.amin()), int(groups.amax())
    if lowest < 0 or highest >= num_groups:
        raise UserError(
            f"the population has the groups {lowest} to {highest}; "
            f"num_groups={num_groups} allows 0 to {num_groups - 1}",
            code="out_of_range",
            path="population",
        )

"""Audiences of advice: everybody, each group, or each person.

An assistant has one or more audiences, sets of people without overlap. It observes the mean answer
of each audience and gives one advice to each. There is one agent for every assistant and audience,
assistant by assistant: agent `m * num_audiences + u` is assistant m for audience u. The audience of
a person is given by the person's group, or by the person's index.

Tensors by person have an agent dimension of length 1 where all people of a world receive the same
advice, so that it is not copied for each of them.
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
    """Advice by the person who receives it; the agent dimension is 1 or the number of people."""

    position: Float[Tensor, "world #agent assistant value"]
    intensity: Float[Tensor, "world #agent assistant"]


@dataclasses.dataclass(frozen=True)
class Audiences:
    """The audiences of all assistants of a world.

    Attributes:
        audience: who is addressed at once.
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
        """Advice of every assistant that each person receives.

        Args:
            advice: position advised by each agent.
            intensity: its intensity.
            groups: of the people; needed for the audience `group`.
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
        """Mean of `x` over the people of each audience; `if_empty` where there are none."""
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
        """The elements of assistants and audiences in the order of agents."""
        return x[:, 0] if self.audience == "everybody" else x.transpose(1, 2).flatten(1, 2)


def num_audiences(audience: Audience, num_people: int, num_groups: int | None) -> int:
    """Number of audiences of an assistant.

    Raises:
        ParameterError: groups of unknown number.
    """
    if audience == "group":
        if num_groups is None:
            raise ParameterError(
                "num_groups",
                message="audience group needs num_groups; a population with groups sets it",
                code="missing",
            )
        return num_groups
    return num_people if audience == "person" else 1


def check_groups(people: People, num_groups: int) -> None:
    """Check that every person has a group, for the audience `group`.

    Raises:
        UserError: people have no groups, or groups beyond `num_groups`.
    """
    groups = people.groups
    if groups is None:
        raise UserError(
            "audience group needs people with groups, from a population such as normal with "
            "components; without groups: audience everybody or person",
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

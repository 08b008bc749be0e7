"""Names of groups pass unchanged through functions of states."""

from __future__ import annotations

import torch

from mores.agents.people.normal import MixtureComponent, NormalPopulation
from mores.core import pytree
from mores.core.people import People
from mores.core.random_streams import RandomStreams, Worlds

NAMES = ("left", "right")


def named_people(*values: float) -> People:
    tensor = torch.tensor(values)[:, None, None].expand(-1, 2, 1)
    return People(tensor, {}, torch.tensor([[0, 1]]).expand(len(values), -1), NAMES)


def test_group_names_pass_through_functions_of_trees() -> None:
    """With a tree without names too, which a state of another environment may be."""
    one, other = named_people(0.0, 1.0), named_people(2.0, 3.0)
    mask = torch.tensor([True, False])
    unnamed = People(other.values, {}, other.groups)
    results = [
        pytree.tree_map(lambda tensor: tensor * 2, one),
        pytree.where(mask, one, other),
        pytree.scatter(one, named_people(5.0), mask),
        pytree.restore(other, pytree.flatten(one)),
        pytree.where(mask, unnamed, other),
    ]
    assert all(result.group_names == NAMES for result in results)
    assert set(pytree.flatten(one)) == {"values", "groups"}


def test_components_name_their_groups() -> None:
    components = tuple(
        MixtureComponent(name=name, mean_offset=(offset,))
        for name, offset in (("left", -9.0), ("right", 9.0))
    )
    population = NormalPopulation(components=components)
    people = population.sample_people(RandomStreams.of(0, Worlds.of(2)))
    assert people.group_names == population.group_names == NAMES
    assert people.groups is not None
    assert torch.equal(people.groups, (people.values[..., 0] > 0).long())

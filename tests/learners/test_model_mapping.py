"""Mapping of agents to models, for every kind of sharing and worlds in any order."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mores.agents.learning.model_mapping import ModelMapping
from mores.core.random_streams import RandomStreams, Worlds
from tests.refusals import refused


@st.composite
def layouts(draw):
    """Worlds of some replicates in any order, and a kind of parameter sharing."""
    replicates = draw(st.lists(st.integers(0, 50), min_size=1, max_size=4, unique=True))
    worlds = [(r, w) for r in replicates for w in range(draw(st.integers(1, 3)))]
    worlds = draw(st.permutations(worlds))
    agents = draw(st.integers(1, 5))
    sharing = draw(st.sampled_from(["role", "group", "agent"]))
    groups = draw(st.lists(st.integers(0, 9), min_size=agents, max_size=agents))
    return worlds, agents, sharing, groups if sharing == "group" else None


def make_mapping(worlds, agents, sharing, groups=None) -> ModelMapping:
    replicate, world = torch.tensor(worlds).T
    streams = RandomStreams.of(0, Worlds(replicate, world))
    return ModelMapping.from_sharing(streams, agents, sharing, groups)


def expected_models(worlds, agents, sharing, groups) -> list[tuple[int, int]]:
    """Replicate and number of the model of every agent, world by world, from the definition."""
    distinct = sorted(set(groups or []))
    number = {
        "role": lambda agent: 0,
        "agent": lambda agent: agent,
        "group": lambda agent: distinct.index(groups[agent]),
    }[sharing]
    return [(replicate, number(agent)) for replicate, _ in worlds for agent in range(agents)]


@given(layouts())
def test_every_agent_has_the_model_of_the_definition(layout):
    worlds, *_ = layout
    mapping, expected = make_mapping(*layout), expected_models(*layout)
    models = list(zip(mapping.replicate.tolist(), mapping.model_number.tolist(), strict=True))
    assert models == sorted(set(expected))
    for index, model in enumerate(models):
        agents = [agent for agent, other in enumerate(expected) if other == model]
        valid = mapping.valid[index]
        assert mapping.agent_rows[index][valid].tolist() == agents
        padded = set(mapping.agent_rows[index].tolist())
        assert padded == set(agents), "padding is an agent of the same model"
    first_worlds = [
        min(i for i, world in enumerate(worlds) if world[0] == r)
        for r in sorted({world[0] for world in worlds})
    ]
    assert mapping.first_world.tolist() == first_worlds
    num_models = mapping.models_per_replicate * len(first_worlds)
    assert num_models == mapping.num_models == len(models)


@given(layouts())
def test_by_model_and_by_world_are_inverse(layout):
    worlds, agents, *_ = layout
    mapping = make_mapping(*layout)
    x = torch.arange(len(worlds) * agents * 2).view(len(worlds), agents, 2)
    assert torch.equal(mapping.by_world(mapping.by_model(x)), x)
    numbers = x[..., 0] // 2
    assert torch.equal(mapping.by_model(numbers)[mapping.valid].sort().values, numbers.flatten())
    rows = torch.arange(mapping.agent_rows.numel()).view(mapping.agent_rows.shape)
    rows = torch.where(mapping.valid, rows, -1)
    restored = mapping.by_model(mapping.by_world(rows))
    assert torch.equal(restored[mapping.valid], rows[mapping.valid])


def test_an_identity_mapping_copies_nothing():
    grid = [(r, w) for r in range(3) for w in range(2)]
    x = torch.rand(6, 4)
    assert make_mapping(grid, 4, "role").is_identity
    assert make_mapping(grid, 4, "role").by_model(x).data_ptr() == x.data_ptr()
    assert not make_mapping(grid, 4, "agent").is_identity
    assert not make_mapping(grid[::-1], 4, "role").is_identity
    assert not make_mapping(grid[:-1], 4, "role").is_identity


def test_names_of_models():
    mapping = make_mapping([(7, 0), (4, 0)], 2, "role")
    assert [mapping.model_name(model) for model in range(2)] == ["replicate 4", "replicate 7"]
    assert make_mapping([(7, 0)], 2, "agent").model_name(1) == "replicate 7, model 1"


@pytest.mark.parametrize("groups", [None, [0], [0, 1, 2]])
def test_every_agent_needs_a_group(groups):
    with refused("missing" if groups is None else "wrong_shape", path="agent_groups"):
        make_mapping([(0, 0)], 2, "group", groups)

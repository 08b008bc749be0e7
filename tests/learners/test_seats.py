"""Whose seat is whose, in every way of sharing and for worlds in any order."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mores.agents.learning.model_mapping import ModelMapping
from mores.core.random_streams import RandomStreams, Worlds
from tests.refusals import refused


@st.composite
def tables(draw):
    """Worlds of some replicates in any order, and seats shared in some way."""
    replicates = draw(st.lists(st.integers(0, 50), min_size=1, max_size=4, unique=True))
    pairs = [(r, w) for r in replicates for w in range(draw(st.integers(1, 3)))]
    pairs = draw(st.permutations(pairs))
    agents = draw(st.integers(1, 5))
    share = draw(st.sampled_from(["role", "group", "agent"]))
    groups = draw(st.lists(st.integers(0, 9), min_size=agents, max_size=agents))
    return pairs, agents, share, groups if share == "group" else None


def seats_of(pairs, agents, share, groups=None) -> ModelMapping:
    replicate, world = torch.tensor(pairs).T
    return ModelMapping.from_sharing(
        RandomStreams.of(0, Worlds(replicate, world)), agents, share, groups
    )


def policy_of(pairs, agents, share, groups) -> list[tuple[int, int]]:
    """Replicate and number of the policy of every seat, world by world: the plain rule."""
    known = sorted(set(groups or []))
    rule = {
        "role": lambda agent: 0,
        "agent": lambda agent: agent,
        "group": lambda agent: known.index(groups[agent]),
    }[share]
    return [(replicate, rule(agent)) for replicate, _ in pairs for agent in range(agents)]


@given(tables())
def test_everybody_sits_where_the_rule_says(table):
    pairs, *_ = table
    seats, wanted = seats_of(*table), policy_of(*table)
    owners = list(zip(seats.replicate.tolist(), seats.model_number.tolist(), strict=True))
    assert owners == sorted(set(wanted))
    for policy, owner in enumerate(owners):
        own = [seat for seat, whose in enumerate(wanted) if whose == owner]
        real = seats.valid[policy]
        assert seats.agent_rows[policy][real].tolist() == own
        assert set(seats.agent_rows[policy].tolist()) == set(own), "padding is of one's own"
    firsts = [
        min(i for i, pair in enumerate(pairs) if pair[0] == r)
        for r in sorted({pair[0] for pair in pairs})
    ]
    assert seats.first_world.tolist() == firsts
    assert seats.models_per_replicate * len(firsts) == seats.num_models == len(owners)


@given(tables())
def test_there_and_back_again(table):
    pairs, agents, *_ = table
    seats = seats_of(*table)
    x = torch.arange(len(pairs) * agents * 2).view(len(pairs), agents, 2)
    assert torch.equal(seats.by_world(seats.by_model(x)), x)
    numbers = x[..., 0] // 2
    assert torch.equal(seats.by_model(numbers)[seats.valid].sort().values, numbers.flatten())
    rows = torch.arange(seats.agent_rows.numel()).view(seats.agent_rows.shape)
    rows = torch.where(seats.valid, rows, -1)
    back = seats.by_model(seats.by_world(rows))
    assert torch.equal(back[seats.valid], rows[seats.valid])


def test_nothing_moves_where_all_is_in_order():
    grid = [(r, w) for r in range(3) for w in range(2)]
    x = torch.rand(6, 4)
    assert seats_of(grid, 4, "role").is_identity
    assert seats_of(grid, 4, "role").by_model(x).data_ptr() == x.data_ptr()
    assert not seats_of(grid, 4, "agent").is_identity
    assert not seats_of(grid[::-1], 4, "role").is_identity
    assert not seats_of(grid[:-1], 4, "role").is_identity


def test_policies_have_names():
    assert [seats_of([(7, 0), (4, 0)], 2, "role").model_name(p) for p in range(2)] == [
        "replicate 4",
        "replicate 7",
    ]
    assert seats_of([(7, 0)], 2, "agent").model_name(1) == "replicate 7, policy 1"


@pytest.mark.parametrize("groups", [None, [0], [0, 1, 2]])
def test_groups_are_for_every_seat(groups):
    with refused("missing" if groups is None else "wrong_shape", path="groups"):
        seats_of([(0, 0)], 2, "group", groups)

"""People drawn from normal distributions."""

from __future__ import annotations

import pytest
import torch

from mores.agents.people.normal import MixtureComponent, NormalPopulation
from mores.core.random_streams import RandomStreams
from mores.registry import make_population
from tests.refusals import refused

CAMPS = (
    MixtureComponent(mean_offset=(-1.0, 0.0), weight=1.0),
    MixtureComponent(mean_offset=(1.0, 0.5), weight=3.0),
)


@pytest.mark.parametrize("correlation", [-0.5, -0.2, 0.0, 0.6, 1.0])
def test_moments_are_as_asked(correlation: float) -> None:
    population = NormalPopulation(
        people=100, num_values=3, mean=0.4, std=0.5, correlation=correlation
    )
    values = (
        population.sample_people(RandomStreams.of(1, 400)).values.flatten(0, 1).double()
    )  # 40,000 people
    # five standard errors: .5 / sqrt(40,000) for a mean, 1 / sqrt(40,000) for a correlation
    assert torch.allclose(values.mean(0), torch.tensor(0.4).double(), atol=5 * 0.0025)
    assert torch.allclose(values.std(0), torch.tensor(0.5).double(), atol=5 * 0.0025)
    found = torch.corrcoef(values.T)
    expected = torch.full((3, 3), correlation).double().fill_diagonal_(1.0)
    assert torch.allclose(found, expected, atol=5 * 0.005)


def test_strongest_opposition_leaves_nothing_in_common() -> None:
    values = (
        NormalPopulation(people=50, num_values=3, correlation=-0.5)
        .sample_people(RandomStreams.of(0, 4))
        .values
    )
    assert values.sum(-1).abs().max() < 1e-5


def test_one_camp_has_no_groups() -> None:
    assert NormalPopulation().sample_people(RandomStreams.of(0, 2)).groups is None


def test_camps_have_their_shares_and_centres() -> None:
    people = NormalPopulation(
        people=100, num_values=2, mean=0.25, std=0.1, components=CAMPS
    ).sample_people(RandomStreams.of(2, 400))
    assert people.groups is not None
    # five standard errors of a share of 3/4 among 40,000
    assert abs(people.groups.double().mean().item() - 0.75) < 5 * 0.0022
    for number, camp in enumerate(CAMPS):
        centre = people.values[people.groups == number].mean(0)
        assert torch.allclose(centre, torch.tensor(camp.mean_offset) + 0.25, atol=5 * 0.001)


@pytest.mark.parametrize("camps", [(), CAMPS])
def test_a_replicate_replays_alone(camps: tuple[MixtureComponent, ...]) -> None:
    population = NormalPopulation(people=33, num_values=2, correlation=0.3, components=camps)
    batch, alone = (
        population.sample_people(RandomStreams.of(7, 512)),
        population.sample_people(RandomStreams.of(7, [37])),
    )
    assert torch.equal(batch.values[37], alone.values[0])
    if camps:
        assert batch.groups is not None and alone.groups is not None
        assert torch.equal(batch.groups[37], alone.groups[0])
    assert not torch.equal(batch.values[36], batch.values[37])


def test_a_smaller_community_is_the_first_part_of_a_larger_one() -> None:
    draws = RandomStreams.of(3, 5)
    small, large = (NormalPopulation(people=n, num_values=2).sample_people(draws).values for n in (10, 25))
    assert torch.equal(small, large[:, :10])


def test_supplies_what_it_says() -> None:
    population = make_population("normal", people=12, values=4)
    made = population.sample_people(RandomStreams.of(0, 3))
    assert population.environment_parameters() == {"people": 12, "values": 4}
    assert made.values.shape == (3, 12, 4)
    assert len(population.value_names) == 4


def test_mistakes_are_named() -> None:
    with refused("conflict", path="normal"):
        make_population("normal", values=3, correlation=-0.6)
    with refused("wrong_shape", path="normal.camps.0.centre"):
        make_population("normal", values=3, camps=CAMPS)
    with refused("out_of_range", path="normal.people"):
        make_population("normal", people=0)

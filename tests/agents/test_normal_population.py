"""People with values from normal distributions."""

from __future__ import annotations

import pytest
import torch

from mores.agents.people.normal import MixtureComponent, NormalPopulation
from mores.core.random_streams import RandomStreams
from mores.registry import make_population
from tests.refusals import refused

COMPONENTS = (
    MixtureComponent(mean_offset=(-1.0, 0.0), weight=1.0),
    MixtureComponent(mean_offset=(1.0, 0.5), weight=3.0),
)


@pytest.mark.parametrize("correlation", [-0.5, -0.2, 0.0, 0.6, 1.0])
def test_moments_are_as_specified(correlation: float) -> None:
    population = NormalPopulation(
        num_people=100, num_values=3, mean=0.4, std=0.5, correlation=correlation
    )
    people = population.sample_people(RandomStreams.of(1, 400))
    values = people.values.flatten(0, 1).double()  # 40,000 people
    # five standard errors: .5 / sqrt(40,000) for a mean, 1 / sqrt(40,000) for a correlation
    assert torch.allclose(values.mean(0), torch.tensor(0.4).double(), atol=5 * 0.0025)
    assert torch.allclose(values.std(0), torch.tensor(0.5).double(), atol=5 * 0.0025)
    expected = torch.full((3, 3), correlation).double().fill_diagonal_(1.0)
    assert torch.allclose(torch.corrcoef(values.T), expected, atol=5 * 0.005)


def test_values_sum_to_zero_at_the_lowest_correlation() -> None:
    population = NormalPopulation(num_people=50, num_values=3, correlation=-0.5)
    values = population.sample_people(RandomStreams.of(0, 4)).values
    assert values.sum(-1).abs().max() < 1e-5


def test_one_component_has_no_groups() -> None:
    assert NormalPopulation().sample_people(RandomStreams.of(0, 2)).groups is None


def test_components_have_their_weights_and_means() -> None:
    people = NormalPopulation(
        num_people=100, num_values=2, mean=0.25, std=0.1, components=COMPONENTS
    ).sample_people(RandomStreams.of(2, 400))
    assert people.groups is not None
    # five standard errors of a share of 3/4 among 40,000
    assert abs(people.groups.double().mean().item() - 0.75) < 5 * 0.0022
    for i, component in enumerate(COMPONENTS):
        mean = people.values[people.groups == i].mean(0)
        assert torch.allclose(mean, torch.tensor(component.mean_offset) + 0.25, atol=5 * 0.001)


@pytest.mark.parametrize("components", [(), COMPONENTS])
def test_a_replicate_replays_alone(components: tuple[MixtureComponent, ...]) -> None:
    population = NormalPopulation(
        num_people=33, num_values=2, correlation=0.3, components=components
    )
    batch = population.sample_people(RandomStreams.of(7, 512))
    alone = population.sample_people(RandomStreams.of(7, [37]))
    assert torch.equal(batch.values[37], alone.values[0])
    if components:
        assert batch.groups is not None and alone.groups is not None
        assert torch.equal(batch.groups[37], alone.groups[0])
    assert not torch.equal(batch.values[36], batch.values[37])


def test_a_smaller_population_is_the_first_part_of_a_larger_one() -> None:
    streams = RandomStreams.of(3, 5)
    populations = (NormalPopulation(num_people=n, num_values=2) for n in (10, 25))
    small, large = (population.sample_people(streams).values for population in populations)
    assert torch.equal(small, large[:, :10])


def test_environment_parameters_match_the_people() -> None:
    population = make_population("normal", num_people=12, num_values=4)
    people = population.sample_people(RandomStreams.of(0, 3))
    assert population.environment_parameters() == {"num_people": 12, "num_values": 4}
    assert people.values.shape == (3, 12, 4)
    assert population.value_names == ()


def test_a_component_may_have_the_rest() -> None:
    parts = [{"mean_offset": [1.0], "weight": 0.2}, {"mean_offset": [0.0], "weight": None}]
    shares = [{**parts[0]}, {**parts[1], "weight": 0.8}]
    people, same = (
        make_population("normal", components=each).sample_people(RandomStreams.of(0, 2))
        for each in (parts, shares)
    )
    assert people.groups is not None and same.groups is not None
    assert torch.equal(people.groups, same.groups)
    with refused("conflict", path="normal.components.1.weight"):
        make_population("normal", components=[parts[1], parts[1]])
    with refused("conflict", path="normal.components.1.weight"):
        make_population("normal", components=[{**parts[0], "weight": 1.5}, parts[1]])


def test_invalid_parameters() -> None:
    with refused("conflict", path="normal"):
        make_population("normal", num_values=3, correlation=-0.6)
    with refused("wrong_shape", path="normal.components.0.mean_offset"):
        make_population("normal", num_values=3, components=COMPONENTS)
    with refused("out_of_range", path="normal.num_people"):
        make_population("normal", num_people=0)

"""Parameters of people that are nested, extreme, or do not fit the people: refused before a run."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import mores
from mores import registry
from mores.core.random_streams import RandomStreams
from mores.experiments.scenario.expansion import build_and_verify
from mores.experiments.scenario.loading import load_scenario
from mores.experiments.scenario.source_locations import ScenarioError
from tests.refusals import refused

TWO_GROUPS = [{"mean_offset": [0.0, 0.0]}, {"mean_offset": [1.0, 1.0]}]


def nested(depth: int) -> Any:
    """A group's value that is a scaled value of a group ..., `depth` times."""
    value: Any = 0.5
    for _ in range(depth):
        scaled = {"kind": "scaled", "parameter": value, "factor": 1.0}
        value = {"kind": "by_group", "values": [scaled]}
    return value


REFUSED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "deep": ("too_large", "ai_influence", {"ai_influence": nested(1000)}),
    # scipy's quantiles of a very narrow beta distribution are NaN, or many std from the mean
    "narrow beta": ("out_of_range", "ai_influence.std",
                    {"ai_influence": {"kind": "beta", "mean": 0.3, "std": 1e-9}}),
    "no std": ("out_of_range", "ai_influence.std",
               {"ai_influence": {"kind": "beta", "mean": 0.3, "std": 1e-300}}),
    "wide normal": ("out_of_range", "ai_influence.std",
                    {"ai_influence": {"kind": "normal", "mean": 0.5, "std": 1e30, "low": 0.0,
                                      "high": 1.0}}),
    "unknown kind": ("unknown_name", "ai_influence.kind", {"ai_influence": {"kind": "bta"}}),
    "kind of another registry": ("unknown_name", "ai_influence.kind",
                                 {"ai_influence": {"kind": "ppo"}}),
    "kind of draws": ("unknown_name", "ai_influence.kind",
                      {"ai_influence": {"kind": "per_draw", "values": [0.1]}}),
    "NaN in a list": ("not_finite", "ai_influence.values.1",
                      {"ai_influence": {"kind": "by_group", "values": [0.1, math.nan]}}),
    "beyond float32": ("out_of_range", "noise_std",
                       {"noise_std": {"kind": "lognormal", "median": 1e38, "log_std": 5.0}}),
    "scaled beyond float32": ("out_of_range", "human",
                              {"population_std": 1e38,
                               "human": {"kind": "fitted",
                                         "volatility": {"kind": "uniform", "low": 0.0,
                                                        "high": 1e38}}}),
    "many rounds": ("invalid_value", "human", {"human": {"kind": "fitted", "half_life": 1e38}}),
    "no rounds": ("out_of_range", "human", {"rounds_per_year": 5e-324}),
    "short distance": ("out_of_range", "trust.distance_scale",
                       {"trust": {"distance_scale": 1e-300}}),
    "no decay": ("conflict", "trait_state.half_life",
                 {"trait_state": {"half_life": 1e30, "retained_share": 1.0}}),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_when_made(name: str) -> None:
    code, path, parameters = REFUSED[name]
    with refused(code, f"coevolution.{path}") as caught:
        mores.make_environment("coevolution", **parameters)
    assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 500


def test_groups_without_names_need_a_value_each() -> None:
    """The people of a group without a value had 0."""
    population = mores.make_population("normal", num_people=8, num_values=2, components=TWO_GROUPS)
    people = population.sample_people(RandomStreams.of(0, 2))
    by_group = registry.make("person_parameter", "by_group", {"values": [0.1]})
    with refused("wrong_shape"):
        by_group.sample(people, RandomStreams.of(0, 2))


def test_numbers_that_people_multiply_beyond_float32_are_refused() -> None:
    population = mores.make_population("normal", num_people=2, num_values=1)
    people = population.sample_people(RandomStreams.of(0, 1))
    column = registry.make("person_parameter", "column", {"name": "age", "factor": 1e38})
    environment = mores.make_environment(
        "coevolution", num_people=2, num_values=1, noise_std=column
    )
    people = dataclasses.replace(people, traits={"age": torch.full((1, 2), 30.0)})
    with refused("not_finite", "noise_std"):
        environment.reset(RandomStreams.of(0, 1), people)


def test_a_population_that_an_environment_cannot_have() -> None:
    components = [{"mean_offset": [0.0]}] * 10_001
    population = mores.make_population("normal", components=components)
    with refused("out_of_range", "population"):
        mores.make_environment("coevolution").with_population(population)
    with refused("out_of_range", "normal.num_people"):
        mores.make_population("normal", num_people=10**12)


def test_a_deep_mapping_in_place_of_an_environment() -> None:
    with refused("wrong_type", "environment"):
        mores.simulate(nested(5000))


SCENARIO = """\
name: small
about: People of two groups.
env: {kind: coevolution, ai_influence: {kind: by_group, values: {a: 0.1, b: 0.2}}}
population:
  kind: normal
  num_people: 4
  num_values: 1
  components: [{name: a, mean_offset: [0.0]}, {name: b, mean_offset: [1.0]}]
rounds: 2
metrics: [drift]
uncertainty: {parameters: {PARAMETER: [0.1, 0.2]}, draws: 39}
arms: {usual: {}}
claims:
  - {statement: moves, kind: report, metric: drift, arm: usual}
"""


@pytest.mark.parametrize("path", ["values.c", "values.a.mean", "mean"])
def test_uncertain_parameters_that_do_not_exist(path: str, tmp_path: Path) -> None:
    """Also where no claim uses them, and where only people can tell."""
    file = tmp_path / "small.yaml"
    file.write_text(SCENARIO.replace("PARAMETER", f"env.ai_influence.{path}"))
    with pytest.raises(ScenarioError) as caught:
        build_and_verify(load_scenario(file))
    assert len(caught.value.problems) == 1


def test_uncertain_parameters_of_a_group_exist(tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(SCENARIO.replace("PARAMETER", "env.ai_influence.values.a"))
    assert build_and_verify(load_scenario(file))

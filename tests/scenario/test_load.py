"""Loading: types of plain scalars, source locations, overrides, files by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mores.experiments.scenario.loading import bundled_scenarios, find_scenario_file, load_scenario
from mores.experiments.scenario.source_locations import SourceLocation
from mores.experiments.scenario.strict_yaml import parse
from tests.refusals import refused

Write = Callable[..., str]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("-.5", -0.5),
        ("7.", 7.0),
        ("+12", 12),
        ("0x1F", 31),
        ("0o17", 15),
        ("9223372036854775807", 2**63 - 1),
        ("12:30", "12:30"),
        ("190:20:30", "190:20:30"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("no", "no"),
        ("Yes", "Yes"),
        ("on", "on"),
        ("OFF", "OFF"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("2024-01-01", "2024-01-01"),
        ("2024-01-01 10:00:00", "2024-01-01 10:00:00"),
        ("=", "="),
        ("'12'", "12"),
        ('"true"', "true"),
        ("e5", "e5"),
        (".", "."),
        ("-", "-"),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    if text == "-":
        text, value = "'-'", "-"
    parsed = parse(f"a: {text}\n", "s.yaml").document["a"]
    assert parsed == value
    assert type(parsed) is type(value)


def test_source_locations() -> None:
    text = "# a comment\na: 1\nb:\n  - {c: x, d: [y, z]}\n"
    source_map = parse(text, "s.yaml").source_map
    assert source_map.key_location(("b", 0, "d")) == SourceLocation("s.yaml", 4, 12)
    assert source_map.value_location(("b", 0, "d", 1)) == SourceLocation("s.yaml", 4, 19)
    assert source_map.value_location(("b", 0, "e", "f")) == SourceLocation(
        "s.yaml", 4, 5
    )  # of the nearest value above it
    assert source_map.value_location(()) == SourceLocation("s.yaml", 2, 1)


def test_overrides_come_before_validation(write: Write, good: str) -> None:
    file = write(good.replace("rounds: 10", "rounds: ten"))
    overrides = [
        "rounds=20",
        "env.rate=1e-1",
        "population.kind=toy_crowd",
        "claims.0.at_round=15",
        "arms.walking.env.rate=0.75",
        "sweep.env.num_people=[3, 4]",
        "metrics=drift",
    ]
    loaded = load_scenario(file, overrides)
    scenario = loaded.scenario
    assert scenario.rounds == 20
    assert scenario.env.parameters == {"rate": 0.1}
    assert scenario.population is not None and scenario.population.kind == "toy_crowd"
    assert scenario.claims[0].at_round == 15
    assert scenario.arms["walking"]["env.rate"] == 0.75
    assert scenario.sweep == {"env.num_people": [3, 4]}
    assert scenario.metrics == ["drift"]
    assert str(loaded.source_map.value_location(("rounds",))) == "override rounds=20"
    assert loaded.document["rounds"] == 20
    assert "rounds: ten" in loaded.text


def test_override_of_a_component_replaces_its_parameters(write: Write) -> None:
    loaded = load_scenario(write(), ["env={kind: toy_walk, num_values: 3}"])
    assert loaded.scenario.env.parameters == {"num_values": 3}
    assert ("env", "rate") not in loaded.source_map.value_locations
    assert (
        str(loaded.source_map.key_location(("env", "num_values")))
        == "override env={kind: toy_walk, num_values: 3}"
    )


def test_arm_without_overrides(write: Write, good: str) -> None:
    text = good.replace("still: {policies.person: {kind: toy_still}}", "still:")
    assert load_scenario(write(text)).scenario.arms["still"] == {}


def test_bundled_scenarios_are_found_by_name(write: Write) -> None:
    write()  # outside the repository
    assert bundled_scenarios(), "the package has no scenarios"
    for name, file in bundled_scenarios().items():
        for given in (name, f"{name}.yaml", f"scenarios/{name}.yaml"):
            assert find_scenario_file(given) == file
        assert load_scenario(name).scenario.name == name


def test_file_precedes_bundled_scenario(write: Write) -> None:
    name = next(iter(bundled_scenarios()))
    assert find_scenario_file(write(name=f"{name}.yaml")) == Path(f"{name}.yaml")
    Path(name).mkdir()
    assert find_scenario_file(name) == bundled_scenarios()[name]  # a directory is not a scenario


@pytest.mark.parametrize("kind", ["pipe", "device", "loop", "dangling"])
def test_what_is_no_regular_file_is_refused(write: Write, kind: str) -> None:
    write()  # changes the working directory
    if kind == "pipe":
        os.mkfifo("a.yaml")
    else:
        targets = {"device": "/dev/zero", "loop": "a.yaml", "dangling": "b.yaml"}
        Path("a.yaml").symlink_to(targets[kind])
    with refused("unreadable", "a.yaml"):
        load_scenario("a.yaml")


def test_an_override_of_a_swept_value_is_refused(write: Callable[..., str], good: str) -> None:
    file = write(good + "sweep: {env.rate: [0.1, 0.2]}\n")
    with refused("conflict", "env.rate"):
        load_scenario(file, ["env.rate=0.3"])
    assert load_scenario(file, ["sweep.env.rate=[0.3]"]).scenario.sweep == {"env.rate": [0.3]}

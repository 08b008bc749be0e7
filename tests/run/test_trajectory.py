"""People over rounds, with their groups and traits, and names of values, groups and components."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mores.experiments.results.run_reader import Run, open_run
from mores.experiments.run import run_scenario
from mores.experiments.scenario.loading import load_scenario
from mores.registry import make_environment, make_population
from mores.sim.simulation import simulate
from tests.cells import expand_and_verify
from tests.refusals import refused

SURVEY = "id,care,freedom,age,party\n" + "".join(
    f"{n},{1 + n % 5},{1 + n // 5},{20 + n},{'left' if n % 3 else 'right'}\n" for n in range(25)
)
SCENARIO = """\
name: survey
about: Respondents of a survey talk, and some are replaced.
env:
  kind: coevolution
  human: idealised
  num_assistants: 0
  noise_std: 0.1
  cohorts: {{turnover: {turnover}}}
population:
  kind: survey_csv
  path: {path}
  values: {{care: {{low: 1, high: 5}}, freedom: {{low: 5, high: 1}}}}
  traits: [age]
  group: party
  num_people: 6
rounds: 7
replicates: 4
record_every: 7
metrics: [mean_value, group_gap, {{kind: eta_squared, name: alignment}}]
trajectory: {{worlds: 3, {rounds}}}
stages: [{{name: before}}, {{name: after, episodes: 2}}]
claims:
  - {{statement: a, kind: report, metric: "mean_value[freedom]"}}
  - {{statement: b, kind: report, metric: "mean_value[1]"}}
  - {{statement: c, kind: report, metric: "alignment[care]"}}
"""


def _file(folder: Path, **changes: Any) -> Path:
    (folder / "survey.csv").write_text(SURVEY)
    options = {"path": folder / "survey.csv", "rounds": "rounds: [5, 0, 6]", "turnover": 0.0}
    (folder / "survey.yaml").write_text(SCENARIO.format(**{**options, **changes}))
    return folder / "survey.yaml"


def _run(folder: Path, *overrides: str, **changes: Any) -> Run:
    loaded = load_scenario(str(_file(folder, **changes)), overrides)
    return open_run(run_scenario(loaded, folder / "run", progress=False).folder)


def test_rounds_people_and_names(tmp_path) -> None:
    """The numbers are those of a direct simulation of the last episode."""
    run = _run(tmp_path)
    data = run.trajectory("main")
    assert data["values"].dims == ("world", "round", "person", "value")
    assert data["disposition"].dims == data["values"].dims
    assert data["history_position"].dims == ("world", "round", "value")
    assert data["round"].values.tolist() == [0, 5, 6]
    assert data["replicate"].values.tolist() == [0, 1, 2]
    assert data["value"].values.tolist() == ["care", "freedom"]
    assert (data["stage"].item(), data["episode"].item()) == ("after", 1)
    assert data["age"].dims == data["groups"].dims == ("world", "person")
    assert {"age", "respondent", "groups"} <= set(data.coords)
    right = data["age"].values.astype(int) % 3 == 2  # 20 + n, of which n is a multiple of 3
    np.testing.assert_array_equal(data["groups"].values, np.where(right, "right", "left"))
    first = data["values"].sel(round=0)
    np.testing.assert_allclose(first.sel(value="care"), (data["age"] - 20) % 5 / 2 - 1, atol=1e-6)
    assert (data["values"].sel(round=5) != data["values"].sel(round=6)).all()
    metrics = run.metrics("main")
    assert metrics["mean_value_component"].values.tolist() == ["care", "freedom"]
    assert metrics["alignment_component"].values.tolist() == ["care", "freedom"]
    end = metrics["mean_value"].isel(episode=-1, round=0, world=slice(3))
    np.testing.assert_allclose(end, first.mean("person"), atol=1e-6)


@pytest.mark.full
def test_components_of_claims_have_names(tmp_path) -> None:
    run = _run(tmp_path)
    by_name, by_index, alignment = run.claims
    assert by_name["estimate"] == by_index["estimate"] != alignment["estimate"]
    last = run.dataframe().query("stage == 'after' and round == 7")
    means = last.groupby("metric")["value"].mean()
    assert means["mean_value[freedom]"] == pytest.approx(by_name["estimate"], rel=1e-5)
    assert means["alignment[care]"] == pytest.approx(alignment["estimate"], rel=1e-5)
    for name in ("mean_value[freedon]", "mean_value[2]", "group_gap[care]"):
        with refused("unknown_name", "claims.0.metric"):
            overrides = [f"claims.0.metric={name}"]
            expand_and_verify(load_scenario(str(tmp_path / "survey.yaml"), overrides))


@pytest.mark.full
def test_groups_and_traits_change_with_newcomers(tmp_path) -> None:
    data = _run(tmp_path, rounds="every: 3", turnover=0.5).trajectory("main")
    assert data["round"].values.tolist() == [0, 3, 6, 7]
    assert data["age"].dims == data["groups"].dims == ("world", "round", "person")
    age = data["age"].values
    assert (age[:, 0] != age[:, -1]).any()
    np.testing.assert_array_equal(
        data["groups"].values, np.where(age.astype(int) % 3 == 2, "right", "left")
    )


@pytest.mark.full
def test_without_a_key_rounds_are_evenly_spaced(tmp_path) -> None:
    file = _file(tmp_path)
    scenario = load_scenario(str(file), ["trajectory={}", "rounds=120"]).scenario
    rounds = scenario.trajectory.recorded_rounds(120)
    assert (len(rounds), rounds[0], rounds[-1]) == (51, 0, 120)
    with refused("out_of_range", "trajectory.rounds.1"):
        load_scenario(str(file), ["trajectory.rounds=[0, 8]"])
    with refused("conflict", "trajectory.every"):
        load_scenario(str(file), ["trajectory.every=2"])
    with refused("too_large", "trajectory"):
        overrides = ["trajectory={worlds: 1000, every: 1}", "rounds=100000", "replicates=1000"]
        expand_and_verify(load_scenario(str(file), overrides))
    with refused("missing", "trajectory"):
        _run(tmp_path, "trajectory={worlds: 0}").trajectory("main")


@pytest.mark.full
def test_a_world_that_has_ended_keeps_its_last_state(tmp_path) -> None:
    """A challenge of nine rows ends after eight rounds."""
    text = """\
name: ended
about: A challenge ends before the last round.
env: {kind: coevolution, challenge: follow, num_people: 3, value_names: [a, b, c, d, e]}
rounds: 12
metrics: [mean_value]
trajectory: {rounds: [7, 8, 9, 12]}
"""
    (tmp_path / "ended.yaml").write_text(text)
    loaded = load_scenario(str(tmp_path / "ended.yaml"))
    data = open_run(run_scenario(loaded, tmp_path / "run", progress=False).folder).trajectory(
        "main"
    )
    assert data["value"].values.tolist() == list("abcde")
    values = data["values"]
    assert (values.sel(round=8) == values.sel(round=12)).all()
    assert (values.sel(round=7) != values.sel(round=8)).any()


def test_components_of_a_simulation_have_names() -> None:
    environment = make_environment("coevolution", value_names="schwartz4", human="idealised")
    metrics = simulate(environment, rounds=2, metrics=["mean_value"], latent=["values"])
    names = list(environment.value_names)
    assert metrics.metrics["mean_value_component"].values.tolist() == names
    assert metrics.latent["values"].dims == ("world", "round", "person", "value")
    assert metrics.latent["value"].values.tolist() == names
    population = make_population("normal", num_people=20, value_names=["x", "y"])
    named = make_environment("coevolution", num_values=2)
    metrics = simulate(named, rounds=1, metrics=["mean_value"], population=population).metrics
    assert metrics["mean_value_component"].values.tolist() == ["x", "y"]

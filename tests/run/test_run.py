"""Runs: the files on disk, their agreement with the simulation, and claims on them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mores.experiments.results.run_reader import open_run
from mores.experiments.run import RunResult, cell_execution, run_scenario
from mores.experiments.scenario.loading import load_scenario
from mores.metrics.drift import distance_from_control
from mores.sim.simulation import simulate
from tests.refusals import refused
from tests.run.small_run import refused_as_unreadable

SCENARIO = """\
name: small
about: A small community with and without a mirror.
env: {kind: coevolution, num_people: 12, noise_std: 0.1, ai_influence: 0.1}
rounds: 6
replicates: 9
record_every: 2
trajectory: {worlds: 7}
metrics: [mean_value, rms_distance]
control: twin
arms:
  twin: {env.num_assistants: 0}
  mirror: {policies.assistant: {kind: mirror}}
  persuade: {policies.assistant: {kind: persuader, goal: [5, 5], goal_weight: 1.0}}
claims:
  - {statement: moved, kind: statistical, metric: effect_vs_control, arm: mirror, bound: {above: 0}}
  - {statement: closer, kind: statistical, metric: rms_distance, arm: mirror, compare_to: twin,
     at_round: 3, bound: {below: 0}}
"""


def _run(folder: Path, text: str = SCENARIO, **options) -> RunResult:
    file = folder.with_suffix(".yaml")
    file.write_text(text)
    return run_scenario(load_scenario(str(file)), folder, progress=False, **options)


def test_the_folder_holds_the_simulated_numbers(tmp_path):
    result = _run(tmp_path / "run")
    names = {path.name for path in result.folder.iterdir()}
    assert names == {
        "scenario.yaml", "resolved.yaml", "provenance.json", "status.json", "log.txt",
        "cells.json", "claims.json", "report.html", "figures", "cells", "run.json",
    }  # fmt: skip
    assert not list(result.folder.rglob("*.part"))
    run = open_run(result.folder)
    assert run.status["state"] == "done"
    assert run.cells == ["twin", "mirror", "persuade"]
    assert run.provenance["threads"] == 1
    built = next(c for c in _cells(tmp_path / "run.yaml") if c.arm == "mirror").build()
    names = ["mean_value", "rms_distance"]
    simulated = simulate(built.environment, built.policies, 9, 6, 0, names)
    recorded = run.metrics("mirror")
    assert recorded["round"].values.tolist() == [0, 2, 3, 4, 6]
    for name in names:
        direct = simulated.metrics[name].values[:, [0, 2, 3, 4, 6]]
        np.testing.assert_array_equal(recorded[name].values, direct)
    people = run.trajectory("mirror")
    assert people["values"].shape[:3] == (7, 7, 12)
    np.testing.assert_array_equal(
        people["values"][:, -1].values, simulated.state.people.values[:7].numpy()
    )
    table = run.dataframe()
    assert set(table.arm) == {"twin", "mirror", "persuade"}
    assert len(table) == 3 * 9 * 5 * 3


def _cells(file: Path):
    from tests.cells import expand_and_verify

    return expand_and_verify(load_scenario(str(file)))


@pytest.mark.full
def test_verdicts_follow_from_the_recorded_numbers(tmp_path):
    run = open_run(_run(tmp_path / "run").folder)
    mirror, twin = run.metrics("mirror"), run.metrics("twin")

    def mean_value(data):
        return data["mean_value"].values

    effect = distance_from_control(mean_value(mirror), mean_value(twin))[:, -1].mean()
    assert run.claims[0]["estimate"] == pytest.approx(effect, rel=1e-6)
    difference = (mirror["rms_distance"] - twin["rms_distance"]).sel(round=3).mean()
    assert run.claims[1]["estimate"] == pytest.approx(float(difference), rel=1e-5)
    assert [claim["n"] for claim in run.claims] == [9, 9]


@pytest.mark.full
def test_chunks_change_no_number(tmp_path, monkeypatch):
    whole = open_run(_run(tmp_path / "whole").folder)
    monkeypatch.setattr(cell_execution, "MAX_CHUNK_ELEMENTS", 300)  # a few worlds at a time
    chunked = open_run(_run(tmp_path / "chunked").folder)
    pd.testing.assert_frame_equal(whole.dataframe(), chunked.dataframe())
    assert whole.trajectory("mirror").equals(chunked.trajectory("mirror"))


@pytest.mark.full
def test_one_replicate_replays(tmp_path):
    every = open_run(_run(tmp_path / "every").folder)
    one = open_run(_run(tmp_path / "one", only_replicates=[4]).folder)
    rows = every.dataframe().query("replicate == 4").reset_index(drop=True)
    pd.testing.assert_frame_equal(rows, one.dataframe())


@pytest.mark.full
def test_a_sweep_has_a_verdict_at_every_point(tmp_path):
    text = SCENARIO + "sweep: {env.ai_influence: [0.0, 0.2]}\n"
    text = text.replace("replicates: 9", "replicates: 16")
    run = open_run(_run(tmp_path / "run", text).folder)
    points = run.claims[0]["points"]
    assert [p["point"] for p in points] == [{"env.ai_influence": 0.0}, {"env.ai_influence": 0.2}]
    # Without influence all replicates are equal, which decides nothing.
    assert [p["verdict"] for p in points] == ["undecided", "holds"]
    assert run.claims[0]["verdict"] == "undecided"
    assert set(run.dataframe()["env.ai_influence"]) == {0.0, 0.2}


@pytest.mark.full
def test_arms_equal_but_for_rounding_do_not_differ(tmp_path):
    """All people get the same advice: the distances are equal but for the last bits."""
    text = SCENARIO.replace("replicates: 9", "replicates: 300").replace("arms:\n", "arms:\n", 1)
    text = text[: text.index("claims:")] + (
        "claims:\n  - {statement: x, kind: statistical, metric: rms_distance, arm: persuade,"
        " compare_to: mirror, bound: {differs_from: 0}}\n"
    )
    run = open_run(_run(tmp_path / "run", text).folder)
    gap = run.metrics("persuade")["rms_distance"] - run.metrics("mirror")["rms_distance"]
    assert float(abs(gap).max()) > 0  # the bits do differ
    assert run.claims[0]["verdict"] == "undecided"
    assert run.claims[0]["estimate"] == 0


def test_folders_that_cannot_hold_a_run(workdir):
    (workdir / "full").mkdir()
    (workdir / "full" / "thesis.tex").write_text("text")
    with refused("not_writable", "full"):
        _run(workdir / "full")
    assert [p.name for p in (workdir / "full").iterdir()] == ["thesis.tex"]
    with refused("unreadable", "."):
        open_run(workdir)


def test_a_stopped_run_has_a_status(workdir, monkeypatch):
    from mores.experiments.run import engine

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "evaluate_claims", interrupt)
    with pytest.raises(KeyboardInterrupt):
        _run(workdir / "run")
    status = json.loads((workdir / "run" / "status.json").read_text())
    assert status["state"] == "stopped"
    assert status["done"] == ["twin", "mirror", "persuade"]
    assert len(open_run(workdir / "run").dataframe("twin")) == 9 * 5 * 3
    with refused("unreadable", "run/claims.json"):
        _ = open_run(workdir / "run").claims


LOCK_IN = "{kind: lock_in, num_people: 50}\nmetrics: [ai_error]"
MORAL_HAZARD = "{kind: moral_hazard, num_agents: 50}\nmetrics: [offered_share]"


@pytest.mark.parametrize("env", [LOCK_IN, MORAL_HAZARD])
def test_an_unused_population_is_refused(workdir, env):
    text = f"name: x\nabout: x\nenv: {env}\nrounds: 2\n"
    text += "population: {kind: normal, num_people: 50}\n"
    with refused("unsupported", "env"):
        _run(workdir / "run", text)


def test_peers_without_a_rule_are_refused(workdir):
    text = SCENARIO.replace("noise_std: 0.1,", "noise_std: 0.1, peers: {graph: permuted},")
    with refused("conflict", "env.peers.graph"):
        _run(workdir / "run", text)


@pytest.mark.parametrize("policy", ["best_response_agent", "truthful_report"])
def test_a_policy_of_another_environment_is_refused_before_the_run(workdir, policy):
    text = SCENARIO.replace("kind: mirror", f"kind: {policy}")
    with refused("unsupported", "arms.mirror.policies.assistant"):
        _run(workdir / "run", text)
    assert not (workdir / "run").exists()


@pytest.mark.parametrize("field", ["value_limit: 1.0e+300", "history: {drift: 1.0e+308}"])
def test_numbers_beyond_float32_are_refused_before_the_run(workdir, field):
    path = "env.value_limit" if "value_limit" in field else "env.history.drift"
    with refused("invalid_value", path):
        _run(workdir / "run", SCENARIO.replace("noise_std: 0.1", field))
    assert not (workdir / "run").exists()


def test_arms_with_other_numbers_of_values(tmp_path):
    twin = "twin: {env.num_assistants: 0"
    with refused("wrong_shape", "mean_value"):
        _run(tmp_path / "run", SCENARIO.replace(twin, f"{twin}, env.num_values: 3"))


@pytest.mark.full
def test_damaged_folders_are_refused(workdir):
    result = _run(workdir / "run")
    metrics = result.folder / "cells" / "mirror" / "metrics.parquet"
    metrics.write_bytes(metrics.read_bytes()[:100])
    with refused_as_unreadable(metrics):
        open_run(result.folder).dataframe("mirror")
    for status in ("[]", "{}", '{"done": null}', '{"done": ["../../elsewhere"]}', "{"):
        (result.folder / "status.json").write_text(status)
        with refused_as_unreadable(result.folder / "status.json"):
            open_run(result.folder).dataframe()

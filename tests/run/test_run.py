"""Runs: what is left on disk, that it is what was played, and what claims make of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mores import UserError
from mores.analysis.run_reader import open_run
from mores.experiments.run import RunResult, run_scenario
from mores.experiments.run import cell_execution as cells_module
from mores.experiments.scenario.loading import load_scenario
from mores.metrics.drift import effect_vs_control
from mores.sim.simulation import simulate
from tests.refusals import check_message, refused
from tests.run.small_run import unreadable

SCENARIO = """\
name: small
about: A small community with and without a mirror.
env: {kind: coevolution, people: 12, noise: 0.1, ai_influence: 0.1}
rounds: 6
replicates: 9
every: 2
sample: 7
measures: [centre, spread]
control: twin
arms:
  twin: {env.assistants: 0}
  mirror: {players.assistant: {kind: mirror}}
  persuade: {players.assistant: {kind: persuade, goal: [5, 5], reach: 1.0}}
claims:
  - {says: moved, kind: statistical, measure: causal_drift, arm: mirror, bound: {above: 0}}
  - {says: closer, kind: statistical, measure: spread, arm: mirror, against: twin, at: 3,
     bound: {below: 0}}
"""


def _run(folder: Path, text: str = SCENARIO, only: list[int] | None = None) -> RunResult:
    file = folder.with_suffix(".yaml")
    file.write_text(text)
    return run_scenario(load_scenario(str(file)), folder, only, progress=False)


def test_the_folder_holds_what_was_played(tmp_path):
    result = _run(tmp_path / "run")
    left = {path.name for path in result.folder.iterdir()}
    assert left == {
        "scenario.yaml", "resolved.yaml", "provenance.json", "status.json", "log.txt",
        "cells.json", "claims.json", "report.html", "figures", "cells", "run.json",
    }  # fmt: skip
    assert not list(result.folder.rglob("*.part"))
    found = open_run(result.folder)
    assert found.status["state"] == "done"
    assert found.cells == ["twin", "mirror", "persuade"]
    assert found.provenance["threads"] == 1
    built = next(c for c in _cells(tmp_path / "run.yaml") if c.arm == "mirror").build()
    played = simulate(built.environment, built.policies, 9, 6, 0, ["centre", "spread"])
    recorded = found.metrics("mirror")
    assert recorded["round"].values.tolist() == [0, 2, 3, 4, 6]
    for name, direct in (("spread", played.metrics["spread"]),
                         ("centre[1]", played.metrics["centre"][..., 1])):  # fmt: skip
        np.testing.assert_array_equal(recorded[name].values, direct[:, [0, 2, 3, 4, 6]].numpy())
    people = found.trajectory("mirror")
    assert people["values"].shape[:3] == (7, 7, 12)
    np.testing.assert_array_equal(
        people["values"][:, -1].values, played.state.people.values[:7].numpy()
    )
    table = found.dataframe()
    assert set(table.arm) == {"twin", "mirror", "persuade"}
    assert len(table) == 3 * 9 * 5 * 3


def _cells(file: Path):
    from mores.experiments.scenario.expansion import expand_and_verify

    return expand_and_verify(load_scenario(str(file)))


def test_verdicts_are_about_these_numbers(tmp_path):
    result = _run(tmp_path / "run")
    found = open_run(result.folder)
    mirror, twin = found.metrics("mirror"), found.metrics("twin")

    def centre(data):
        return np.stack([data["centre[0]"].values, data["centre[1]"].values], -1)

    drift = effect_vs_control(centre(mirror), centre(twin))[:, -1].mean()
    assert found.claims[0]["estimate"] == pytest.approx(drift, rel=1e-6)
    apart = (mirror["spread"] - twin["spread"]).sel(round=3).mean()
    assert found.claims[1]["estimate"] == pytest.approx(float(apart), rel=1e-5)
    assert [claim["n"] for claim in found.claims] == [9, 9]


def test_chunks_change_no_number(tmp_path, monkeypatch):
    whole = open_run(_run(tmp_path / "whole").folder)
    monkeypatch.setattr(cells_module, "MAX_CHUNK_ELEMENTS", 300)  # a few worlds at a time
    chunked = open_run(_run(tmp_path / "chunked").folder)
    pd.testing.assert_frame_equal(whole.dataframe(), chunked.dataframe())
    assert whole.trajectory("mirror").equals(chunked.trajectory("mirror"))


def test_one_replicate_replays(tmp_path):
    every, one = (open_run(_run(tmp_path / n, only=o).folder) for n, o in (("a", None), ("b", [4])))
    rows = every.dataframe().query("replicate == 4").reset_index(drop=True)
    pd.testing.assert_frame_equal(rows, one.dataframe())


def test_a_sweep_tells_every_point(tmp_path):
    text = SCENARIO + "sweep: {env.ai_influence: [0.0, 0.2]}\n"
    found = open_run(_run(tmp_path / "run", text).folder)
    points = found.claims[0]["points"]
    assert [p["point"] for p in points] == [{"env.ai_influence": 0.0}, {"env.ai_influence": 0.2}]
    assert [p["verdict"] for p in points] == ["fails", "holds"]
    assert found.claims[0]["verdict"] == "fails"
    assert set(found.dataframe()["env.ai_influence"]) == {0.0, 0.2}


def test_arms_equal_but_for_rounding_do_not_differ(tmp_path):
    """Whatever one voice says, all hear it: the spread is the same but for the last bits."""
    text = SCENARIO.replace("replicates: 9", "replicates: 300").replace("arms:\n", "arms:\n", 1)
    text = text[: text.index("claims:")] + (
        "claims:\n  - {says: x, kind: statistical, measure: spread, arm: persuade,"
        " against: mirror, bound: {differs_from: 0}}\n"
    )
    found = open_run(_run(tmp_path / "run", text).folder)
    gap = found.metrics("persuade")["spread"] - found.metrics("mirror")["spread"]
    assert float(abs(gap).max()) > 0  # the bits do differ
    assert found.claims[0]["verdict"] == "fails"
    assert found.claims[0]["estimate"] == 0


def test_folders_that_are_no_place_for_a_run(here):
    (here / "full").mkdir()
    (here / "full" / "thesis.tex").write_text("mine")
    with refused("not_writable", "full"):
        _run(here / "full")
    assert [p.name for p in (here / "full").iterdir()] == ["thesis.tex"]
    with refused("unreadable", "."):
        open_run(here)


def test_a_stopped_run_says_so(here, monkeypatch):
    from mores.experiments.run import engine

    def broken(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "evaluate_claims", broken)
    with pytest.raises(KeyboardInterrupt):
        _run(here / "run")
    status = json.loads((here / "run" / "status.json").read_text())
    assert status["state"] == "stopped"
    assert status["done"] == ["twin", "mirror", "persuade"]
    assert len(open_run(here / "run").dataframe("twin")) == 9 * 5 * 3
    with refused("unreadable", "run/claims.json"):
        _ = open_run(here / "run").claims


@pytest.mark.parametrize("kind", ["lock_in", "commission"])
def test_a_population_nobody_needs_is_refused(here, kind):
    people = "people: 50}\n" if kind == "lock_in" else "agents: 50}\n"
    text = f"name: x\nabout: x\nenv: {{kind: {kind}, {people}rounds: 2\npeople: {{kind: normal, "
    text += "people: 50}\nmeasures: [" + ("ai_error" if kind == "lock_in" else "offer") + "]\n"
    with refused("unsupported", "env"):
        _run(here / "run", text)


def test_peers_without_a_rule_are_refused(here):
    text = SCENARIO.replace("noise: 0.1,", "noise: 0.1, peers: {network: rewired},")
    with refused("conflict", "env"):
        _run(here / "run", text)


@pytest.mark.parametrize("player", ["careful_agent", "report"])
def test_a_player_of_another_environment_is_refused_before_the_run(here, player):
    text = SCENARIO.replace("kind: mirror", f"kind: {player}")
    with refused("unsupported", "arms.mirror.players.assistant"):
        _run(here / "run", text)
    assert not (here / "run").exists()


@pytest.mark.parametrize("wrong", ["extent: 1.0e+300", "history: {drift: 1.0e+308}"])
def test_numbers_that_no_float32_holds_are_refused_before_the_run(here, wrong):
    with pytest.raises(UserError) as found:
        _run(here / "run", SCENARIO.replace("noise: 0.1", wrong))
    assert (found.value.code, found.value.path) == ("failed", "env")
    check_message(str(found.value).split(": RuntimeError: ")[0])
    assert not (here / "run").exists()


def test_arms_with_other_numbers_of_values(tmp_path):
    text = SCENARIO.replace("twin: {env.assistants: 0}", "twin: {env.assistants: 0, env.values: 3}")
    with refused("wrong_shape", "causal_drift"):
        _run(tmp_path / "run", text)


def test_damaged_folders_are_named(here):
    result = _run(here / "run")
    measures = result.folder / "cells" / "mirror" / "measures.parquet"
    measures.write_bytes(measures.read_bytes()[:100])
    with unreadable(measures):
        open_run(result.folder).dataframe("mirror")
    for status in ("[]", "{}", '{"done": null}', '{"done": ["../../elsewhere"]}', "{"):
        (result.folder / "status.json").write_text(status)
        with unreadable(result.folder / "status.json"):
            open_run(result.folder).dataframe()

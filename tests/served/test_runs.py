"""Runs of a scenario with a served model: stopped, resumed, replayed; keys are in no file."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pandas
import pytest

import mores
from mores.experiments.run.resume import resume_run
from mores.experiments.scenario.loading import load_scenario
from tests.refusals import refused
from tests.served.servers import NAME, Request, Response, Server, chat_answer, json_response

KEY, VARIABLE = "sk-secret-7431", "MORES_TEST_KEY"
CALLS = 2 * 3 * 4 * 2  # arms, replicates, rounds, agents
SCENARIO = """
name: served
about: Two equal arms with a served model.
source: test
env: {kind: matrix_game, payoffs: prisoners_dilemma}
replicates: 3
rounds: 4
seed: 5
record_every: 1
policies:
  player: {kind: language, readout: free_text, model: {kind: served, url: "http://127.0.0.1:9"}}
arms: {control: {}, twin: {}}
control: control
metrics: [cooperation_rate, player.requests]
claims:
  - {statement: "Equal arms differ by chance", kind: report, metric: cooperation_rate, arm: twin,
     compare_to: control}
"""


async def drawing(request: Request) -> Response:
    """A server that draws with numbers of its own, and quotes the key in an unused field."""
    answer = chat_answer(random.choice("12"))
    return json_response({**answer, "note": dict(request.headers)})


def load(folder: Path, url: str, **parameters):
    path = folder / "served.yaml"
    path.write_text(SCENARIO)
    defaults = {"model": NAME, "store": str(folder / "replies.sqlite"), "mode": "record"}
    defaults |= {"retry_delay": 0, "max_retries": 1, "api_key_env": VARIABLE}
    given = {**defaults, "url": url, **parameters}
    return load_scenario(path, [f"policies.player.model.{name}={x}" for name, x in given.items()])


def rows(run: Path) -> pandas.DataFrame:
    files = sorted(run.glob("cells/*/metrics.parquet"))
    return pandas.concat([pandas.read_parquet(file) for file in files])


@pytest.fixture
def key(monkeypatch) -> str:
    monkeypatch.setenv(VARIABLE, KEY)
    return KEY


@pytest.mark.full
def test_a_run_whose_server_fails_is_resumed_and_replayed(tmp_path, key, monkeypatch):
    async def dying(request: Request) -> Response:
        is_dead = is_failing and len(server.requests) > CALLS - 10
        return json_response({"error": "dead"}, 500) if is_dead else await drawing(request)

    is_failing = True
    with Server(dying) as server:
        with refused("server_failed"):
            mores.run_scenario(load(tmp_path, server.url), out=tmp_path / "run", progress=False)
        is_failing = False
        before = len(server.requests)
        result = resume_run(tmp_path / "run", progress=False)
        assert len(server.requests) - before == 10  # nothing is asked again
    assert "not coupled" in result.verdicts[0].reason
    monkeypatch.delenv(VARIABLE)
    replay = load(tmp_path, "http://127.0.0.1:9", mode="replay")
    mores.run_scenario(replay, out=tmp_path / "replay", progress=False)
    pandas.testing.assert_frame_equal(rows(tmp_path / "run"), rows(tmp_path / "replay"))
    control, twin = _cooperation(tmp_path / "run")
    assert control != twin  # the null arm is computed: a server draws anew
    _assert_no_key(tmp_path)


@pytest.mark.full
def test_a_budget_stops_a_run_that_goes_on_with_a_larger_one(tmp_path, key):
    with Server(drawing) as server:
        with refused("budget"):
            small = load(tmp_path, server.url, max_requests=17)
            mores.run_scenario(small, out=tmp_path / "small", progress=False)
        assert len(server.requests) == 17
        large = load(tmp_path, server.url, max_requests=CALLS)
        mores.run_scenario(large, out=tmp_path / "large", progress=False)
        assert len(server.requests) == CALLS
    _assert_no_key(tmp_path)


@pytest.mark.full
def test_arms_that_share_replies_are_equal(tmp_path, key):
    with Server(drawing) as server:
        shared = load(tmp_path, server.url, cache="on")
        mores.run_scenario(shared, out=tmp_path / "run", progress=False)
        assert len(server.requests) == CALLS / 2
    control, twin = _cooperation(tmp_path / "run")
    assert control == twin


def _cooperation(run: Path) -> list[list[float]]:
    found = []
    for arm in ("control", "twin"):
        table = pandas.read_parquet(run / "cells" / arm / "metrics.parquet")
        found.append(table[table.metric == "cooperation_rate"].value.dropna().tolist())
    assert all(found)
    return found


def _assert_no_key(folder: Path) -> None:
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert len(files) > 10
    assert not [file for file in files if KEY.encode() in file.read_bytes()]
    shutil.rmtree(folder)

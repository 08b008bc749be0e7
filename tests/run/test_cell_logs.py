"""`mores run --track`: one log a cell, with the metrics and the learning of all stages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import mores
from mores.cli.commands import main
from tests.refusals import refused

SCENARIO = """\
name: logged
about: Imitation of recorded episodes, then training on reward, then a test by round.
env: {kind: token_feedback}
policies: {assistant: {kind: sft, learning_rate: 0.003}}
rounds: 6
replicates: 2
worlds: 2
metrics: [score]
control: sft
stages:
  - {name: record, episodes: 2}
  - {name: imitate, loop: fit_offline, roles_to_train: assistant, episodes: 3}
  - name: train
    loop: train
    roles_to_train: assistant
    episodes: 2
    policies: {policies.assistant.kind: grpo}
  - {name: test, loop: search}
arms:
  sft: {}
  faster: {policies.assistant.learning_rate: 0.01}
claims:
  - {statement: Score, kind: report, metric: score, stage: train, arm: faster}
"""


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.cut(2)
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_cells_are_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("logged.yaml").write_text(SCENARIO)
    arguments = ["run", "logged.yaml", "--out", "run", "--jobs", jobs, "--allow-undecided"]
    assert main([*arguments, "--track", "jsonl"]) == 0
    assert sorted(path.name for path in Path("run/logs").iterdir()) == ["faster.jsonl", "sft.jsonl"]
    lines = read(Path("run/logs/faster.jsonl"))
    # 2 episodes, 3 passes, 2 episodes; the last stage has one episode and counts its rounds.
    assert [line["step"] for line in lines] == [*range(1, 8), *range(7, 14)]
    metrics = mores.open_run("run").metrics("faster", stage="train")
    logged = [line["train/score"] for line in lines if "train/score" in line]
    assert logged == pytest.approx(metrics["score"].mean("world")[:, -1].values.tolist(), rel=1e-5)
    names = {name for line in lines for name in line}
    assert {"imitate/assistant.nll_loss", "train/assistant.entropy", "test/score"} <= names
    assert "record/assistant.loss" not in names
    assert main(["resume", "run", "--allow-undecided", "--track", "jsonl"]) == 0
    assert read(Path("run/logs/faster.jsonl")) == lines  # nothing was left to do


def test_an_unknown_tracker_stops_the_run_before_it_starts(tmp_path: Path) -> None:
    scenario = mores.load_scenario("karate")
    with refused("unknown_name", path="jsonlines"):
        mores.run_scenario(scenario, out=tmp_path / "run", track="jsonlines")
    assert not (tmp_path / "run").exists()

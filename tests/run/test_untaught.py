"""Learners that learn nothing: refused where that is certain, and told where it turns out so."""

from __future__ import annotations

import json

import pytest
import torch

from mores import make_policy, train
from mores.core.environment import Policy
from mores.experiments.results import atomic_files
from mores.experiments.run import engine, run_scenario
from mores.experiments.run.cell_execution import run_cell
from mores.experiments.scenario.expansion import expand_and_verify
from mores.experiments.scenario.first_round_check import check_first_round
from mores.experiments.scenario.loading import load_scenario
from mores.registry import ENVIRONMENTS
from mores.sim.training_status import copy_state_dict
from tests.learners.small_games import Bare, unchecked
from tests.refusals import check_message, refused
from tests.run.small_run import logged

NEVER = """\
name: never
about: Games are over long before a rollout is.
env: {kind: matrix_game, continuation: 0.2}
players: {player: {kind: ppo, share: agent, horizon: 30, network: {kind: mlp, hidden: [4]}}}
rounds: 16
replicates: 4
measures: [cooperation]
stages:
  - {name: train, loop: improve, learn: player, episodes: 3}
  - {name: test}
arms:
  never: {}
  ever: {players.player.horizon: 1}
claims:
  - {says: They did, kind: learned, measure: cooperation, arm: never, ablation: ever,
     bound: {within: [-9, 9]}}
  - {says: The others did, kind: learned, measure: cooperation, arm: ever, ablation: never,
     bound: {within: [-9, 9]}}
"""
ANSWERS = NEVER[: NEVER.index("arms:")].replace("matrix_game, continuation: 0.2", "requests")
ANSWERS = ANSWERS.replace("player", "assistant").replace("assistants:", "players:")
ANSWERS = ANSWERS.replace("cooperation", "score")


def _loaded(tmp_path, text):
    file = tmp_path / "s.yaml"
    file.write_text(text)
    return load_scenario(str(file))


def test_a_claim_that_something_was_learned_needs_somebody_who_did(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        engine,
        "_write_report",
        lambda job, *_: atomic_files.write_text(job.folder / "report.html", ""),
    )
    folder = run_scenario(_loaded(tmp_path, NEVER), tmp_path / "run").folder
    first, second = json.loads((folder / "claims.json").read_text())
    assert first["verdict"] == "fails"
    check_message(first["reason"])
    assert second["verdict"] == "fails"  # the bound is as wide as that
    status = json.loads((folder / "status.json").read_text())
    (line,) = status["idle_learners"].pop("never")
    check_message(line)
    assert not status["idle_learners"] and not status["stopped_learners"]
    (told,) = [one for one in capsys.readouterr().err.splitlines() if line in one]
    assert told.startswith("never: cell never: ")
    check_message(told)
    assert logged(folder, "never") == [f"never: {line}"]


@pytest.mark.parametrize(
    ("text", "old", "new", "code", "path"),
    [
        (NEVER, "horizon: 30", "horizon: 50", "not_trained", "players.player"),
        (NEVER.replace(".horizon: 1}", ".seats.0.horizon: 1}"),
         "{kind: ppo, share: agent, horizon: 30, network: {kind: mlp, hidden: [4]}}",
         "{kind: cast, seats: [{kind: ppo, horizon: 50}, {kind: copy}]}",
         "not_trained", "players.player"),
        (NEVER, "horizon: 30", "horizon: 30, learning_rate: 0", "not_trained", "claims.0.kind"),
        (ANSWERS, "kind: ppo, share: agent, horizon: 30", "kind: grpo, share: agent",
         "not_trained", "players.assistant"),
        (ANSWERS, "kind: ppo, share: agent, horizon: 30",
         "kind: online_dpo, group: replicate, share: group, groups: [0, 1, 2, 3, 4, 5, 6, 7]",
         "not_trained", "players.assistant"),
        (ANSWERS.replace("horizon: 30", "horizon: 3"), "rounds: 16", "rounds: 3", "out_of_range",
         "rounds"),
    ],
    ids=lambda value: "text" if "\n" in value else None,
)  # fmt: skip
def test_what_is_certain_is_refused(here, text, old, new, code, path):
    assert old in text
    with refused(code, path):
        expand_and_verify(_loaded(here, text.replace(old, new)))


def test_the_players_of_a_cast_are_told_apart(tmp_path, monkeypatch):
    """Who is still on purpose is neither taught nor idle; who waits is told with its own reason."""
    monkeypatch.setattr(
        engine,
        "_write_report",
        lambda job, *_: atomic_files.write_text(job.folder / "report.html", ""),
    )
    ppo = "{kind: ppo, horizon: 4, network: {kind: mlp, hidden: [4]}}"
    waits = ppo.replace("horizon: 4", "horizon: 40")
    still = ppo.replace("horizon: 4", "learning_rate: 0, horizon: 4")
    text = NEVER.replace("matrix_game,", "matrix_game, payoffs: public_goods, agents: 3,")
    text = text.replace(
        "{kind: ppo, share: agent, horizon: 30, network: {kind: mlp, hidden: [4]}}",
        f"{{kind: cast, seats: [{ppo}, {waits}, {still}]}}",
    )
    folder = run_scenario(_loaded(tmp_path, text[: text.index("arms:")]), tmp_path / "run").folder
    (cell,) = (folder / "cells").iterdir()
    taught = [one[1:5] for one in json.loads((cell / "cell.json").read_text())["taught"]]
    assert taught[:3] == [["player, seats 0", 4, taught[0][2], 0], ["player, seats 1", 4, 0, 4],
                          ["player, seats 2", 4, 0, 0]]  # fmt: skip
    assert taught[0][2] > 0
    (line,) = json.loads((folder / "status.json").read_text())["idle_learners"][cell.name]
    assert "seats 1" in line and "40" in line
    check_message(line)


def test_training_says_that_nothing_is_learned():
    for player in ("ppo", {"kind": "rloo", "share": "agent"}):
        with refused("not_trained", "players.assistant"):
            train("requests", {"assistant": player}, episodes=5, rounds=6)
    with refused("out_of_range", "rounds"):
        train("requests", {"assistant": "grpo"}, episodes=5, rounds=3)
    with pytest.warns(UserWarning) as told:
        found = train(
            {"kind": "matrix_game", "continuation": 0.1},
            {"player": {"kind": "ppo", "horizon": 20}},
            episodes=2,
            rounds=10,
        )
    assert len(found.diagnostics) == 1
    check_message("\n".join(str(one.message) for one in told))
    mlp = {"kind": "mlp", "hidden": [4]}
    still = {"kind": "ppo", "horizon": 4, "learning_rate": 0, "network": mlp}
    waits = {"kind": "ppo", "horizon": 20, "network": mlp}
    nested = {"kind": "cast", "seats": [still, waits]}
    for seats, who in (([still, waits], "seats 1"), ([nested], "seats 0/seats 1")):
        counts = [3 - len(seats)] * len(seats)  # two seats in all
        players = {"player": {"kind": "cast", "seats": seats, "counts": counts}}
        with pytest.warns(UserWarning, match=f", {who},") as told:
            found = train(
                {"kind": "matrix_game", "continuation": 0.1}, players, episodes=2, rounds=10
            )
        assert len(found.diagnostics) == 1
        check_message("\n".join(str(one.message) for one in told))
    player = {"kind": "grpo", "share": "agent", "group": "replicate"}
    found = train("requests", {"assistant": player}, episodes=2, rounds=6, worlds=2)
    found.evaluate()
    assert found.state_dict("assistant")["updates"].tolist() == [2] * 8  # tests leave it as it was


@pytest.mark.parametrize(
    "learned",
    [
        None,
        {"updates": 3},
        {1: torch.zeros(2)},
        {"updates": torch.zeros(2), "stopped": torch.zeros(3)},
        {"updates": torch.tensor(1)},
        {"updates": torch.zeros(2)},
        {"a/still": torch.zeros(2)},
        {"stopped": torch.zeros(2, 3).long()},
    ],
)
def test_what_a_player_says_it_learned_is_looked_at(learned):
    class Tells(Policy):
        def act(self, phase, observation, action_mask, state, streams):
            raise NotImplementedError

        def state_dict(self, state):
            return learned

    with unchecked(), refused("failed", "players.actor"):
        copy_state_dict("actor", Tells(), None)


def test_where_nobody_sees_anything_runs_begin_too(tmp_path, monkeypatch):
    """Nothing is needed at once for a world, and all of them are played together."""
    monkeypatch.setitem(ENVIRONMENTS, "bare", Bare)
    text = "name: b\nabout: b\nenv: {kind: bare}\nplayers: {actor: {kind: anyhow}}\nrounds: 2\n"
    measured = "measures: [number]\nreplicates: 2\n"
    monkeypatch.setattr(Bare, "metrics", lambda self, state: {"number": state})
    cell, *_ = expand_and_verify(loaded := _loaded(tmp_path, text + measured))
    record = run_cell(cell, loaded.scenario, range(2), lambda _: None)
    assert record.stages[0].metrics["number"].shape[0] == 2
    fickle = iter([{"number": torch.zeros(2), "gone": torch.zeros(2)}, {"number": torch.zeros(2)}])
    monkeypatch.setattr(Bare, "metrics", lambda self, state: next(fickle))
    wrong = check_first_round(Bare(), {"actor": make_policy("anyhow")}, None, 0)
    (told,) = wrong
    assert told.code == "failed" and "'gone'" in str(told)
    check_message(str(told))

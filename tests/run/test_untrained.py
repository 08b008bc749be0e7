"""Models without any update: refused if that is certain beforehand, reported if it occurs."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from mores import make_policy, train
from mores.core.learner import Learner, TrainingDiagnostics
from mores.experiments.results import atomic_files
from mores.experiments.run import engine, run_scenario
from mores.experiments.run.cell_execution import run_cell
from mores.experiments.scenario.loading import load_scenario
from mores.registry import REGISTRIES
from mores.sim.first_rounds import check_first_rounds
from mores.sim.training_status import checked_diagnostics, copy_state_dict
from tests.cells import expand_and_verify
from tests.learners.small_environments import Minimal, unchecked
from tests.refusals import check_message, refused
from tests.run.small_run import log_lines

NEVER = """\
name: never
about: Episodes end long before a rollout is full.
env: {kind: matrix_game, continuation_probability: 0.2}
policies:
  player:
    {kind: ppo, parameter_sharing: agent, num_steps: 30, network: {kind: mlp, hidden_sizes: [4]}}
rounds: 16
replicates: 4
metrics: [cooperation_rate]
stages:
  - {name: train, loop: train, roles_to_train: player, episodes: 3}
  - {name: test}
arms:
  never: {}
  ever: {policies.player.num_steps: 1}
claims:
  - {statement: Learned, kind: learned, metric: cooperation_rate, arm: never, ablation: ever,
     bound: {within: [-9, 9]}}
  - {statement: Not learned, kind: learned, metric: cooperation_rate, arm: ever, ablation: never,
     bound: {within: [-9, 9]}}
"""
PPO = "kind: ppo, parameter_sharing: agent, num_steps: 30"
COMPLETIONS = NEVER[: NEVER.index("arms:")].replace("player", "assistant")
COMPLETIONS = COMPLETIONS.replace("matrix_game, continuation_probability: 0.2", "token_feedback")
COMPLETIONS = COMPLETIONS.replace("cooperation_rate", "score")


def _loaded(tmp_path, text):
    file = tmp_path / "s.yaml"
    file.write_text(text)
    return load_scenario(str(file))


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(run_plan, *_):
        atomic_files.write_text(run_plan.folder / "report.html", "")

    monkeypatch.setattr(engine, "_write_report", write)


def test_a_learned_claim_needs_an_update(tmp_path, no_report, capsys):
    folder = run_scenario(_loaded(tmp_path, NEVER), tmp_path / "run").folder
    first, second = json.loads((folder / "claims.json").read_text())
    assert first["verdict"] == "fails"
    check_message(first["reason"])
    assert second["verdict"] == "fails"  # the wide bound also holds in the ablation
    status = json.loads((folder / "status.json").read_text())
    (message,) = status["idle_learners"].pop("never")
    check_message(message)
    assert not status["idle_learners"] and not status["stopped_learners"]
    (line,) = [line for line in capsys.readouterr().err.splitlines() if message in line]
    assert line.startswith("never: cell never: ")
    check_message(line)
    assert log_lines(folder, "never") == [f"never: {message}"]


@pytest.mark.parametrize(
    ("text", "old", "new", "code", "path"),
    [
        (NEVER, "num_steps: 30", "num_steps: 50", "not_trained", "policies.player"),
        (NEVER.replace(".num_steps: 1}", ".policies.0.num_steps: 1}"),
         f"{{{PPO}, network: {{kind: mlp, hidden_sizes: [4]}}}}",
         "{kind: per_agent, policies: [{kind: ppo, num_steps: 50}, {kind: imitate_last}]}",
         "not_trained", "policies.player"),
        (NEVER, PPO, f"{PPO}, learning_rate: 0", "not_trained", "claims.0.kind"),
        (COMPLETIONS, PPO, "kind: grpo, parameter_sharing: agent",
         "not_trained", "policies.assistant"),
        (COMPLETIONS, PPO, "kind: online_dpo, group_by: replicate, parameter_sharing: group, "
         "agent_groups: [0, 1, 2, 3, 4, 5, 6, 7]", "not_trained", "policies.assistant"),
        (COMPLETIONS.replace("num_steps: 30", "num_steps: 3"), "rounds: 16", "rounds: 3",
         "out_of_range", "rounds"),
    ],
    ids=lambda value: "text" if "\n" in value else None,
)  # fmt: skip
def test_certain_cases_are_refused(workdir, text, old, new, code, path):
    assert old in text
    with refused(code, path):
        expand_and_verify(_loaded(workdir, text.replace(old, new)))


def test_members_of_per_agent_have_separate_statuses(tmp_path, no_report):
    """A frozen member counts neither as updated nor as idle; an idle one has its own reason."""
    ppo = "{kind: ppo, num_steps: 4, network: {kind: mlp, hidden_sizes: [4]}}"
    idle = ppo.replace("num_steps: 4", "num_steps: 40")
    frozen = ppo.replace("num_steps: 4", "learning_rate: 0, num_steps: 4")
    text = NEVER.replace("matrix_game,", "matrix_game, payoffs: public_goods, num_agents: 3,")
    text = text.replace(
        f"{{{PPO}, network: {{kind: mlp, hidden_sizes: [4]}}}}",
        f"{{kind: per_agent, policies: [{ppo}, {idle}, {frozen}]}}",
    )
    folder = run_scenario(_loaded(tmp_path, text[: text.index("arms:")]), tmp_path / "run").folder
    (cell,) = (folder / "cells").iterdir()
    statuses = json.loads((cell / "cell.json").read_text())["training_statuses"]
    counts = [fields[1:5] for fields in statuses[:3]]
    assert counts == [["player, policy 0", 4, counts[0][2], 0], ["player, policy 1", 4, 0, 4],
                      ["player, policy 2", 4, 0, 0]]  # fmt: skip
    assert counts[0][2] > 0
    (line,) = json.loads((folder / "status.json").read_text())["idle_learners"][cell.name]
    assert "policy 1" in line and "40" in line
    check_message(line)


def test_train_refuses_or_warns():
    for policy in ("ppo", {"kind": "rloo", "parameter_sharing": "agent"}):
        with refused("not_trained", "policies.assistant"):
            train("token_feedback", {"assistant": policy}, episodes=5, rounds=6)
    with refused("out_of_range", "rounds"):
        train("token_feedback", {"assistant": "grpo"}, episodes=5, rounds=3)
    game = {"kind": "matrix_game", "continuation_probability": 0.1}
    with pytest.warns(UserWarning) as warned:
        ppo = {"player": {"kind": "ppo", "num_steps": 20}}
        result = train(game, ppo, episodes=2, rounds=10)
    assert len(result.diagnostics) == 1
    check_message("\n".join(str(warning.message) for warning in warned))
    mlp = {"kind": "mlp", "hidden_sizes": [4]}
    frozen = {"kind": "ppo", "num_steps": 4, "learning_rate": 0, "network": mlp}
    idle = {"kind": "ppo", "num_steps": 20, "network": mlp}
    nested = {"kind": "per_agent", "policies": [frozen, idle]}
    for members, name in (([frozen, idle], "policy 1"), ([nested], "policy 0/policy 1")):
        counts = [3 - len(members)] * len(members)  # two agents in all
        policy = {"kind": "per_agent", "policies": members, "agents_per_policy": counts}
        with pytest.warns(UserWarning, match=f", {name}:") as warned:
            result = train(game, {"player": policy}, episodes=2, rounds=10)
        assert len(result.diagnostics) == 1
        check_message("\n".join(str(warning.message) for warning in warned))
    policy = {"kind": "grpo", "parameter_sharing": "agent", "group_by": "replicate"}
    result = train("token_feedback", {"assistant": policy}, episodes=2, rounds=6, worlds=2)
    result.evaluate()  # does not train
    assert result.state_dict("assistant")["num_updates"].tolist() == [2] * 8


class InvalidLearner(Learner):
    """Returns what it is given."""

    tensors: Any = None
    entries: Any = ()

    def act(self, phase, observation, action_mask, state, streams):
        raise NotImplementedError

    def state_dict(self, state):
        return self.tensors

    def diagnostics(self, state):
        return self.entries


TWO = torch.zeros(2).long()


@pytest.mark.parametrize(
    "tensors", [None, {"a": 3}, {1: TWO}, {"a": TWO, "b": torch.zeros(3)}, {"a": torch.tensor(1)}]
)
def test_an_invalid_state_dict_is_refused(tensors):
    with unchecked(), refused("failed", "policies.actor"):
        copy_state_dict("actor", InvalidLearner(tensors=tensors), None)


@pytest.mark.parametrize(
    "fields",
    [
        None,
        {"num_updates": 3},
        {"num_updates": TWO, "stopped_at": torch.zeros(3).long()},
        {"num_updates": torch.tensor(1)},
        {"num_updates": torch.zeros(2)},
        {"num_updates": TWO.bool()},
        {"stopped_at": torch.zeros(2, 3).long()},
    ],
)
def test_invalid_diagnostics_are_refused(fields):
    with unchecked(), refused("failed", "policies.actor"):
        entries = fields and [TrainingDiagnostics(**fields)]
        checked_diagnostics("actor", InvalidLearner(entries=entries), None)


def test_an_environment_without_observations_runs(tmp_path, monkeypatch):
    """A world needs no elements, and all worlds are in one chunk."""
    monkeypatch.setitem(REGISTRIES["environment"], "minimal", Minimal)
    text = "name: m\nabout: m\nenv: {kind: minimal}\npolicies: {actor: {kind: random}}\n"
    text += "rounds: 2\nmetrics: [number]\nreplicates: 2\n"
    monkeypatch.setattr(Minimal, "metrics", lambda self, state: {"number": state})
    cell, *_ = expand_and_verify(loaded := _loaded(tmp_path, text))
    result = run_cell(cell, loaded.scenario, range(2), lambda _: None)
    assert result.stages[0].metrics["number"].shape[0] == 2
    zeros = torch.zeros(2)
    changing = iter([{"number": zeros, "removed": zeros}, {"number": zeros}])
    monkeypatch.setattr(Minimal, "metrics", lambda self, state: next(changing))
    with refused("failed", "metrics.removed"):
        check_first_rounds(Minimal(), {"actor": make_policy("random")}, compare=False)

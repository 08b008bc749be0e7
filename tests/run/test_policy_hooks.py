"""Metrics, identity and check version of policies in runs; arms that share no draws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from mores.core.policy import ActionOutput, Policy
from mores.experiments.results.cell_identity import inputs_digest
from mores.experiments.run import run_scenario
from mores.experiments.scenario.expansion import build_and_verify
from mores.experiments.scenario.loading import load_scenario
from mores.experiments.scenario.request_estimate import estimate_requests
from mores.registry import REGISTRIES
from tests.cells import expand, expand_and_verify
from tests.refusals import refused

SCENARIO = """\
name: hooks
about: Players of a server.
env: {kind: matrix_game}
policies: {player: {kind: served_player, first: 0}}
rounds: 3
replicates: 4
metrics: [cooperation_rate, player.calls]
arms: {a: {}, b: {policies.player.first: 1}}
control: a
claims:
  - {statement: Calls, kind: exact, metric: player.calls, arm: a, bound: {within: [6, 6]}}
  - {statement: Difference, kind: statistical, metric: cooperation_rate, arm: b, compare_to: a,
     bound: {above: -2}}
"""


class ServedPlayer(Policy):
    """Counts its calls, as a client of a server does."""

    first: int = 0
    expensive: bool = True
    digest: str = "abc"

    def initial_state(self, role: Any, phases: Any, streams: Any) -> torch.Tensor:
        return torch.zeros(streams.num_worlds)

    def act(
        self,
        phase: Any,
        observation: torch.Tensor,
        action_mask: Any,
        state: Any,
        streams: Any,
        search: bool = False,
    ) -> ActionOutput:
        assert not (self.expensive and streams.num_worlds < 4), "a check called the server"
        agents = observation.shape[1]
        action = torch.full(observation.shape[:2], self.first)
        return ActionOutput(action, state + agents)

    def check_version(self) -> Policy:
        return self.model_copy(update={"expensive": False})

    def identity(self) -> dict[str, str]:
        return {"weights": self.digest}

    @property
    def couples_arms(self) -> bool:
        return False

    @property
    def metric_names(self) -> tuple[str, ...]:
        return ("calls",)

    def metrics(self, state: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"calls": state}


@pytest.fixture
def scenario_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(REGISTRIES["policy"], "served_player", ServedPlayer)
    file = tmp_path / "hooks.yaml"
    file.write_text(SCENARIO)
    return file


def test_metrics_of_policies_are_recorded_and_uncoupled_arms_are_named(
    scenario_file: Path, tmp_path: Path
) -> None:
    """The assertion in `act` fails if a check before the run simulates the policy itself."""
    result = run_scenario(load_scenario(scenario_file), out=tmp_path / "out", progress=False)
    exact, difference = result.verdicts
    assert exact.status == "holds"
    assert "not coupled" not in exact.remark
    assert difference.remark == "not coupled: the arms share no draws of player"
    rows = pd.read_parquet(result.folder / "cells" / "a" / "metrics.parquet")
    calls = rows[rows.metric == "player.calls"]
    assert calls.groupby("round").value.unique().map(list).to_dict() == {
        0: [0.0], 1: [2.0], 2: [4.0], 3: [6.0]
    }  # fmt: skip


def test_the_digest_of_a_cell_covers_the_identity_of_policies(
    scenario_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_scenario(scenario_file)
    cell = expand(loaded)[0]
    before = inputs_digest(cell, loaded.scenario)
    monkeypatch.setattr(ServedPlayer, "identity", lambda self: {"weights": "other"})
    assert inputs_digest(cell, loaded.scenario) != before


LANGUAGE = """\
name: words
about: Players that are language models.
env: {kind: matrix_game}
policies: {player: {kind: language, model: smollm2}}
rounds: 3
replicates: 2
metrics: [cooperation_rate]
arms:
  a: {}
  b: {policies.player: {kind: language}}
  c: {policies.player.model: some/folder}
  d: {policies.player: {kind: per_agent, policies: [{kind: language}, {kind: random}, language]}}
  e: {policies.player: random}
"""


def test_one_word_sets_the_model_of_every_policy(tmp_path: Path) -> None:
    file = tmp_path / "words.yaml"
    file.write_text(LANGUAGE.replace("random}\n", "{kind: random}}\n"))
    document = load_scenario(file, ["model=tiny"]).document
    arms = document["arms"]
    assert document["policies"]["player"]["model"] == {"kind": "tiny"}
    assert arms["b"]["policies.player"] == {"kind": "language", "model": {"kind": "tiny"}}
    assert arms["c"] == {"policies.player.model": {"kind": "tiny"}}
    members = arms["d"]["policies.player"]["policies"]
    language = {"kind": "language", "model": {"kind": "tiny"}}
    assert members == [language, {"kind": "random"}, language]
    assert arms["e"] == {"policies.player": {"kind": "random"}}


def test_parameters_in_arms_apply_to_the_new_model_or_are_refused(tmp_path: Path) -> None:
    """They are judged in each arm, with the model that the arm has in the end."""
    file, path = tmp_path / "words.yaml", "arms.e.policies.player.model"
    arms = "arms:\n  a: {}\n  e: {policies.player.model.weights_seed: 1, env.payoffs: stag_hunt}\n"
    file.write_text(LANGUAGE[: LANGUAGE.index("arms:")] + arms)
    for overrides in (["model=tiny"], ["model=smollm2", f"{path}={{kind: tiny}}"]):
        cell = expand_and_verify(load_scenario(file, overrides))[1]
        assert cell.policies["player"]["model"] == {"kind": "tiny", "weights_seed": 1}
    with refused("unknown_name", path=f"{path}.weights_seed"):
        expand_and_verify(load_scenario(file, ["model=smollm2"]))


def test_models_of_a_sweep_stay(tmp_path: Path) -> None:
    """They replace a model with all its parameters."""
    file = tmp_path / "words.yaml"
    more = (
        "arms: {e: {policies.player.model.weights_seed: 1}}\nsweep: {policies.player.model: [tiny]}"
    )
    file.write_text(LANGUAGE[: LANGUAGE.index("arms:")] + more)
    (cell,) = expand_and_verify(load_scenario(file, ["model=smollm2"]))
    assert cell.policies["player"]["model"] == "tiny"


@pytest.mark.parametrize(
    ("malformed", "path"),
    [
        ("arms: 5", "arms"),
        ("arms: {b: 3}", "arms.b"),
        ("arms: [language]", "arms"),
        ("sweep: 3", "sweep"),
        ("stages: 3", "stages"),
        ("stages: [foo]", "stages.0"),
        ("stages: [{name: s, policies: 3}]", "stages.0.policies"),
    ],
)
def test_a_model_for_a_malformed_scenario(malformed: str, path: str, tmp_path: Path) -> None:
    file = tmp_path / "words.yaml"
    file.write_text(LANGUAGE[: LANGUAGE.index("arms:")] + malformed + "\n")
    with refused("wrong_type", path=path):
        load_scenario(file, ["model=tiny"])


def test_estimated_requests_and_tokens(tmp_path: Path) -> None:
    file = tmp_path / "words.yaml"
    file.write_text(LANGUAGE[: LANGUAGE.index("arms:")])
    own = load_scenario(file, ["model=tiny"])
    estimate = estimate_requests(own.scenario, build_and_verify(own))
    folder = run_scenario(own, out=tmp_path / "out", progress=False).folder
    rows = pd.concat(map(pd.read_parquet, folder.glob("cells/*/metrics.parquet")))
    totals = rows[rows["round"] == 3].groupby("metric", observed=True)["value"].sum().to_dict()
    assert estimate.requests == totals["player.requests"]
    assert estimate.prompt_tokens == pytest.approx(totals["player.prompt_tokens"], rel=0.05)
    assert estimate.reply_tokens >= totals["player.reply_tokens"]
    other = load_scenario(file)  # of bytes, since a check does not load its model
    in_bytes = estimate_requests(other.scenario, build_and_verify(other))
    assert in_bytes.prompt_tokens == estimate.prompt_tokens / 4
    assert (in_bytes.from_bytes, estimate.from_bytes) == (True, False)


def test_an_arm_whose_policy_lacks_a_metric_is_named(scenario_file: Path) -> None:
    with_random = SCENARIO.replace("policies.player.first: 1", "policies.player: {kind: random}")
    scenario_file.write_text(with_random)
    with refused("unknown_name", path="metrics.1") as raised:
        expand_and_verify(load_scenario(scenario_file))
    assert "arm b" in str(raised.value) and "random" in str(raised.value)


def test_a_scenario_without_language_models_has_no_model() -> None:
    with refused("unsupported", path="model"):
        load_scenario("voters", ["model=tiny"])

"""Stages: training in some of them, parameters that continue, separate random streams."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from pydantic import Field
from torch import Tensor

from mores.core.environment import Environment, Phase, Role, StepResult, Transition
from mores.core.learner import Learner
from mores.core.people import People
from mores.core.policy import ActionOutput, Policy
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Discrete
from mores.experiments.results.run_reader import open_run
from mores.experiments.run import cell_execution, run_scenario
from mores.experiments.scenario.loading import load_scenario
from mores.registry import REGISTRIES
from tests.cells import expand_and_verify
from tests.refusals import refused
from tests.run.small_run import problem_paths

OPTIONS = 4


@dataclasses.dataclass(frozen=True)
class BanditState:
    mean_reward: Tensor  # [world, option]
    reward: Tensor  # [world], last round
    best: Tensor  # [world], whether the last choice was the best


class Bandit(Environment[BanditState]):
    """A gambler, and options with unknown mean rewards: the same in every episode."""

    noise_std: float = Field(default=1.0, ge=0)

    @property
    def roles(self) -> tuple[Role, ...]:
        return (Role("gambler", 1, Box.of(nothing=1)),)

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (Phase("choose", {"gambler": Discrete(OPTIONS)}),)

    def reset(self, streams: RandomStreams, people: People | None = None) -> BanditState:
        zero = torch.zeros(streams.num_worlds)
        mean_reward = torch.tensor([0.0, 0.3, 1.5, 0.6]).expand(streams.num_worlds, -1)
        return BanditState(mean_reward, zero, zero)

    def observe(self, state: BanditState, role: str, phase: str) -> Tensor:
        return torch.zeros(len(state.reward), 1, 1)

    def step(
        self, state: BanditState, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[BanditState]:
        action = actions["gambler"]
        noise = self.noise_std * streams.normal("pay", 1)[..., 0]
        reward = state.mean_reward.gather(1, action) + noise
        best = (action[:, 0] == 2).to(torch.float32)
        return StepResult(BanditState(state.mean_reward, reward[:, 0], best), {"gambler": reward})

    def metrics(self, state: BanditState) -> Mapping[str, Tensor]:
        return {"reward": state.reward, "best": state.best}

    @property
    def metric_bounds(self) -> Mapping[str, tuple[float, float]]:
        return {"best": (0.0, 1.0)}


@dataclasses.dataclass(frozen=True)
class AveragerState:
    total: Tensor  # [world, option]
    count: Tensor  # [world, option]
    last_action: Tensor  # [world, 1]


class Averager(Learner):
    """Epsilon-greedy: a random option with probability `explore`, else the best mean reward."""

    searches: ClassVar = True
    trains: ClassVar = {"online", "offline"}
    explore: float = Field(default=0.3, ge=0, le=1)

    def initial_state(self, role: Role, phases: Any, streams: RandomStreams) -> AveragerState:
        zero = torch.zeros(streams.num_worlds, OPTIONS)
        return AveragerState(zero, zero, torch.zeros(streams.num_worlds, 1, dtype=torch.int64))

    def act(
        self,
        phase: Phase,
        observation: Any,
        action_mask: Any,
        state: Any,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        if search:
            action = self._best(state)
            return ActionOutput(action, dataclasses.replace(state, last_action=action))
        best, uniform = self._best(state), streams.uniform("which", 1)[:, 0]
        explores = streams.uniform("explore", 1)[:, 0] < self.explore
        action = torch.where(explores, (uniform * OPTIONS).long(), best)
        return ActionOutput(action, dataclasses.replace(state, last_action=action))

    def _best(self, state: AveragerState) -> Tensor:
        return (state.total / state.count.clamp(min=1)).argmax(-1, keepdim=True)

    def update(self, state: Any, transition: Transition, streams: RandomStreams) -> AveragerState:
        return self._add(state, state.last_action, transition.reward)

    def fit_offline(self, state: Any, dataset: Any, streams: RandomStreams) -> AveragerState:
        for step in range(dataset.reward.shape[1]):
            state = self._add(state, dataset.action["choose"][:, step], dataset.reward[:, step])
        return state

    def _add(self, state: AveragerState, action: Tensor, reward: Tensor) -> AveragerState:
        total = state.total.scatter_add(1, action, reward)
        count = state.count.scatter_add(1, action, torch.ones_like(reward))
        return dataclasses.replace(state, total=total, count=count)


class Guesser(Policy):
    """Chooses uniformly at random, and cannot train."""

    def act(
        self, phase: Phase, observation: Any, action_mask: Any, state: Any, streams: RandomStreams
    ) -> ActionOutput:
        return ActionOutput((streams.uniform("which", 1)[:, 0] * OPTIONS).long(), state)


TEXT = """\
name: bandit
about: A gambler learns the best option.
env: {kind: bandit}
policies: {gambler: {kind: averager}}
rounds: 10
replicates: 16
seed: 3
metrics: [reward, best]
stages:
  - {name: before, rounds: 8}
  - {name: train, loop: train, roles_to_train: gambler, episodes: 20}
  - {name: test, rounds: 30, episodes: 3}
  - {name: sure, loop: search, rounds: 20}
claims:
  - {statement: It learned, kind: statistical, metric: best, stage: sure, bound: {above: 0.7}}
  - {statement: Before it had not, kind: statistical, metric: best, stage: before, at_round: 3,
     bound: {below: 0.6}}
"""


@pytest.fixture(autouse=True)
def bandit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRIES["environment"], "bandit", Bandit)
    monkeypatch.setitem(REGISTRIES["policy"], "averager", Averager)
    monkeypatch.setitem(REGISTRIES["policy"], "guesser", Guesser)


def _run(folder: Path, text: str = TEXT, **options: Any):
    file = folder.with_suffix(".yaml")
    file.write_text(text)
    return run_scenario(load_scenario(str(file)), folder, progress=False, **options)


@pytest.mark.full
def test_parameters_continue_in_stages_without_training(tmp_path):
    result = _run(tmp_path / "run")
    assert [v.status for v in result.verdicts] == ["holds", "holds"]
    table = open_run(result.folder).dataframe()
    assert list(table.stage.unique()) == ["before", "train", "test", "sure"]
    sizes = table[table.metric == "best"].groupby("stage", observed=True).size()
    assert sizes.to_dict() == {
        "before": 16 * 9, "train": 16 * 20 * 11, "test": 16 * 3 * 31, "sure": 16 * 21,
    }  # fmt: skip
    best = table[(table.metric == "best") & (table["round"] > 0)]
    share = best.groupby("stage", observed=True).value.mean()
    assert share["before"] < 0.5  # untrained: all means are equal, and it takes the first option
    assert share["test"] == pytest.approx(0.7 + 0.3 / OPTIONS, abs=0.05)
    assert share["sure"] == 1.0  # 240 choices


@pytest.mark.full
def test_stages_have_separate_random_streams(tmp_path):
    twice = TEXT.replace(
        "- {name: before, rounds: 8}", "- {name: before, rounds: 8}\n  - {name: second, rounds: 8}"
    )
    table = open_run(_run(tmp_path / "run", twice).folder).dataframe()
    reward = table[table.metric == "reward"].pivot_table(
        index=["replicate", "round"], columns="stage", values="value", observed=True
    )
    reward = reward.loc[(slice(None), slice(1, 8)), ["before", "second"]]
    assert not np.isclose(reward.before, reward.second).any()


@pytest.mark.full
def test_a_replicate_and_a_chunk_replay_alone(tmp_path, monkeypatch):
    whole = open_run(_run(tmp_path / "whole").folder).dataframe()
    monkeypatch.setattr(cell_execution, "MAX_CHUNK_ELEMENTS", 5)
    chunks = open_run(_run(tmp_path / "chunks").folder).dataframe()
    assert chunks.equals(whole)
    alone = open_run(_run(tmp_path / "alone", only_replicates=[7]).folder).dataframe()
    np.testing.assert_array_equal(alone.value, whole[whole.replicate == 7].value)


def test_fitting_to_recorded_episodes(tmp_path):
    text = TEXT.replace("loop: train, roles_to_train: gambler, episodes: 20}",
                        "loop: fit_offline, roles_to_train: [gambler]}").replace(
        "{name: before, rounds: 8}", "{name: before, rounds: 60}").replace(
        "{kind: averager}", "{kind: averager, explore: 1.0}")  # fmt: skip
    result = _run(tmp_path / "run", text)
    assert result.verdicts[0].status == "holds"
    table = open_run(result.folder).dataframe()
    assert "train" not in set(table.stage)
    assert table[(table.stage == "sure") & (table["round"] > 0) & (table.metric == "best")
                 ].value.mean() == 1.0  # fmt: skip


@pytest.mark.full
def test_a_learner_and_a_policy_without_training(tmp_path):
    arms = "control: guesser\narms: {guesser: {policies.gambler: {kind: guesser}}, learner: {}}\n"
    text = TEXT[: TEXT.index("claims:")].replace("stages:", arms + "stages:") + (
        "claims: [{statement: better, kind: statistical, metric: best, arm: learner, stage: test,\n"
        "  compare_to: guesser, bound: {above: 0.3}}]\n"
    )
    assert [v.status for v in _run(tmp_path / "run", text).verdicts] == ["holds"]


def test_an_arms_parameter_holds_in_stages_that_do_not_set_it(workdir):
    file = workdir / "s.yaml"
    text = TEXT.replace("claims:", "arms: {a: {env.noise_std: 0.5}, b: {}}\ncontrol: b\nclaims:")
    text = text.replace("rounds: 20}", "rounds: 20, env: {env.noise_std: 2}}")
    file.write_text(text[: text.index("claims:")])
    noise_stds = {
        cell.arm: [s.environment.noise_std for s in cell.build().stages]
        for cell in expand_and_verify(load_scenario(str(file)))
    }
    assert noise_stds == {"a": [0.5, 0.5, 0.5, 2], "b": [1, 1, 1, 2]}
    for key in ("rounds: 8", "episodes: 20", "episodes: 3"):
        text = text.replace(f"{key}}}", f"{key}, env: {{env.noise_std: 2}}}}")
    file.write_text(text[: text.index("claims:")])
    with refused("conflict", "stages.0.env.env.noise_std"):
        expand_and_verify(load_scenario(str(file)))


@pytest.mark.parametrize(
    ("old", "new", "code", "path"),
    [
        ("train: gambler", "train: gamblr", "unknown_name", "stages.1.roles_to_train.0"),
        ("roles_to_train: gambler, ", "", "missing", "stages.1.roles_to_train"),
        ("stage: sure", "stage: shure", "unknown_name", "claims.0.stage"),
        ("{kind: averager}", "{kind: random}", "unsupported",
         "stages.1.roles_to_train.0 stages.3.loop"),
        ("name: test", "name: sure", "duplicate", "stages.3.name"),
        ("at_round: 3", "at_round: 9", "out_of_range", "claims.1.at_round"),
        ("rounds: 8}", "rounds: 8, env: {env.nois: 2}}", "unknown_name", "stages.0.env.env.nois"),
        ("rounds: 8}", "rounds: 8, env: {policies.gambler: 2}}", "invalid_value",
         "stages.0.env.policies.gambler"),
        ("{name: before, rounds: 8}", "{name: before, loop: fit_offline, roles_to_train: gambler}",
         "missing", "stages.0.roles_to_train.0 claims.1"),
    ],
)  # fmt: skip
def test_mistakes(workdir, old, new, code, path):
    file = workdir / "s.yaml"
    assert old in TEXT
    file.write_text(TEXT.replace(old, new, 1))
    with refused(code, path.split()[0]) as caught:
        expand_and_verify(load_scenario(str(file)))
    assert problem_paths(caught.value) == path.split()


@pytest.mark.full
def test_a_stage_may_change_the_environment(tmp_path):
    text = TEXT.replace("search, rounds: 20", "search, rounds: 20, env: {env.noise_std: 0.0}")
    result = _run(tmp_path / "run", text)
    table = open_run(result.folder).dataframe()
    sure = table[(table.stage == "sure") & (table.metric == "reward") & (table["round"] > 0)]
    assert set(sure.value) == {1.5}
    claims = json.loads((result.folder / "claims.json").read_text())
    assert claims[0]["claim"]["stage"] == "sure"


@pytest.mark.cut(2)
@pytest.mark.parametrize(
    ("trains", "low", "high"),
    [
        (True, 1.1, 1.5),  # the trained policy stays, although the stage has another default
        (False, 0.4, 0.8),  # the default policy of the stage, which guesses
    ],
)
def test_a_trained_default_policy_stays(tmp_path, monkeypatch, trains, low, high):
    class DefaultBandit(Bandit):
        def default_policies(self) -> Mapping[str, Policy]:
            return {"gambler": Averager(explore=0.3) if self.noise_std else Guesser()}

    monkeypatch.setitem(REGISTRIES["environment"], "default_bandit", DefaultBandit)
    text = TEXT.replace("search, rounds: 20", "search, rounds: 20, env: {env.noise_std: 0.0}")
    text = text.replace("kind: bandit", "kind: default_bandit").replace(
        "policies: {gambler: {kind: averager}}\n", ""
    )
    text = text.replace("loop: search, rounds: 20", "rounds: 20")
    if not trains:
        text = text.replace("loop: train, roles_to_train: gambler, ", "")
    table = open_run(_run(tmp_path / "run", text).folder).dataframe()
    sure = table[(table.stage == "sure") & (table.metric == "reward") & (table["round"] > 0)]
    assert low < sure.value.mean() < high


@pytest.mark.full
def test_a_default_policy_has_the_parameters_of_its_stage(tmp_path, monkeypatch):
    """The environment sets them: in stage `test` the policy never explores."""

    class DefaultBandit(Bandit):
        explore: float = 1.0

        def default_policies(self) -> Mapping[str, Policy]:
            return {"gambler": Averager(explore=self.explore)}

    monkeypatch.setitem(REGISTRIES["environment"], "default_bandit", DefaultBandit)
    text = TEXT.replace("rounds: 30, episodes: 3", "rounds: 30, env: {env.explore: 0.0}")
    text = text.replace("kind: bandit", "kind: default_bandit").replace(
        "policies: {gambler: {kind: averager}}\n", ""
    )
    table = open_run(_run(tmp_path / "run", text).folder).dataframe()
    best = table[(table.metric == "best") & (table["round"] > 0)]
    assert best[best.stage == "test"].value.mean() > 0.9
    assert best[best.stage == "train"].value.mean() < 0.5


def test_fitting_uses_the_environment_of_its_dataset(tmp_path, monkeypatch):
    """Also if the scenario's environment differs, so that later stages have the same agents."""
    text = """\
name: elsewhere
about: Episodes are recorded and fitted in an environment that stages have changed.
env: {kind: token_feedback}
policies: {assistant: {kind: sft, network: {kind: mlp, hidden_sizes: [4]}}}
rounds: 6
replicates: 2
metrics: [score]
stages:
  - {name: gather, env: {env.num_completions: 4}}
  - {name: fit, loop: fit_offline, roles_to_train: assistant}
  - {name: test, env: {env.num_completions: 4}}
"""
    folder = _run(tmp_path / "run", text).folder
    metadata = open_run(folder).checkpoint("main", "fit", "assistant").metadata
    assert metadata["num_agents"] == 4

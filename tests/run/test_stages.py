"""Stages: who learns when, what goes on into the next stage, and draws of a stage's own."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import Field
from torch import Tensor

from mores.analysis.run_reader import open_run
from mores.core.environment import (
    ActionOutput,
    Box,
    Discrete,
    Environment,
    Phase,
    Policy,
    Role,
    StepResult,
    Transition,
)
from mores.core.people import People
from mores.core.random_streams import RandomStreams
from mores.experiments.run import cell_execution as cells_module
from mores.experiments.run import run_scenario
from mores.experiments.scenario.expansion import expand_and_verify
from mores.experiments.scenario.loading import load_scenario
from mores.registry import ENVIRONMENTS, POLICIES
from tests.refusals import refused
from tests.run.small_run import paths_of

OPTIONS = 4


@dataclasses.dataclass(frozen=True)
class Played:
    worth: Tensor  # [world, option], what an option pays on average
    earned: Tensor  # [world], last time
    best: Tensor  # [world], whether the last choice was the best


class Bandit(Environment[Played]):
    """A gambler, and options of unknown worth: the same in every episode of a replicate."""

    noise: float = Field(default=1.0, ge=0)

    @property
    def roles(self) -> tuple[Role, ...]:
        return (Role("gambler", 1, Box.of(nothing=1)),)

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (Phase("choose", {"gambler": Discrete(OPTIONS)}),)

    def reset(self, streams: RandomStreams, people: People | None = None) -> Played:
        zero = torch.zeros(streams.num_worlds)
        return Played(torch.tensor([0.0, 0.3, 1.5, 0.6]).expand(streams.num_worlds, -1), zero, zero)

    def observe(self, state: Played, role: str, phase: str) -> Tensor:
        return torch.zeros(len(state.earned), 1, 1)

    def step(
        self, state: Played, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[Played]:
        chosen = actions["gambler"]
        paid = state.worth.gather(1, chosen) + self.noise * streams.normal("pay", 1)[..., 0]
        best = (chosen[:, 0] == 2).to(torch.float32)
        return StepResult(Played(state.worth, paid[:, 0], best), {"gambler": paid})

    def metrics(self, state: Played) -> Mapping[str, Tensor]:
        return {"earned": state.earned, "best": state.best}


@dataclasses.dataclass(frozen=True)
class Means:
    total: Tensor  # [world, option]
    count: Tensor  # [world, option]
    last: Tensor  # [world, 1]


class Averager(Policy):
    """Chooses at random now and then, and else what paid best on average; or always at random."""

    explore: float = Field(default=0.3, ge=0, le=1)

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Means:
        zero = torch.zeros(streams.num_worlds, OPTIONS)
        return Means(zero, zero, torch.zeros(streams.num_worlds, 1, dtype=torch.int64))

    def on_episode_start(self, state: Means, initial: Any, reset_mask: Tensor) -> Means:
        return state  # what was learned stays

    def act(
        self, phase: Phase, observation: Any, action_mask: Any, state: Means, streams: RandomStreams
    ) -> ActionOutput:
        best, anyhow = self._best(state), streams.uniform("which", 1)[:, 0]
        at_random = streams.uniform("explore", 1)[:, 0] < self.explore
        chosen = torch.where(at_random, (anyhow * OPTIONS).long(), best)
        return ActionOutput(chosen, dataclasses.replace(state, last=chosen))

    def act_with_search(
        self, phase: Phase, observation: Any, action_mask: Any, state: Means, streams: RandomStreams
    ) -> ActionOutput:
        chosen = self._best(state)
        return ActionOutput(chosen, dataclasses.replace(state, last=chosen))

    def _best(self, memory: Means) -> Tensor:
        return (memory.total / memory.count.clamp(min=1)).argmax(-1, keepdim=True)

    def update(self, state: Means, transition: Transition, streams: RandomStreams) -> Means:
        return self._with(state, state.last, transition.reward)

    def fit_offline(self, state: Means, dataset: Any, streams: RandomStreams) -> Means:
        for step in range(dataset.reward.shape[1]):
            state = self._with(state, dataset.action["choose"][:, step], dataset.reward[:, step])
        return state

    def _with(self, memory: Means, chosen: Tensor, reward: Tensor) -> Means:
        total = memory.total.scatter_add(1, chosen, reward)
        count = memory.count.scatter_add(1, chosen, torch.ones_like(reward))
        return dataclasses.replace(memory, total=total, count=count)


class Forgetful(Averager):
    on_episode_start = Policy.on_episode_start


class Guesser(Policy):
    """Never learns: somebody to compare a learner with."""

    def act(
        self, phase: Phase, observation: Any, action_mask: Any, state: Any, streams: RandomStreams
    ) -> ActionOutput:
        return ActionOutput((streams.uniform("which", 1)[:, 0] * OPTIONS).long(), state)


TEXT = """\
name: bandit
about: A gambler learns which option pays.
env: {kind: bandit}
players: {gambler: {kind: averager}}
rounds: 10
replicates: 12
seed: 3
measures: [earned, best]
stages:
  - {name: before, rounds: 8}
  - {name: train, loop: improve, learn: gambler, episodes: 20}
  - {name: test, rounds: 30, episodes: 3}
  - {name: sure, loop: assist, rounds: 20}
claims:
  - {says: It learned, kind: statistical, measure: best, stage: sure, bound: {above: 0.9}}
  - {says: Before it had not, kind: statistical, measure: best, stage: before, at: 3,
     bound: {below: 0.6}}
"""


@pytest.fixture(autouse=True)
def bandit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENVIRONMENTS, "bandit", Bandit)
    monkeypatch.setitem(POLICIES, "averager", Averager)
    monkeypatch.setitem(POLICIES, "forgetful", Forgetful)
    monkeypatch.setitem(POLICIES, "guesser", Guesser)


def _run(folder: Path, text: str = TEXT, **options: Any):
    file = folder.with_suffix(".yaml")
    file.write_text(text)
    return run_scenario(load_scenario(str(file)), folder, progress=False, **options)


def test_learning_goes_on_into_frozen_stages(tmp_path):
    result = _run(tmp_path / "run")
    assert [v.status for v in result.verdicts] == ["holds", "holds"]
    table = open_run(result.folder).dataframe()
    assert list(table.stage.unique()) == ["before", "train", "test", "sure"]
    sizes = table[table.measure == "best"].groupby("stage", observed=True).size()
    assert sizes.to_dict() == {
        "before": 12 * 9, "train": 12 * 20 * 11, "test": 12 * 3 * 31, "sure": 12 * 21,
    }  # fmt: skip
    best = table[(table.measure == "best") & (table["round"] > 0)]
    share = best.groupby("stage", observed=True).value.mean()
    assert share["before"] < 0.5  # it knows nothing: all averages are equal, it takes the first
    assert share["test"] == pytest.approx(0.7 + 0.3 / OPTIONS, abs=0.05)
    assert share["sure"] == 1.0  # 240 choices


def test_stages_have_draws_of_their_own(tmp_path):
    twice = TEXT.replace(
        "- {name: before, rounds: 8}", "- {name: before, rounds: 8}\n  - {name: anew, rounds: 8}"
    )
    table = open_run(_run(tmp_path / "run", twice).folder).dataframe()
    earned = table[table.measure == "earned"].pivot_table(
        index=["replicate", "round"], columns="stage", values="value", observed=True
    )
    paid = earned.loc[(slice(None), slice(1, 8)), ["before", "anew"]]
    assert not np.isclose(paid.before, paid.anew).any()


def test_a_replicate_and_a_chunk_replay_alone(tmp_path, monkeypatch):
    whole = open_run(_run(tmp_path / "whole").folder).dataframe()
    monkeypatch.setattr(cells_module, "MAX_CHUNK_ELEMENTS", 5)
    chunks = open_run(_run(tmp_path / "chunks").folder).dataframe()
    assert chunks.equals(whole)
    alone = open_run(_run(tmp_path / "alone", only=[7]).folder).dataframe()
    np.testing.assert_array_equal(alone.value, whole[whole.replicate == 7].value)


def test_fitting_to_a_record(tmp_path):
    text = TEXT.replace("{name: train, loop: improve, learn: gambler, episodes: 20}",
                        "{name: train, loop: fit, learn: [gambler]}").replace(
        "{name: before, rounds: 8}", "{name: before, rounds: 60}").replace(
        "{kind: averager}", "{kind: averager, explore: 1.0}")  # fmt: skip
    result = _run(tmp_path / "run", text)
    assert result.verdicts[0].status == "holds"
    table = open_run(result.folder).dataframe()
    assert "train" not in set(table.stage)
    assert table[(table.stage == "sure") & (table["round"] > 0) & (table.measure == "best")
                 ].value.mean() == 1.0  # fmt: skip


def test_a_learner_beside_one_that_does_not_learn(tmp_path):
    arms = "control: guesser\narms: {guesser: {players.gambler: {kind: guesser}}, learner: {}}\n"
    text = TEXT[: TEXT.index("claims:")].replace("stages:", arms + "stages:") + (
        "claims: [{says: better, kind: statistical, measure: best, arm: learner, stage: test,\n"
        "  against: guesser, bound: {above: 0.3}}]\n"
    )
    assert [v.status for v in _run(tmp_path / "run", text).verdicts] == ["holds"]


def test_an_arms_parameter_counts_in_the_stages_that_leave_it_alone(here):
    file = here / "s.yaml"
    text = TEXT.replace("claims:", "arms: {a: {env.noise: 0.5}, b: {}}\ncontrol: b\nclaims:")
    text = text.replace("rounds: 20}", "rounds: 20, env: {env.noise: 2}}")
    file.write_text(text[: text.index("claims:")])
    noises = {
        cell.arm: [s.environment.noise_std for s in cell.build().stages]
        for cell in expand_and_verify(load_scenario(str(file)))
    }
    assert noises == {"a": [0.5, 0.5, 0.5, 2], "b": [1, 1, 1, 2]}
    for kept in ("rounds: 8", "episodes: 20", "episodes: 3"):
        text = text.replace(f"{kept}}}", f"{kept}, env: {{env.noise: 2}}}}")
    file.write_text(text[: text.index("claims:")])
    with refused("conflict", "stages.0.env.env.noise"):
        expand_and_verify(load_scenario(str(file)))


@pytest.mark.parametrize(
    ("old", "new", "code", "path"),
    [
        ("learn: gambler", "learn: gamblr", "unknown_name", "stages.1.learn.0"),
        ("{kind: averager}", "{kind: forgetful}", "unsupported", "stages.1.learn.0"),
        ("learn: gambler, ", "", "missing", "stages.1.learn"),
        ("stage: sure", "stage: shure", "unknown_name", "claims.0.stage"),
        ("{kind: averager}", "{kind: anyhow}", "unsupported", "stages.1.learn.0 stages.3.loop"),
        ("name: test", "name: sure", "duplicate", "stages.3.name"),
        ("at: 3", "at: 9", "out_of_range", "claims.1.at"),
        ("rounds: 8}", "rounds: 8, env: {env.nois: 2}}", "unknown_name", "stages.0.env.env.nois"),
        ("rounds: 8}", "rounds: 8, env: {players.gambler: 2}}", "invalid_value",
         "stages.0.env.players.gambler"),
        ("{name: before, rounds: 8}", "{name: before, loop: fit, learn: gambler}", "missing",
         "stages.0.learn.0 claims.1"),
    ],
)  # fmt: skip
def test_mistakes(here, old, new, code, path):
    file = here / "s.yaml"
    assert old in TEXT
    file.write_text(TEXT.replace(old, new, 1))
    with refused(code, path.split()[0]) as caught:
        expand_and_verify(load_scenario(str(file)))
    assert paths_of(caught.value) == path.split()


def test_a_stage_may_change_the_environment(tmp_path):
    text = TEXT.replace("assist, rounds: 20", "assist, rounds: 20, env: {env.noise: 0.0}")
    result = _run(tmp_path / "run", text)
    table = open_run(result.folder).dataframe()
    sure = table[(table.stage == "sure") & (table.measure == "earned") & (table["round"] > 0)]
    assert set(sure.value) == {1.5}
    told = json.loads((result.folder / "claims.json").read_text())
    assert told[0]["claim"]["stage"] == "sure"


@pytest.mark.parametrize(
    ("learns", "least", "most"),
    [
        (True, 1.1, 1.5),  # who learned plays on, also where another would be the baseline
        (False, 0.4, 0.8),  # where nobody did, the baseline of the place, which guesses
    ],
)
def test_a_learner_that_is_the_baseline_goes_on(tmp_path, monkeypatch, learns, least, most):
    class Hired(Bandit):
        def default_policies(self) -> Mapping[str, Policy]:
            return {"gambler": Averager(explore=0.3) if self.noise else Guesser()}

    monkeypatch.setitem(ENVIRONMENTS, "hired", Hired)
    text = TEXT.replace("assist, rounds: 20", "assist, rounds: 20, env: {env.noise: 0.0}")
    text = text.replace("kind: bandit", "kind: hired").replace(
        "players: {gambler: {kind: averager}}\n", ""
    )
    text = text.replace("loop: assist, rounds: 20", "rounds: 20")
    if not learns:
        text = text.replace("loop: improve, learn: gambler, ", "")
    table = open_run(_run(tmp_path / "run", text).folder).dataframe()
    sure = table[(table.stage == "sure") & (table.measure == "earned") & (table["round"] > 0)]
    assert least < sure.value.mean() < most


def test_a_baseline_that_goes_on_by_itself_is_that_of_the_place(tmp_path, monkeypatch):
    """Its parameters are those of the environment that it is in: here it never explores."""

    class Hired(Bandit):
        explore: float = 1.0

        def default_policies(self) -> Mapping[str, Policy]:
            return {"gambler": Averager(explore=self.explore)}

    monkeypatch.setitem(ENVIRONMENTS, "hired", Hired)
    text = TEXT.replace("rounds: 30, episodes: 3", "rounds: 30, env: {env.explore: 0.0}")
    text = text.replace("kind: bandit", "kind: hired").replace(
        "players: {gambler: {kind: averager}}\n", ""
    )
    table = open_run(_run(tmp_path / "run", text).folder).dataframe()
    best = table[(table.measure == "best") & (table["round"] > 0)]
    assert best[best.stage == "test"].value.mean() > 0.9
    assert best[best.stage == "train"].value.mean() < 0.5


def test_fitting_stands_in_the_environment_of_the_record(tmp_path, monkeypatch):
    """Whatever the environment is where no stage changes it: who learned there goes on there."""
    text = """\
name: elsewhere
about: A record is gathered and learned from in an environment that is not the usual one.
env: {kind: requests}
players: {assistant: {kind: sft, network: {kind: mlp, hidden: [4]}}}
rounds: 6
replicates: 2
measures: [score]
stages:
  - {name: gather, env: {env.answers: 4}}
  - {name: fit, loop: fit, learn: assistant}
  - {name: test, env: {env.answers: 4}}
"""
    folder = _run(tmp_path / "run", text).folder
    told = open_run(folder).checkpoint("main", "fit", "assistant").metadata
    assert told["seats"] == 4

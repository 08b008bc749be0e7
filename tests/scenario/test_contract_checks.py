"""`mores check` and `simulate` refuse classes that violate the contract, one fault at a time."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from mores.agents.scripted.uniform_random import UniformRandom
from mores.core.errors import UserError
from mores.core.policy import ActionOutput, Policy
from mores.experiments.run.cell_execution import run_cell
from mores.experiments.run.dry_run import check_scenario
from mores.experiments.scenario.expansion import build_and_verify
from mores.experiments.scenario.loading import load_scenario
from mores.registry import REGISTRIES, class_of
from mores.sim.first_rounds import check_first_rounds
from mores.sim.simulation import simulate
from tests.learners.small_environments import unchecked
from tests.refusals import check_message, refused

SOURCE = '''\
import random
import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from mores import ActionOutput, Box, Discrete, Environment, Part, Phase, Policy, Role, StepResult
from mores.core.deterministic_sum import mean


@dataclass(frozen=True)
class HallState:
    mood: torch.Tensor  # [world, guest]
    round: torch.Tensor  # [world]


class Hall(Environment):
    """Guests sing or not; mood moves toward singing."""

    roles = property(lambda self: (
        Role("guest", 3, Box.of(mood=1)), Role("host", 1, Box.of(mood=1))))
    phases = property(lambda self: (
        Phase("sing", {"guest": Discrete(3), "host": Box.of(light=Part(1, 0.0, 1.0))}),))

    def reset(self, streams, people=None):
        mood = streams.uniform("mood", 3)[..., 0]
        return HallState(mood, mood[:, 0] * 0)

    def observe(self, state, role, phase):
        mood = state.mood if role == "guest" else mean(state.mood, 1)[:, None]
        return mood[..., None]

    def action_mask(self, state, role, phase):
        if role == "host":
            return None
        legal = torch.ones(*state.mood.shape, 3, dtype=torch.bool)
        legal[..., 2] = False
        return legal

    def step(self, state, phase, actions, streams):
        mood = 0.9 * state.mood + 0.1 * actions["guest"] * actions["host"][..., 0]
        reward = {"guest": mood, "host": mood[:, :1]}
        feedback = {}
        terminated = None
        new = HallState(mood, state.round + 1)
        return StepResult(new, reward, terminated, feedback)

    def metrics(self, state):
        return {"mood": mean(state.mood, 1)}

    def default_policies(self):
        return {"guest": Guest(), "host": Host()}


class Guest(Policy):
    def act(self, phase, observation, action_mask, state, streams):
        action = (observation[..., 0] > 0.5).long()
        return ActionOutput(action)


class Host(Policy):
    def act(self, phase, observation, action_mask, state, streams):
        light = observation.clamp(0, 1)
        return ActionOutput(light)
'''
MOOD = 'mood = 0.9 * state.mood + 0.1 * actions["guest"] * actions["host"][..., 0]'
ACTION = "action = (observation[..., 0] > 0.5).long()"
LIGHT = "light = observation.clamp(0, 1)"
OBSERVATION = "return mood[..., None]"
LEGAL = "legal[..., 2] = False"
REWARD = 'reward = {"guest": mood, "host": mood[:, :1]}'
# Faults that shapes and dtypes show: every simulation refuses them.
SHAPES = [
    (REWARD, 'reward = {"guests": mood}', "unknown_name", "reward.guests"),
    (REWARD, 'reward = {"guest": mood[:, :2]}', "wrong_shape", "reward.guest"),
    (REWARD, 'reward = {"guest": mood.long()}', "wrong_type", "reward.guest"),
    (REWARD, "reward = mood", "wrong_type", "reward"),
    ("terminated = None", "terminated = mood > 2", "wrong_shape", "terminated"),
    ("terminated = None", "terminated = state.round", "wrong_type", "terminated"),
    ("feedback = {}", 'feedback = {"gest": {"liked": mood}}', "unknown_name", "feedback.gest"),
    ("feedback = {}", 'feedback = {"guest": {"liked": mood[0]}}', "wrong_shape", "feedback.guest"),
    ("feedback = {}", 'feedback = {"guest": mood}', "wrong_type", "feedback.guest"),
    ("return StepResult(new,", "return (new,", "wrong_type", "state"),
    (OBSERVATION, "return mood", "wrong_shape", "observation.guest"),
    (OBSERVATION, "return mood[..., None].long()", "wrong_type", "observation.guest"),
    (LEGAL, "legal = legal[:, :, :2]", "wrong_shape", "action_mask.guest"),
    (LEGAL, "legal = legal.float()", "wrong_type", "action_mask.guest"),
    (ACTION, "action = observation", "wrong_shape", "policies.guest"),
    (ACTION, "action = observation[..., 0]", "wrong_type", "policies.guest"),
    (ACTION, "action = observation[..., 0] > 0.5", "wrong_type", "policies.guest"),
    (ACTION, "action = 3 + observation[..., 0].long()", "out_of_range", "policies.guest"),
    (ACTION, "action = 2 + observation[..., 0].long()", "invalid_value", "policies.guest"),
    (LIGHT, "light = observation + 1", "out_of_range", "policies.host"),
    ("return ActionOutput(light)", "return light", "wrong_type", "policies.host"),
    ('Role("guest", 3, Box.of(mood=1))', 'Role("guest", 3, 1)', "wrong_type", "observation_space"),
    ('{"guest": Discrete(3)', '{"guest": 3', "wrong_type", "action_spaces"),
]  # fmt: skip
# Faults in values, which the first rounds of a scenario show.
VALUES = [
    (REWARD, 'reward = {"guest": mood / 0}', "not_finite", "reward.guest"),
    (OBSERVATION, "return mood[..., None] * torch.nan", "not_finite", "observation.guest"),
    (LEGAL, "legal[:, 1] = False", "invalid_value", "action_mask.guest"),
    (LIGHT, "light = observation * torch.nan", "not_finite", "policies.host"),
    ("mood[:, 0] * 0", "mood[0] * 0", "wrong_shape", "state"),
    (MOOD, "mood = state.mood.mul_(0.9)", "modified_input", "state"),
    (ACTION, "action = (observation.mul_(2)[..., 0] > 0.5).long()", "modified_input",
     "policies.guest"),
    (LIGHT, "light = observation.mul_(0).clamp(0, 1)", "modified_input", "policies.host"),
    ("mood = state.mood if", "state.mood[:] = 0; mood = state.mood if", "modified_input",
     "observation.guest"),
]  # fmt: skip
# Draws that no seed sets: the line of the draw, or else the method.
UNSEEDED = [
    (MOOD, "mood = state.mood + torch.rand(3)", "environment", "Hall.step", True),
    (MOOD, "mood = nn.functional.dropout(state.mood)", "environment", "Hall.step", True),
    ("mood = streams.uniform", "mood = 0 * torch.rand(1) + streams.uniform", "environment",
     "Hall.reset", True),
    (OBSERVATION, "return mood[..., None] + float(np.random.normal())", "environment",
     "Hall.observe", True),
    ('return {"mood": mean(state.mood, 1)}', 'return {"mood": mean(state.mood, 1) + '
     'random.random()}', "environment", "Hall.metrics", True),
    (ACTION, "action = torch.randint(0, 2, observation.shape[:2])", "policies.guest", "Guest.act",
     True),
    (ACTION, "action = torch.from_numpy(np.random.randint(0, 2, observation.shape[:2]))",
     "policies.guest", "Guest.act", True),
    (LIGHT, "light = observation.clamp(0, 1) * random.choice([0.5, 0.7])", "policies.host",
     "Host.act", True),
    # generators of one's own
    (MOOD, "mood = state.mood + float(np.random.default_rng().normal())", "state", "Hall.step",
     False),
    (MOOD, "mood = state.mood + torch.rand(3, generator=torch.Generator().manual_seed("
     "time.perf_counter_ns()))", "state", "Hall.step", False),
    (LIGHT, "light = observation * np.random.default_rng().random()", "policies.host", "Host.act",
     False),
]  # fmt: skip
# Results of a world that depend on the other worlds.
LEAKS = [
    (MOOD, "mood = state.mood + 0.1 * state.mood.mean()", "state"),
    (MOOD, "mood = state.mood.sort(0).values", "state"),
    (OBSERVATION, "return mood[..., None] / mood.sum()", "observation.guest"),
    ('return {"mood": mean(state.mood, 1)}', 'return {"mood": state.mood.mean().expand('
     "len(state.mood))}", "metrics"),
    (ACTION, "action = observation[..., 0].long() + len(observation) - 1", "policies.guest"),
]  # fmt: skip


def _module(tmp_path: Path, old: str, new: str) -> Any:
    """The module with one fault, from a file whose lines are those of `SOURCE`."""
    assert old in SOURCE
    file = tmp_path / "hall.py"
    file.write_text(SOURCE.replace(old, new))
    spec = importlib.util.spec_from_file_location("hall_of_test", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _line(old: str) -> int:
    return SOURCE[: SOURCE.index(old)].count("\n") + 1


@pytest.mark.parametrize(("old", "new", "code", "path"), SHAPES)
def test_every_simulation_refuses_wrong_results(tmp_path, old, new, code, path):
    hall = _module(tmp_path, old, new).Hall()
    with unchecked(), refused(code, path):
        simulate(hall, worlds=2, rounds=2)


@pytest.mark.parametrize(("old", "new", "code", "path"), VALUES)
def test_first_rounds_refuse_wrong_values(tmp_path, old, new, code, path):
    hall = _module(tmp_path, old, new).Hall()
    with refused(code, path):
        check_first_rounds(hall)


@pytest.mark.parametrize(("old", "new", "path", "method", "has_line"), UNSEEDED)
def test_draws_without_seed_are_located(tmp_path, old, new, path, method, has_line):
    hall = _module(tmp_path, old, new).Hall()
    with unchecked(), refused("unseeded", path) as caught:
        check_first_rounds(hall)
    message = str(caught.value)
    assert message.startswith(method)
    assert (f"(hall.py:{_line(old)})" in message) is has_line


@pytest.mark.parametrize(("old", "new", "path"), LEAKS)
def test_leaks_between_worlds(tmp_path, old, new, path):
    hall = _module(tmp_path, old, new).Hall()
    with refused("world_leak", path):
        check_first_rounds(hall)


NETWORK = "light = (observation.expand(-1, -1, 64) @ WEIGHTS).mean(-1, True).sigmoid()"


@unchecked()
def test_a_network_may_round_differently_and_no_more(tmp_path):
    """Differences of the size of rounding pass after a product of matrices, and only there."""
    module = _module(tmp_path, LIGHT, f"{NETWORK} + _shift(observation)")
    module.WEIGHTS = torch.linspace(-1, 1, 64 * 64).view(64, 64)
    for size, leaks in ((0.0, False), (1e-6, False), (1e-2, True)):
        module._shift = lambda x, size=size: -size * (len(x) - 1)
        hall = module.Hall()
        if leaks:
            with refused("world_leak", "policies.host"):
                check_first_rounds(hall)
        else:
            check_first_rounds(hall)
    module = _module(
        tmp_path, LIGHT, "light = observation.clamp(0.1, 0.9) + 1e-6 * len(observation)"
    )
    with refused("world_leak", "policies.host"):
        check_first_rounds(module.Hall())


def test_a_policy_may_declare_global_draws(tmp_path):
    """Language models are trained with libraries that draw from torch's own generator."""
    new = "action = torch.randint(0, 2, observation.shape[:2])"
    module = _module(tmp_path, ACTION, new)
    module.Guest.draws_from_global_state = True
    hall = module.Hall()
    with unchecked():
        assert set(check_first_rounds(hall)) == {"mood"}


SCENARIO = """\
name: hall
about: A class with a fault.
env: {kind: hall}
policies: {host: {kind: host}}
rounds: 3
metrics: [mood]
"""


@pytest.mark.parametrize(
    ("old", "new", "code", "path", "location"),
    [
        (MOOD, "mood = state.mood + torch.rand(3)", "unseeded", "env", "3:6"),
        (LIGHT, "light = observation * torch.rand(1)", "unseeded", "policies.host", "4:18"),
        (LIGHT, "light = observation + 1", "out_of_range", "policies.host", "4:18"),
        (LIGHT, "light = observation.undefined", "failed", "policies.host", "4:18"),
        (REWARD, 'reward = {"guests": mood}', "unknown_name", "env", "3:6"),
        (MOOD, "mood = state.mood + state.mood.mean()", "world_leak", "env", "3:6"),
        ("class Hall(Environment):", "class Hall(Environment):\n    model_post_init = lambda self, "
         "context: np.random.seed()", "unseeded", "env", "3:6"),
    ],
)  # fmt: skip
def test_check_names_the_place_in_the_scenario(
    tmp_path, monkeypatch, old, new, code, path, location
):
    module = _module(tmp_path, old, new)
    monkeypatch.setitem(REGISTRIES["environment"], "hall", module.Hall)
    monkeypatch.setitem(REGISTRIES["policy"], "host", module.Host)
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(SCENARIO)
    with unchecked(), pytest.raises(UserError) as caught:
        check_scenario(load_scenario("s.yaml"))
    error = caught.value
    assert (error.code, error.path) == (code, path)
    assert str(error).startswith(f"s.yaml:{location}: ")
    assert "\n" not in str(error)
    check_message(str(error))


PEERS = """\
name: peers
about: A graph or a rule with a fault.
env:
  kind: coevolution
  num_people: 4
  peers: {rule: degroot, graph: {kind: test_faulty}}
rounds: 3
metrics: [mean_value]
"""


@pytest.mark.parametrize(
    ("function", "code", "path"),
    [
        (lambda num_people, values: values.undefined, "failed", "env.peers.graph"),
        (lambda num_people, values: [values] * len(values), "wrong_type", "env.peers.graph"),
        (lambda num_people: [], "wrong_type", "env.peers.graph"),
    ],
)
def test_check_names_the_graph(tmp_path, monkeypatch, function, code, path):
    monkeypatch.setitem(REGISTRIES["graph"], "test_faulty", function)
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(PEERS)
    with unchecked(), pytest.raises(UserError) as caught:
        check_scenario(load_scenario("s.yaml"))
    assert (caught.value.code, caught.value.path) == (code, path), caught.value


def test_the_unchanged_class_passes(tmp_path):
    hall = _module(tmp_path, MOOD, MOOD).Hall()
    check_first_rounds(hall)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_graphs_with_other_numbers_of_ties_in_every_world_are_accepted(
    tmp_path: Path, seed: int
) -> None:
    """Ties are padded to the largest graph of the batch, which is no leak."""
    file = tmp_path / "s.yaml"
    file.write_text(
        "name: random_graphs\nabout: Every world has a graph of its own.\n"
        "env: {kind: coevolution, num_people: 20, peers: {rule: {kind: degroot}, graph: "
        "{kind: networkx, generator: gnp_random_graph, per_world: true, parameters: {p: 0.1}}}}\n"
        f"rounds: 3\nreplicates: 4\nseed: {seed}\nmetrics: [rms_distance]\n"
    )
    check_scenario(load_scenario(file))


def test_a_policy_that_declares_draws_of_its_own_is_accepted(tmp_path: Path) -> None:
    """A search for draws that runs within another one reports what it found."""

    class Guesser(Policy):
        draws_from_global_state: ClassVar[bool] = True

        def act(self, phase, observation, action_mask, state, streams):  # type: ignore[no-untyped-def]
            return ActionOutput(torch.randint(0, 2, observation.shape[:2]), state)

    file = tmp_path / "s.yaml"
    file.write_text(
        "name: guesses\nabout: Guesses.\nenv: {kind: matrix_game}\n"
        "policies: {player: {kind: global_guesser}}\n"
        "rounds: 3\nreplicates: 2\nmetrics: [cooperation_rate]\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(REGISTRIES["policy"], "global_guesser", Guesser)
        (cell,) = check_scenario(load_scenario(file))
        scenario = load_scenario(file).scenario
        assert run_cell(cell.cell, scenario, range(2), lambda _: None).drew_random_numbers


def test_checks_use_one_thread_as_runs_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of a network depend on the number of threads, and so do comparisons of bits."""
    used = []

    def act(self: UniformRandom, *args: Any, **kwargs: Any) -> ActionOutput:
        used.append(torch.get_num_threads())
        return unchanged(self, *args, **kwargs)

    unchanged = UniformRandom.act
    monkeypatch.setattr(UniformRandom, "act", act)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        check_first_rounds(class_of("environment", "matrix_game")(), {"player": "random"})
        build_and_verify(load_scenario("karate"))
        assert used and set(used) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)

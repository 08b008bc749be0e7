"""Wrong arguments of the public Python functions: one clear line, or the right result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mores
from mores.clients.pettingzoo import PettingZooAECEnv, PettingZooParallelEnv
from mores.core.environment import Environment
from mores.experiments.calibration.pipeline import calibrate
from mores.experiments.run import resume_run
from tests.refusals import refused


@pytest.fixture(autouse=True)
def _without_type_checks(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("jaxtyping_packages"):
        pytest.skip("the types of arguments are checked before the function is called")


@pytest.fixture(scope="module")
def environment() -> Environment[Any]:
    return mores.make_environment("coevolution", num_people=4)


@pytest.mark.parametrize(
    ("argument", "value", "code"),
    [
        ("worlds", [1.7], "wrong_type"),
        ("worlds", 2.0, "wrong_type"),
        ("worlds", True, "wrong_type"),
        ("worlds", "3", "wrong_type"),
        ("worlds", None, "wrong_type"),
        ("worlds", [[1, 2]], "wrong_type"),
        ("worlds", [], "out_of_range"),
        ("worlds", -3, "out_of_range"),
        ("worlds", [-3], "out_of_range"),
        ("worlds", [2**32], "out_of_range"),
        ("seed", None, "wrong_type"),
        ("seed", 1.5, "wrong_type"),
        ("seed", "1", "wrong_type"),
        ("seed", 2**64, "out_of_range"),
        ("seed", -1, "out_of_range"),
        ("policies", 3, "wrong_type"),
        ("callback", 3, "wrong_type"),
    ],
)
def test_simulate_refuses(environment: Any, argument: str, value: Any, code: str) -> None:
    with refused(code, argument):
        mores.simulate(environment, rounds=2, **{argument: value})


def test_numbers_of_numpy_are_numbers(environment: Any) -> None:
    results = [
        mores.simulate(environment, worlds=worlds, seed=seed, rounds=2, metrics=["drift"])
        for worlds, seed in [([1, 3], 5), (np.array([1, 3]), np.int64(5))]
    ]
    assert results[0].metrics.identical(results[1].metrics)


@pytest.mark.parametrize(
    "external", [3, {"assistant": 1}, {"assistant": "0"}, {"assistant": [0.0]}]
)
def test_external_agents_are_a_mapping_of_indices(environment: Any, external: Any) -> None:
    path = "external.assistant" if isinstance(external, dict) else "external"
    with refused("wrong_type", path):
        mores.Simulator(environment, environment.default_policies(), external)


@pytest.mark.parametrize("parameter", ["value_limit", "initial_std"])
def test_numbers_beyond_float32(parameter: str) -> None:
    with refused("invalid_value", f"coevolution.{parameter}"):
        mores.make_environment("coevolution", **{parameter: 1e39})


def test_policies_of_external_agents_are_not_ignored() -> None:
    policies = {"player": {"kind": "random"}}
    with refused("conflict", "policies.player"):
        PettingZooParallelEnv("matrix_game", external=["player"], policies=policies)


@pytest.mark.parametrize("name", ["agent_selection", "last", "step", "observe"])
def test_pettingzoo_before_reset(name: str) -> None:
    env = PettingZooAECEnv("matrix_game")
    assert not hasattr(env, "agent_selection")
    arguments = {"step": [0], "observe": [env.possible_agents[0]]}
    with refused("wrong_order"):
        value = getattr(env, name)
        value(*arguments.get(name, ()))


def test_parallel_step_before_reset() -> None:
    env = PettingZooParallelEnv("matrix_game")
    with refused("wrong_order"):
        env.step({})
    env.reset(seed=0)
    env.close()


def test_attached_actions_leave_no_graph(environment: Any) -> None:
    """Otherwise the memory of a long episode grows with its rounds."""
    env = mores.GymnasiumVectorEnv("coevolution", num_envs=2, num_people=4, agent="assistant_0")
    env.reset(seed=0)
    size = env.single_action_space.shape[0]
    for _ in range(2):
        observation, reward, *_ = env.step(torch.zeros(2, size, requires_grad=True))
    assert not observation.requires_grad and not reward.requires_grad
    assert not env.simulator.state.people.values.requires_grad


@pytest.mark.parametrize("path", [None, 3, ["a"]])
def test_paths_are_text_or_paths(path: Any, tmp_path: Path) -> None:
    with refused("wrong_type", "folder"):
        mores.open_run(path)
    with refused("wrong_type", "path"):
        mores.load_trained(path)
    scenario = mores.load_scenario("karate")
    for call in (mores.run_scenario, calibrate):
        if path is not None:  # None: a new folder, or no files
            with refused("wrong_type", "out"):
                call(scenario, out=path)
    with refused("wrong_type", "path"):
        mores.load_scenario(path)
    with refused("wrong_type", "folder"):
        resume_run(path)


@pytest.mark.parametrize("loaded", ["karate", None])
def test_runs_need_a_loaded_scenario(loaded: Any) -> None:
    with refused("wrong_type", "loaded"):
        mores.run_scenario(loaded)
    with refused("wrong_type", "loaded"):
        calibrate(loaded)


@pytest.mark.parametrize("kind", [["a"], None, 3])
def test_kinds_are_names(kind: Any) -> None:
    with refused("wrong_type", "environment"):
        mores.make_environment(kind)


@pytest.mark.parametrize(
    "text", ['{"name": "a\\ud800"}', '{"a\\udc00": 1}', '["\\ud83d"]', '{"name": "\\ud800']
)
def test_half_a_character_in_a_scenario(text: str, tmp_path: Path) -> None:
    file = tmp_path / "scenario.yaml"
    file.write_text(text)
    with refused("unreadable") as caught:
        mores.load_scenario(file)
    assert len(str(caught.value).splitlines()) == 1

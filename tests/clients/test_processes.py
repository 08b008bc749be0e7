"""Clients, policies and results in other processes: the same numbers after a pickle or a copy."""

from __future__ import annotations

import concurrent.futures
import copy
import multiprocessing
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from gymnasium.vector.utils import CloudpickleWrapper
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

import mores
from mores.clients.registration import gymnasium_id
from mores.clients.zoo import PettingZooModule
from tests.clients.kinds import FILTERS, KINDS, gym_make, gym_make_vec, small, zoo_make
from tests.conformance.environments import Errands
from tests.refusals import refused

pytestmark = pytest.mark.filterwarnings(*FILTERS)

CONTEXTS = ["spawn", "forkserver"]
WAYS: dict[str, Callable[[Any], Any]] = {
    "cloudpickle": lambda value: cloudpickle.loads(cloudpickle.dumps(value)),
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "deepcopy": copy.deepcopy,
}
STEPS = 5


def function_that_names_mores() -> Callable[[], bytes]:
    """A function of no importable module, whose globals are `mores` alone."""

    def errors() -> bytes:
        environment = mores.make_environment("lock_in", num_people=3)
        result = mores.simulate(environment, worlds=4, rounds=6, seed=5, metrics=["ai_error"])
        return result.metrics["ai_error"].values.tobytes()

    return errors


# --- functions in other processes ----------------------------------------------------------------


def test_function_in_a_new_interpreter() -> None:
    """The process knows the function's bytes and imports nothing before it reads them."""
    function = function_that_names_mores()
    code = "import pickle, sys; sys.stdout.buffer.write(pickle.load(sys.stdin.buffer)())"
    process = subprocess.run(
        [sys.executable, "-c", code], input=cloudpickle.dumps(function), capture_output=True
    )
    assert process.returncode == 0, process.stderr.decode()
    assert process.stdout == function()


@pytest.mark.full
@pytest.mark.parametrize("context", CONTEXTS)
def test_function_in_a_pool(context: Any) -> None:
    """As dask, joblib and ray do: a function by cloudpickle."""
    function = function_that_names_mores()
    methods = multiprocessing.get_context(context)
    with concurrent.futures.ProcessPoolExecutor(1, methods) as pool:
        assert pool.submit(CloudpickleWrapper(function)).result() == function()
        assert pool.submit(mores.make_policy, "random").result() == mores.make_policy("random")


@pytest.mark.full
def test_function_in_joblib() -> None:
    import joblib  # type: ignore[import-untyped]

    function = function_that_names_mores()
    results = joblib.Parallel(n_jobs=2)(joblib.delayed(function)() for _ in range(2))
    assert results == [function()] * 2


# --- vector environments with a process for each world -------------------------------------------


def env_functions() -> list[Callable[[], gymnasium.Env[Any, Any]]]:
    """Functions that make an environment, in processes that have not imported `mores`."""
    kwargs: dict[str, Any] = {"agent": "person_0", "rounds": 3, **small("coevolution")}
    by_id = f"mores:{gymnasium_id('coevolution')}"  # Gymnasium imports what stands before the `:`
    return [
        lambda: gymnasium.make(by_id, **kwargs),
        lambda: mores.GymnasiumEnv("coevolution", **kwargs),
    ]


def errands_functions() -> list[Callable[[], gymnasium.Env[Any, Any]]]:
    """An environment of a class that is not registered in the other process; it has masks."""
    return [lambda: mores.GymnasiumEnv(Errands(), "porter_1", rounds=3)]


@pytest.mark.parametrize("context", [pytest.param("spawn", marks=pytest.mark.full), "forkserver"])
def test_async_vector_env(context: str) -> None:
    """Equal to `SyncVectorEnv`; a `UserError` of a worker keeps its code."""
    env, expected = AsyncVectorEnv(env_functions(), context=context), SyncVectorEnv(env_functions())
    obs, expected_obs = env.reset(seed=4)[0], expected.reset(seed=4)[0]
    assert np.array_equal(obs, expected_obs)
    env.action_space.seed(1)
    for _ in range(STEPS):
        action = env.action_space.sample()
        results, expected_results = env.step(action), expected.step(action)
        for result, expected_result in zip(results[:4], expected_results[:4], strict=True):
            assert np.array_equal(result, expected_result)
    with warnings.catch_warnings(), refused("unsupported", path="options"):
        warnings.simplefilter("ignore")  # Gymnasium logs the error as warnings
        env.reset(options={"color": 1})
    env.close(terminate=True)


@pytest.mark.parametrize(
    ("context", "functions"),
    [
        pytest.param("spawn", errands_functions, marks=pytest.mark.full),
        pytest.param("forkserver", errands_functions, marks=pytest.mark.full),
        pytest.param("spawn", env_functions, marks=pytest.mark.full),
        pytest.param("forkserver", env_functions, marks=pytest.mark.full),
    ],
)
def test_subproc_vec_env(context: str, functions: Callable[[], list[Any]]) -> None:
    """Equal to `DummyVecEnv`."""
    env, expected = SubprocVecEnv(functions(), start_method=context), DummyVecEnv(functions())
    env.seed(4)
    expected.seed(4)
    assert np.array_equal(env.reset(), expected.reset())
    env.action_space.seed(1)
    for _ in range(STEPS):
        if functions is errands_functions:
            masks, others = env.env_method("action_masks"), expected.env_method("action_masks")
            assert np.array_equal(masks, others)
        actions = np.stack([env.action_space.sample() for _ in range(env.num_envs)])
        results, expected_results = env.step(actions), expected.step(actions)
        for result, expected_result in zip(results[:3], expected_results[:3], strict=True):
            assert np.array_equal(result, expected_result)
        assert str(list(results[3])) == str(expected_results[3])
    env.close()


@pytest.mark.full
def test_make_vec_async() -> None:
    kwargs = small("lock_in")
    env = gymnasium.make_vec(gymnasium_id("lock_in"), 2, "async", {"context": "spawn"}, **kwargs)
    expected = gymnasium.make_vec(gymnasium_id("lock_in"), 2, "sync", **kwargs)
    assert np.array_equal(env.reset(seed=1)[0], expected.reset(seed=1)[0])
    env.close()


# --- objects -------------------------------------------------------------------------------------


def gymnasium_trace(env: Any) -> list[bytes]:
    """Observations, rewards and masks over an episode of a single or vector environment."""
    env.action_space.seed(3)
    trace = []
    for _ in range(STEPS):
        obs, reward, terminated, truncated, info = env.step(env.action_space.sample())
        trace += [np.asarray(part).tobytes() for part in (obs, reward, terminated, truncated)]
        trace += [str(info).encode()]
        if np.all(np.asarray(terminated) | np.asarray(truncated)):
            break
    return trace


def sb3_trace(env: Any) -> list[bytes]:
    env.action_space.seed(3)
    trace = []
    for _ in range(STEPS):
        actions = np.stack([np.asarray(env.action_space.sample()) for _ in range(env.num_envs)])
        obs, rewards, dones, infos = env.step(actions)
        trace += [obs.tobytes(), rewards.tobytes(), dones.tobytes(), str(infos).encode()]
    return trace


def parallel_trace(env: Any) -> list[str]:
    trace = []
    for agent in env.possible_agents:
        env.action_space(agent).seed(3)
    while env.agents and len(trace) < STEPS:
        actions = {agent: env.action_space(agent).sample() for agent in env.agents}
        trace.append(str(env.step(actions)))
    return trace


def aec_trace(env: Any) -> list[str]:
    trace = []
    for agent in env.possible_agents:
        env.action_space(agent).seed(3)
    for agent in env.agent_iter(12 * STEPS):
        trace.append(f"{agent} {env.last()}")
        _, _, terminated, truncated, _ = env.last()
        env.step(None if terminated or truncated else env.action_space(agent).sample())
    return trace


def reset_with_seed(env: Any) -> None:
    env.reset(seed=8)


def reset_sb3(env: Any) -> None:
    env.seed(8)
    env.reset()


Client = tuple[Callable[[str], Any], Callable[[Any], None], Callable[[Any], list[Any]]]
CLIENTS: dict[str, Client] = {  # how to make it, to reset it, and what it does
    "gymnasium": (lambda kind: gym_make(kind, rounds=4), reset_with_seed, gymnasium_trace),
    "gymnasium vector": (
        lambda kind: gym_make_vec(kind, rounds=4, num_envs=3),
        reset_with_seed,
        gymnasium_trace,
    ),
    "sb3": (lambda kind: mores.SB3VecEnv(kind, 3, rounds=4, **small(kind)), reset_sb3, sb3_trace),
    "parallel": (
        lambda kind: zoo_make("parallel", kind, rounds=4),
        reset_with_seed,
        parallel_trace,
    ),
    "aec": (lambda kind: zoo_make("aec", kind, rounds=4), reset_with_seed, aec_trace),
    "converted aec": (
        lambda kind: PettingZooModule(kind).env(rounds=4, **small(kind)),
        reset_with_seed,
        aec_trace,
    ),
}


@pytest.mark.cut(12)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("client", CLIENTS)
def test_clients(client: str, kind: str, way: str) -> None:
    """A copy continues with the same numbers, from before and from after a reset."""
    make_client, reset, trace = CLIENTS[client]
    env = make_client(kind)
    before = WAYS[way](env)
    reset(env)
    reset(before)
    after = WAYS[way](env)
    expected = trace(env)
    assert len(expected) >= 2
    assert trace(before) == expected
    assert trace(after) == expected


@pytest.mark.cut(12)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_torchrl_env(kind: str, way: str) -> None:
    env = mores.TorchRLEnv(kind, 3, rounds=4, **small(kind))
    copied = WAYS[way](env)
    rollouts = []
    for each in (env, copied):
        each.set_seed(2)
        torch.manual_seed(0)
        rollouts.append(each.rollout(STEPS))
    assert (rollouts[0] == rollouts[1]).all()


@pytest.mark.parametrize("way", WAYS)
def test_environments_and_policies(way: str) -> None:
    for kind in KINDS:
        environment = mores.make_environment(kind, **small(kind))
        assert WAYS[way](environment) == environment
        for policy in environment.default_policies().values():
            assert type(WAYS[way](policy)) is type(policy)
    specs: list[dict[str, Any]] = [
        {"kind": "survey_respondent", "noise_std": 0.5},
        {"kind": "persuader", "goal": [1.0]},
        {"kind": "ppo", "network": {"kind": "gru", "hidden_size": 4}},
        {"kind": "per_agent", "policies": [{"kind": "random"}, {"kind": "dpo"}]},
    ]
    for spec in specs:
        kind, parameters = spec.pop("kind"), spec
        policy = mores.make_policy(kind, **parameters)
        assert WAYS[way](policy) == policy


@pytest.fixture(scope="module")
def trained() -> Any:
    policies = {"player": {"kind": "ppo", "num_steps": 4}}
    return mores.train("matrix_game", policies, episodes=2, rounds=8, replicates=2)


@pytest.mark.parametrize("way", WAYS)
def test_training_results(way: str, trained: Any) -> None:
    copied = WAYS[way](trained)
    assert copied.curves.equals(trained.curves)
    assert copied.evaluate(rounds=6).equals(trained.evaluate(rounds=6))


@pytest.mark.parametrize("way", WAYS)
def test_simulation_results(way: str) -> None:
    environment = mores.make_environment("coevolution", **small("coevolution"))
    result = mores.simulate(environment, rounds=3, worlds=2, metrics=["mean_value"])
    copied = WAYS[way](result)
    assert copied.metrics.identical(result.metrics)
    assert torch.equal(copied.state.people.values, result.state.people.values)


def test_runs_and_scenarios(tmp_path: Path) -> None:
    overrides = ["rounds=4", "replicates=2", "claims=[]", "record_every=1"]
    loaded = mores.load_scenario("lock_in", overrides)
    for copied in (way(loaded) for way in WAYS.values()):
        assert copied == loaded
    mores.run_scenario(loaded, tmp_path / "run", progress=False)
    run = mores.open_run(tmp_path / "run")
    expected = run.dataframe()
    for copied in (way(run) for way in WAYS.values()):
        assert copied.status == run.status
        assert copied.dataframe().equals(expected)


def test_errors() -> None:
    """Gymnasium raises the error of a worker as `type(error)(error)`."""
    with pytest.raises(mores.UserError) as raised:
        mores.make_environment("lock_in", num_peple=3)
    error = raised.value
    for copied in (*(way(error) for way in WAYS.values()), type(error)(error)):
        assert type(copied) is type(error)
        assert (str(copied), copied.code, copied.path) == (str(error), error.code, error.path)

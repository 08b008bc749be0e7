"""Gymnasium's checks of every environment and role."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import gymnasium
import numpy as np
import pettingzoo
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import ArrayConversion, RecordEpisodeStatistics

import mores.clients
from mores.clients.array_conversion import to_numpy
from mores.clients.registration import gymnasium_id
from tests.clients.kinds import AGENTS, FILTERS, KINDS, gym_make, gym_make_vec, role_names, small
from tests.conformance.environments import make
from tests.refusals import refused

pytestmark = pytest.mark.filterwarnings(*FILTERS)


@pytest.mark.cut(6)
@pytest.mark.parametrize(("kind", "agent"), AGENTS)
def test_check_env(kind: str, agent: str) -> None:
    check_env(gym_make(kind, agent=agent).unwrapped)


@pytest.mark.parametrize(("kind", "agent"), AGENTS)
def test_make_vec(kind: str, agent: str) -> None:
    env = gym_make_vec(kind, num_envs=8, agent=agent)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    observation, _ = env.reset(seed=1)
    assert observation.numpy() in env.observation_space
    for _ in range(5):
        observation, *_ = env.step(env.action_space.sample())
        assert observation.numpy() in env.observation_space


@pytest.mark.parametrize("kind", KINDS)
def test_spec_round_trip_through_json(kind: str) -> None:
    """An environment made from the saved specification has the same trajectory."""
    first = gym_make(kind, rounds=7, metrics=())
    second = gymnasium.make(EnvSpec.from_json(first.spec.to_json()))
    assert isinstance(gym_make_vec(kind, num_envs=8).spec.to_json(), str)
    for env in (first, second):
        env.action_space.seed(3)
    assert data_equivalence(first.reset(seed=3), second.reset(seed=3), exact=True)
    length = 0
    while True:
        result, other = (env.step(env.action_space.sample()) for env in (first, second))
        assert data_equivalence(result, other, exact=True)
        length += 1
        if result[2] or result[3]:
            break
    assert 1 <= length <= 7 * first.unwrapped._client.turns_per_round


@pytest.mark.parametrize("kind", KINDS)
def test_policies_by_name(kind: str) -> None:
    """Policies given as JSON are part of the specification."""
    first, last = role_names(kind)[0], role_names(kind)[-1]
    if sum(role.num_agents for role in make(kind).roles) == 1:
        pytest.skip("no other agent has a policy")
    env = gym_make(kind, policies={first: {"kind": "random"}}, agent=f"{last}_0")
    copy = gymnasium.make(EnvSpec.from_json(env.spec.to_json()))
    assert data_equivalence(env.reset(seed=3), copy.reset(seed=3), exact=True)


@pytest.mark.skipif(
    tuple(map(int, gymnasium.__version__.split(".")[:2])) < (1, 4),
    reason="its recorder is wrong with SAME_STEP: tests/bug_reports/test_old_recorders.py",
)
@pytest.mark.cut(6)
@pytest.mark.parametrize(("kind", "agent"), AGENTS)
def test_true_episode_lengths(kind: str, agent: str) -> None:
    """`RecordEpisodeStatistics` around `ArrayConversion` has true lengths and returns."""
    rounds, steps, worlds = 5, 40, 8
    vector = gym_make_vec(kind, num_envs=worlds, agent=agent, rounds=rounds)
    turns = vector.unwrapped._client.turns_per_round
    env = RecordEpisodeStatistics(ArrayConversion(vector, env_xp=torch, target_xp=np))
    env.reset(seed=1)
    env.action_space.seed(1)
    length, expected, recorded, total = np.zeros(worlds, int), [], [], np.zeros(worlds)
    for _ in range(steps):
        _, reward, terminated, truncated, info = env.step(env.action_space.sample())
        length, total = length + 1, total + reward
        done = terminated | truncated
        assert ("episode" in info) == bool(done.any())
        if done.any():
            expected += [*zip(length[done].tolist(), total[done].tolist(), strict=True)]
            recorded += zip(*(info["episode"][key][done].tolist() for key in "lr"), strict=True)
            length, total = np.where(done, 0, length), np.where(done, 0.0, total)
    assert len(recorded) >= worlds
    np.testing.assert_allclose(recorded, expected, rtol=1e-4)
    lengths = [length for length, _ in recorded]
    assert max(lengths) == rounds * turns
    assert all(length % turns == 0 for length in lengths)


@pytest.mark.parametrize("kind", KINDS)
def test_max_episode_steps(kind: str) -> None:
    """Gymnasium may pass a limit in turns of the agent, for one world and for many."""
    turns = gym_make(kind).unwrapped._client.turns_per_round
    env = gym_make_vec(kind, num_envs=2, max_episode_steps=2 * turns)
    env.reset(seed=1)
    ends = [env.step(env.action_space.sample())[3].tolist() for _ in range(2 * turns)]
    assert ends[-1] == [True, True] or kind == "moral_hazard"  # it can terminate earlier
    assert not any(any(end) for end in ends[:-1])
    if turns > 1:
        with refused("invalid_value", path="max_episode_steps"):
            gym_make_vec(kind, num_envs=2, max_episode_steps=2 * turns + 1)
    single = gym_make(kind, max_episode_steps=3)
    single.reset(seed=1)
    single.action_space.seed(1)
    ends = [single.step(single.action_space.sample())[3] for _ in range(3)]
    assert ends == [False, False, True]


@pytest.mark.cut(3)
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_gymnasium_vectorization(mode: str) -> None:
    """Gymnasium's vectors of single environments, in this process and in others."""
    env = gymnasium.make_vec(
        gymnasium_id("coevolution"),
        num_envs=2,
        vectorization_mode=mode,
        rounds=3,
        **small("coevolution"),
    )
    env.reset(seed=1)
    for _ in range(7):
        _, _, _, truncated, _ = env.step(env.action_space.sample())
    env.close()
    assert truncated.tolist() == [True, True]


def test_ids() -> None:
    """An id contains the class name; the error for an unknown id contains the nearest one."""
    assert gymnasium_id("dr_mdp") == "mores/DRMDP-v0"
    assert gymnasium_id("lock_in") == "mores/LockIn-v1"
    with pytest.raises(gymnasium.error.NameNotFound, match="`LockIn`"):
        gymnasium.make("mores/LokIn-v0")
    with refused("unknown_name", path="lock_in.peple"):
        gymnasium.make("mores/LockIn-v1", peple=3)
    for made_by in (gymnasium.make, gymnasium.make_vec):  # another environment than that of the id
        with refused("conflict", path="environment"):
            made_by("mores/LockIn-v1", environment="dr_mdp")
    assert gymnasium.make("mores/LockIn-v1", environment="lock_in").spec is not None


def test_spaces_are_not_subscripted() -> None:
    """Most classes of spaces are generic from Gymnasium 1.4 on only: 1.2 could not import them."""
    pattern = re.compile(r"spaces\.(?!Space\b|Sequence\b)[A-Z]\w*\[")
    for file in sorted(Path(mores.clients.__file__).parent.glob("*.py")):
        assert not pattern.search(file.read_text("utf-8")), file


def test_lowest_requirements() -> None:
    """Every required dependency has a lower bound, with which `make test-lowest` runs."""
    path = Path(__file__).parents[2] / "scripts" / "lowest_requirements.py"
    lines = runpy.run_path(str(path))["lowest_requirements"]()
    assert "torch==2.13" in lines and "gymnasium[array-api]==1.2" in lines
    assert all(re.fullmatch(r"[A-Za-z0-9-]+(\[[a-z-]+\])?==[0-9.]+", line) for line in lines)


def test_unknown_arguments() -> None:
    """TypeErrors that name what is near, of the client and of the environment, in one line.

    TorchRL's `GymEnv` passes `frameskip` and reads the text of the error.
    """
    for name, near in (
        ("round", "'rounds'"),
        ("num_agent", "'num_assistants' or 'agent'"),
        ("frameskip", "lock_in has: "),
    ):
        with refused("unknown_name", path=f"lock_in.{name}") as raised:
            gymnasium.make("mores/LockIn-v1", **{name: 5})
        assert isinstance(raised.value, TypeError)
        assert f"unexpected keyword argument '{name}'" in str(raised.value)
        assert near in str(raised.value) and "\n" not in str(raised.value)
    with refused("unknown_name", path="lock_in.max_cycle"):
        pettingzoo.make("parallel", "mores/lock_in_v1", max_cycle=3)  # type: ignore


@pytest.mark.cut(8)
@pytest.mark.parametrize("kind", KINDS)
def test_torchrls_gym_env(kind: str) -> None:
    torchrl_envs = pytest.importorskip("torchrl.envs", reason="an extra: pip install mores[rl]")
    env = torchrl_envs.GymEnv(gymnasium_id(kind), rounds=2, **small(kind))
    assert env.rollout(2).batch_size[0] in (1, 2)


def test_numpy_arrays() -> None:
    """`array="numpy"` returns the same numbers as `array="torch"`."""
    envs = [gym_make_vec("errands", num_envs=3, rounds=2, array=a) for a in ("numpy", "torch")]
    results = [tuple(map(to_numpy, env.reset(seed=1))) for env in envs]
    for _ in range(4):
        action = envs[0].action_space.sample()
        assert data_equivalence(results[0], results[1], exact=True)
        results = [tuple(map(to_numpy, env.step(action))) for env in envs]
    assert isinstance(envs[0].unwrapped.action_masks(), np.ndarray)


def test_calls_before_reset() -> None:
    env = gym_make("errands", render_mode="rgb_array").unwrapped
    for call in (env.action_masks, env.render, lambda: env.step(0)):  # type: ignore[attr-defined]
        with refused("wrong_order"):
            call()

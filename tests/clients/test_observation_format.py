"""Observations as mappings with an action mask, in every client that has masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import MultiDiscrete
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from pettingzoo.test import api_test, parallel_api_test

from mores.clients.gymnasium import GymnasiumEnv
from mores.clients.gymnasium_vector import GymnasiumVectorEnv
from mores.clients.pettingzoo import PettingZooParallelEnv
from tests.clients.kinds import AGENTS, FILTERS, KINDS, gym_make, small, zoo_make
from tests.conformance.environments import Errands
from tests.learners.small_environments import unchecked
from tests.refusals import refused

pytestmark = pytest.mark.filterwarnings(*FILTERS)


def concatenated(mask: Any) -> np.ndarray:
    return np.concatenate(mask) if isinstance(mask, tuple) else mask


@pytest.mark.cut(10)
@pytest.mark.parametrize(("kind", "agent"), AGENTS)
def test_gymnasium(kind: str, agent: str) -> None:
    """The mapping holds the vector and the mask of `info`."""
    env, vector_env = (gym_make(kind, agent=agent, observation=f) for f in ("dict", "vector"))
    check_env(env.unwrapped, skip_render_check=True)
    env.action_space.seed(1)
    (obs, info), (vector, _) = env.reset(seed=1), vector_env.reset(seed=1)
    for _ in range(4):
        assert np.array_equal(obs["observation"], vector)
        assert ("action_mask" in obs) == ("action_mask" in info)
        if "action_mask" in info:
            assert np.array_equal(obs["action_mask"], concatenated(info["action_mask"]))
        action = env.action_space.sample(info.get("action_mask"))
        (obs, _, terminated, truncated, info), (vector, *_) = (
            each.step(action) for each in (env, vector_env)
        )
        if terminated or truncated:
            break


@pytest.mark.parametrize("mode", AutoresetMode)
def test_vectors_of_worlds(mode: AutoresetMode) -> None:
    """Masks lead with the worlds, also those of final observations."""
    agent = "clerk_0" if mode is AutoresetMode.NEXT_STEP else "porter_0"
    kwargs: dict[str, Any] = {"agent": agent, "rounds": 2, "observation": "dict"}
    env = GymnasiumVectorEnv(Errands(), 3, autoreset_mode=mode, array="numpy", **kwargs)
    single = GymnasiumEnv(Errands(), **kwargs)
    obs, info = env.reset(seed=1)
    assert obs in env.observation_space
    assert single.observation_space == env.single_observation_space
    num_ends = 0
    for _ in range(8):
        assert np.array_equal(obs["action_mask"], info["action_mask"])
        obs, _, terminated, truncated, info = env.step(env.action_space.sample())
        assert obs in env.observation_space
        done = terminated | truncated
        num_ends += done.sum()
        if mode is AutoresetMode.SAME_STEP and done.any():
            last = {name: part[done] for name, part in info["final_obs"].items()}
            assert last["action_mask"].any(1).all()
            assert np.array_equal(last["observation"].shape, (done.sum(), single_size(env)))
        if mode is AutoresetMode.DISABLED and done.any():
            obs, info = env.reset(options={"reset_mask": done})
    assert num_ends


def single_size(env: GymnasiumVectorEnv) -> int:
    return env.single_observation_space["observation"].shape[0]


@pytest.mark.cut(20)
@pytest.mark.parametrize("kind", KINDS)
def test_pettingzoo(kind: str) -> None:
    env = PettingZooParallelEnv(kind, observation="dict", **small(kind))
    other = PettingZooParallelEnv(kind, **small(kind))
    observations, infos = env.reset(seed=3)
    vectors, _ = other.reset(seed=3)
    assert np.array_equal(env.state(), other.state())
    for agent, obs in observations.items():
        assert np.array_equal(obs["observation"], vectors[agent])
        if "action_mask" in infos[agent]:
            assert np.array_equal(obs["action_mask"], concatenated(infos[agent]["action_mask"]))
    if not any(isinstance(space, MultiDiscrete) for space in env.action_spaces.values()):
        # PettingZoo's tests give the mask to `sample`, which takes those of choices in a tuple
        parallel_api_test(zoo_make("parallel", kind, rounds=3, observation="dict"), num_cycles=10)
        api_test(zoo_make("aec", kind, rounds=3, observation="dict"), num_cycles=10)


@unchecked()
def test_what_is_no_format_is_refused() -> None:
    with refused("unknown_name", "observation"):
        GymnasiumEnv("dr_mdp", observation="dictionary")
    with refused("wrong_type", "observation"):
        GymnasiumEnv("dr_mdp", observation=True)  # type: ignore[arg-type]
    with refused("unknown_name", "array"):
        GymnasiumVectorEnv("dr_mdp", array="jax")

"""SuperSuit's wrappers of the parallel environment: their numbers are those of its definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("supersuit")

import supersuit
from pettingzoo.test import parallel_api_test

from tests.clients.kinds import FILTERS, zoo_make

pytestmark = pytest.mark.filterwarnings(*FILTERS)
ROUNDS = 6


def lock_in() -> Any:
    return zoo_make("parallel", "lock_in", rounds=ROUNDS)


def wrapped(name: str) -> Any:
    env = lock_in()
    wrappers = {
        "frame_skip": lambda: supersuit.frame_skip_v0(env, 2),
        "frame_stack": lambda: supersuit.frame_stack_v1(env, 3),
        "agent_indicator": lambda: supersuit.agent_indicator_v0(env),
        "dtype": lambda: supersuit.dtype_v0(env, np.float64),
        "flatten": lambda: supersuit.flatten_v0(env),
        "clip_reward": lambda: supersuit.clip_reward_v0(env, -1, 1),
        "reward_lambda": lambda: supersuit.reward_lambda_v0(env, lambda reward: reward / 2),
        "clip_actions": lambda: supersuit.clip_actions_v0(env),
        "sticky_actions": lambda: supersuit.sticky_actions_v0(env, 0.25),
        "delay_observations": lambda: supersuit.delay_observations_v0(env, 1),
        "black_death": lambda: supersuit.black_death_v3(env),
        "nan_noop": lambda: supersuit.nan_random_v0(env),
    }
    return wrappers[name]()


WRAPPERS = [
    *("frame_skip", "frame_stack", "agent_indicator", "dtype", "flatten", "clip_reward"),
    *("reward_lambda", "clip_actions", "sticky_actions", "delay_observations", "black_death"),
    "nan_noop",
]


@pytest.mark.cut(4)
@pytest.mark.parametrize("name", WRAPPERS)
def test_api(name: str) -> None:
    parallel_api_test(wrapped(name), num_cycles=20)


def test_frame_skip_sums_rewards() -> None:
    """One step of the wrapper is two of the environment with the same actions."""
    env, skipping = lock_in(), wrapped("frame_skip")
    for each in (env, skipping):
        each.reset(seed=3)
    for step in range(ROUNDS // 2):
        actions = {
            agent: np.full(1, float(step + i), np.float32)
            for i, agent in enumerate(env.possible_agents)
        }
        first, second = env.step(actions), env.step(actions)
        observations, rewards, _, truncations, _ = skipping.step(actions)
        for agent in env.possible_agents:
            assert np.array_equal(observations[agent], second[0][agent])
            assert np.isclose(rewards[agent], first[1][agent] + second[1][agent])
            assert truncations[agent] == (step == ROUNDS // 2 - 1)

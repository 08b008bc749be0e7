"""Stable-Baselines3 checks and trains every agent; with SuperSuit all agents at once."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env

from mores.clients import gymnasium_spaces
from tests.clients.kinds import AGENTS, FILTERS, KINDS, gym_make, role_names, zoo_make
from tests.conformance.environments import make

pytestmark = pytest.mark.filterwarnings(*FILTERS)


@pytest.mark.parametrize(("kind", "agent"), AGENTS)
def test_check_env(kind: str, agent: str) -> None:
    check_env(gym_make(kind, agent=agent))


@pytest.mark.cut(8)
@pytest.mark.parametrize(("kind", "agent"), AGENTS)
def test_ppo(kind: str, agent: str) -> None:
    env = gym_make(kind, agent=agent, rounds=20)
    learner = PPO("MlpPolicy", env, n_steps=64, batch_size=32, n_epochs=1, seed=0, device="cpu")
    learner.learn(256)
    assert learner.num_timesteps == 256
    lengths = [episode["l"] for episode in learner.ep_info_buffer or ()]
    assert lengths, "no episode ended"
    assert max(lengths) <= 20 * env.unwrapped._client.turns_per_round


def train_all_agents(env: Any, supersuit: Any, num_agents: int) -> None:
    """Train one policy for all agents of two worlds. (SuperSuit's vector takes no seed.)"""
    env = supersuit.pettingzoo_env_to_vec_env_v1(env)
    env = supersuit.concat_vec_envs_v1(env, 2, num_cpus=0, base_class="stable_baselines3")
    assert env.num_envs == 2 * num_agents
    learner = PPO("MlpPolicy", env, n_steps=32, batch_size=32, n_epochs=1, device="cpu")
    learner.learn(64 * num_agents)
    assert learner.num_timesteps == 64 * num_agents


def can_be_padded(kind: str) -> bool:
    """Whether all actions are boxes, or all single choices: SuperSuit pads no others."""
    env = make(kind)
    classes = {type(gymnasium_spaces.action_space(env, role.name)) for role in env.roles}
    return classes in ({spaces.Box}, {spaces.Discrete})


@pytest.mark.cut(8)
@pytest.mark.parametrize("kind", filter(can_be_padded, KINDS))
def test_supersuit(kind: str) -> None:
    """One policy for all roles: their spaces are padded to the largest."""
    supersuit = pytest.importorskip("supersuit")
    env = zoo_make("parallel", kind, rounds=10)
    num_agents = len(env.possible_agents)
    env = supersuit.pad_action_space_v0(supersuit.pad_observations_v0(env))
    train_all_agents(env, supersuit, num_agents)


@pytest.mark.cut(8)
@pytest.mark.parametrize("kind", KINDS)
def test_supersuit_one_role(kind: str) -> None:
    """One external role needs no padding."""
    supersuit = pytest.importorskip("supersuit")
    role = role_names(kind)[-1]
    env = zoo_make("parallel", kind, rounds=10, external=[role])
    train_all_agents(env, supersuit, len(env.possible_agents))


def test_environments_by_id() -> None:
    """Stable-Baselines3 tries `rgb_array` first and falls back on a `TypeError`."""
    from stable_baselines3.common.env_util import make_vec_env

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert make_vec_env("mores/Coevolution-v1", n_envs=2).num_envs == 2
        PPO("MlpPolicy", "mores/Coevolution-v1", n_steps=16, batch_size=16).learn(16)

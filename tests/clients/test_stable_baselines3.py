"""Stable-Baselines3 checks every seat, and learns at it; through SuperSuit at all seats at once."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env

from mores.clients import gymnasium_spaces
from tests.clients.kinds import KINDS, MEANT, SEATS, gym_make, roles, zoo_make
from tests.conformance.games import make

pytestmark = pytest.mark.filterwarnings(*MEANT)


@pytest.mark.parametrize(("kind", "seat"), SEATS)
def test_check_env(kind: str, seat: str) -> None:
    check_env(gym_make(kind, seat=seat))


@pytest.mark.parametrize(("kind", "seat"), SEATS)
def test_ppo(kind: str, seat: str) -> None:
    env = gym_make(kind, seat=seat, rounds=20)
    learner = PPO("MlpPolicy", env, n_steps=64, batch_size=32, n_epochs=1, seed=0, device="cpu")
    learner.learn(256)
    assert learner.num_timesteps == 256
    lengths = [episode["l"] for episode in learner.ep_info_buffer or ()]
    assert lengths, "no episode was seen to end"
    assert max(lengths) <= 20 * env.unwrapped._own.turns_per_round


def learn_at_all(env: Any, supersuit: Any, seats: int) -> None:
    """One policy for all seats of two worlds. (No seed: SuperSuit's vector takes none.)"""
    env = supersuit.pettingzoo_env_to_vec_env_v1(env)
    env = supersuit.concat_vec_envs_v1(env, 2, num_cpus=0, base_class="stable_baselines3")
    assert env.num_envs == 2 * seats
    learner = PPO("MlpPolicy", env, n_steps=32, batch_size=32, n_epochs=1, device="cpu")
    learner.learn(64 * seats)
    assert learner.num_timesteps == 64 * seats


def alike(kind: str) -> bool:
    """All roles act in spaces of one class: SuperSuit pads no others."""
    game = make(kind)
    return len({type(gymnasium_spaces.action_space(game, role.name)) for role in game.roles}) == 1


@pytest.mark.parametrize("kind", filter(alike, KINDS))
def test_supersuit(kind: str) -> None:
    """All roles under one policy: their spaces are padded to the largest."""
    supersuit = pytest.importorskip("supersuit")
    env = zoo_make("parallel", kind, rounds=10)
    seats = len(env.possible_agents)
    env = supersuit.pad_action_space_v0(supersuit.pad_observations_v0(env))
    learn_at_all(env, supersuit, seats)


@pytest.mark.parametrize("kind", KINDS)
def test_supersuit_one_role(kind: str) -> None:
    """One role outside, the others played inside: no padding is needed."""
    supersuit = pytest.importorskip("supersuit")
    role = roles(kind)[-1]
    env = zoo_make("parallel", kind, rounds=10, outside=[role])
    learn_at_all(env, supersuit, len(env.possible_agents))


def test_the_entries_of_stable_baselines3_by_id() -> None:
    """They try `rgb_array` first, and fall back on a `TypeError`."""
    from stable_baselines3.common.env_util import make_vec_env

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert make_vec_env("mores/Coevolution-v0", n_envs=2).num_envs == 2
        PPO("MlpPolicy", "mores/Coevolution-v0", n_steps=16, batch_size=16).learn(16)

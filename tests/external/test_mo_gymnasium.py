"""Vector rewards pass MO-Gymnasium's wrappers; their components add up to the rewards of agents."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("mo_gymnasium", reason="an environment of its own: make test-clients")

import mo_gymnasium
from mo_gymnasium.wrappers import LinearReward, MOClipReward, MONormalizeReward
from mo_gymnasium.wrappers import MORecordEpisodeStatistics as Recorder
from mo_gymnasium.wrappers.vector import MOSyncVectorEnv

from mores.clients.registration import gymnasium_id
from tests.clients.kinds import KINDS, role_names, small

ROUNDS = 3


def make_env(kind: str, **kwargs: Any) -> Any:
    """The rewards of all agents of the first role, as a vector."""
    components = [role_names(kind)[0]]
    made = mo_gymnasium.make(
        gymnasium_id(kind), rounds=ROUNDS, reward_vector=components, **small(kind), **kwargs
    )
    assert made.unwrapped.reward_space.shape == (len(made.unwrapped.reward_labels),)
    return made


@pytest.mark.cut(8)
@pytest.mark.parametrize("kind", KINDS)
def test_wrappers(kind: str) -> None:
    """A weight vector selects a component; statistics sum each component."""
    plain, env = make_env(kind), make_env(kind)
    size = plain.unwrapped.reward_space.shape[0]
    weight = np.arange(1.0, size + 1)
    env = LinearReward(Recorder(env), weight=weight)
    for each in (plain, env):
        each.reset(seed=1)
    plain.action_space.seed(1)
    total, done = np.zeros(size), False
    while not done:
        action = plain.action_space.sample()
        _, vector, terminated, truncated, _ = plain.step(action)
        _, reward, *_, info = env.step(action)
        assert plain.unwrapped.reward_space.contains(vector)
        assert np.isclose(reward, vector @ weight, rtol=1e-4)
        total, done = total + vector, terminated or truncated
    np.testing.assert_allclose(info["episode"]["r"], total, rtol=1e-4, atol=1e-5)


def test_normalized_and_clipped_components() -> None:
    env = make_env("dr_mdp", agent="assistant_0")
    size = env.unwrapped.reward_space.shape[0]
    for index in range(size):
        env = MOClipReward(MONormalizeReward(env, idx=index), idx=index, min_r=-0.5, max_r=0.5)
    env.reset(seed=1)
    rewards = [env.step(1)[1] for _ in range(ROUNDS)]
    assert np.isfinite(rewards).all() and (np.abs(rewards) <= 0.5).all()


def test_vector_of_environments() -> None:
    envs = MOSyncVectorEnv([lambda: make_env("dr_mdp", agent="assistant_0") for _ in range(2)])
    envs.reset(seed=1)
    size = envs.reward_space.shape[0]
    ends = []
    for _ in range(ROUNDS):
        _, rewards, _, truncated, _ = envs.step(envs.action_space.sample())
        assert rewards.shape == (2, size) and rewards.dtype == np.float32
        ends.append(truncated.tolist())
    assert ends == [[False, False]] * (ROUNDS - 1) + [[True, True]]

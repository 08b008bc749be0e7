"""A dataset of Minari holds what was simulated, bit for bit, and recovers its environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("minari", reason="an environment of its own: make test-clients")

import minari

from tests.clients.kinds import AGENTS, gym_make


@pytest.mark.cut(8)
@pytest.mark.parametrize(("kind", "agent"), AGENTS)
def test_dataset_equals_the_episodes(
    kind: str, agent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saved, loaded again, and replayed in the environment that the dataset recovers."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    env = minari.DataCollector(gym_make(kind, agent=agent, rounds=3))
    env.action_space.seed(1)
    episodes = [episode(env, seed=seed) for seed in range(2)]
    name = "mores/test-v0"
    env.create_dataset(name, algorithm_name="random", num_episodes_average_score=1)
    dataset = minari.load_dataset(name)
    assert dataset.total_episodes == 2
    recovered = dataset.recover_environment()
    assert recovered.unwrapped.agent_id.name == agent
    for seed, (observations, actions, rewards) in enumerate(episodes):
        stored = dataset[seed]
        assert np.array_equal(stored.observations, observations)
        assert np.array_equal(stored.actions, actions)
        assert np.array_equal(stored.rewards, rewards)
        again = episode(recovered, seed=seed, actions=actions)
        for one, other in zip(again, (observations, actions, rewards), strict=True):
            assert np.array_equal(one, other)


def episode(env: Any, seed: int, actions: Any = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Observations `[step + 1, size]`, actions and rewards of an episode."""
    observation, _ = env.reset(seed=seed)
    observations, taken, rewards, done = [observation], [], [], False
    while not done:
        action = env.action_space.sample() if actions is None else actions[len(taken)]
        observation, reward, terminated, truncated, _ = env.step(action)
        observations.append(observation)
        taken.append(action)
        rewards.append(reward)
        done = terminated or truncated
    return np.stack(observations), np.stack(taken), np.array(rewards)

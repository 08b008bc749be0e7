"""A dataset of Minari holds what was simulated, bit for bit, and recovers its environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("minari", reason="needs a separate virtual environment: make test-clients")

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
    for seed, simulated in enumerate(episodes):
        stored = dataset[seed]
        again = episode(recovered, seed=seed, actions=simulated["actions"])
        for name, expected in simulated.items():
            assert same_bits(getattr(stored, name), expected), name
            assert same_bits(again[name], expected), name


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether arrays are equal in shape, type and every bit."""
    return (one.shape, one.dtype, one.tobytes()) == (other.shape, other.dtype, other.tobytes())


def episode(env: Any, seed: int, actions: Any = None) -> dict[str, np.ndarray]:
    """Arrays of an episode as Minari names them; observations are `[step + 1, size]`."""
    observation, _ = env.reset(seed=seed)
    observations, taken, rewards, ends = [observation], [], [], []
    while not ends or not any(ends[-1]):
        action = env.action_space.sample() if actions is None else actions[len(taken)]
        observation, reward, terminated, truncated, _ = env.step(action)
        observations.append(observation)
        taken.append(action)
        rewards.append(reward)
        ends.append((terminated, truncated))
    return {
        "observations": np.stack(observations),
        "actions": np.stack(taken),
        "rewards": np.array(rewards),
        "terminations": np.array([terminated for terminated, _ in ends]),
        "truncations": np.array([truncated for _, truncated in ends]),
    }

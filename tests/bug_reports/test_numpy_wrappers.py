"""Wrappers that know only numpy work around the vector environment.

Report about a peer: a conversion of tensors to numpy fails on other devices,
https://github.com/Farama-Foundation/Gymnasium/issues/1108
"""

from __future__ import annotations

import gymnasium
import numpy as np
from gymnasium.wrappers import vector

import mores.clients.registration

WORLDS = 3


def test_numpy_wrappers_get_arrays() -> None:
    """Normalization, clipped and scaled rewards, statistics: their numbers are those of numpy."""
    made = gymnasium.make_vec(
        mores.clients.registration.gymnasium_id("lock_in"),
        num_envs=WORLDS,
        rounds=4,
        num_people=2,
        autoreset_mode="NextStep",
        array="numpy",
    )
    inner = vector.TransformReward(made, lambda reward: np.clip(reward, -1.0, 1.0) / 2)
    env = vector.RecordEpisodeStatistics(vector.NormalizeObservation(inner))
    observation, _ = env.reset(seed=2)
    seen = [observation]
    for _ in range(10):
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert all(type(part) is np.ndarray for part in (observation, reward, truncated))
        assert (np.abs(reward) <= 0.5).all()
        seen.append(observation)
        if truncated.any():
            assert set(info["episode"]["l"][truncated].tolist()) == {4}
    assert bool(np.isfinite(np.stack(seen)).all())
    assert observation.dtype == np.float32 and not terminated.any()

"""Recorders of episodes of every supported version of Gymnasium count true lengths and returns.

Report about a peer: lengths are off by one in all episodes but the first,
https://github.com/Farama-Foundation/Gymnasium/issues/1017. Recorders before 1.4 count one step
less with SAME_STEP, https://github.com/Farama-Foundation/Gymnasium/pull/1624: for them there is
NEXT_STEP.
"""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers.vector import RecordEpisodeStatistics

import mores.clients.registration

ROUNDS, WORLDS = 3, 2
VERSION = tuple(int(number) for number in gymnasium.__version__.split(".")[:2])


@pytest.mark.parametrize(
    "mode",
    [
        pytest.param(
            "SameStep",
            marks=pytest.mark.skipif(VERSION < (1, 4), reason="Gymnasium's recorder is wrong"),
        ),
        "NextStep",
    ],
)
def test_recorder_counts_every_step(mode: str) -> None:
    env = RecordEpisodeStatistics(
        gymnasium.make_vec(
            mores.clients.registration.gymnasium_id("dr_mdp"),
            num_envs=WORLDS,
            rounds=ROUNDS,
            num_people=1,
            autoreset_mode=mode,
            array="numpy",
        )
    )
    env.reset(seed=1)
    lengths, returns, total = [], [], np.zeros(WORLDS)
    for _ in range(4 * (ROUNDS + 1)):
        _, reward, terminated, truncated, info = env.step(np.ones(WORLDS, dtype=np.int64))
        total += reward
        done = terminated | truncated
        if done.any():
            lengths += info["episode"]["l"][done].tolist()
            returns += (info["episode"]["r"] - total)[done].tolist()
            total[done] = 0.0
    assert len(lengths) >= 4 * WORLDS
    assert set(lengths) == {ROUNDS}
    np.testing.assert_allclose(returns, 0.0, atol=1e-5)

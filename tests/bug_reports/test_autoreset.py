"""The step that ends an episode returns its last observation, not the first of the next one.

Reports about peers: a vector environment resets one step too early,
https://github.com/Farama-Foundation/Gymnasium/issues/914; the last transition of an episode is
wrong, https://github.com/HumanCompatibleAI/imitation/issues/1
"""

from __future__ import annotations

from typing import Any

import gymnasium
import torch

import mores.clients.registration

ROUNDS, WORLDS = 3, 4


def vector(mode: str) -> tuple[gymnasium.vector.VectorEnv, Any]:
    kind = mores.clients.registration.gymnasium_id("lock_in")
    env = gymnasium.make_vec(
        kind, num_envs=WORLDS, rounds=ROUNDS, num_people=3, autoreset_mode=mode
    )
    return env, env.reset(seed=5)[0]


def test_modes_agree_on_the_last_observation() -> None:
    (same, _), (later, _), (disabled, _) = map(vector, ("SameStep", "NextStep", "Disabled"))
    actions = torch.ones(WORLDS, 1)
    for step in range(ROUNDS):
        first, _, _, truncated, info = same.step(actions)
        last, _, _, later_truncated, _ = later.step(actions)
        true_last, _, _, true_truncated, _ = disabled.step(actions)
        assert bool(truncated.all()) == (step == ROUNDS - 1)
        assert torch.equal(truncated, later_truncated) and torch.equal(truncated, true_truncated)
        assert torch.equal(last, true_last)
    assert torch.equal(info["final_obs"], true_last)
    assert not torch.equal(first, true_last)
    next_first, reward, *_ = later.step(actions)  # the step that resets
    assert torch.equal(next_first, first) and not bool(reward.any())
    mask = {"reset_mask": torch.ones(WORLDS, dtype=torch.bool)}
    assert torch.equal(disabled.reset(options=mask)[0], first)

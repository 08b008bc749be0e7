"""A reset of some worlds changes no other world.

Reports about peers: no reset of finished worlds alone,
https://github.com/proroklab/VectorizedMultiAgentSimulator/issues/73; a reset of some environments
never returns, https://github.com/Farama-Foundation/Arcade-Learning-Environment/issues/676
"""

from __future__ import annotations

import gymnasium
import pytest
import torch

import mores.clients.registration

WORLDS, RESET = 4, torch.tensor([False, True, False, False])


def vector() -> gymnasium.vector.VectorEnv:
    env = gymnasium.make_vec(
        mores.clients.registration.gymnasium_id("lock_in"),
        num_envs=WORLDS,
        rounds=9,
        num_people=3,
        autoreset_mode="Disabled",
    )
    env.reset(seed=3)
    return env


@pytest.mark.parametrize("as_numpy", [False, True], ids=["tensor", "numpy"])
def test_other_worlds_continue(as_numpy: bool) -> None:
    env, other = vector(), vector()
    mask = RESET.numpy() if as_numpy else RESET
    for step in range(4):
        if step == 2:
            observation, _ = env.reset(options={"reset_mask": mask})
            assert torch.equal(observation[~RESET], expected[~RESET])
        actions = torch.full((WORLDS, 1), float(step))
        observation, reward, *_ = env.step(actions)
        expected, expected_reward, *_ = other.step(actions)
        assert torch.equal(observation[~RESET], expected[~RESET])
        assert torch.equal(reward[~RESET], expected_reward[~RESET])
    assert not torch.equal(observation[RESET], expected[RESET])

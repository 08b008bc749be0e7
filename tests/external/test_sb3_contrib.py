"""Learners of sb3-contrib obey the masks of single environments and of `SB3VecEnv`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("sb3_contrib", reason="an environment of its own: make test-clients")

import gymnasium
from sb3_contrib import MaskablePPO, RecurrentPPO
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported

import mores
from tests.clients.kinds import AGENTS, gym_make, small

MASKED = [
    (kind, agent)
    for kind, agent in AGENTS
    if not isinstance(gym_make(kind, agent=agent).action_space, gymnasium.spaces.Box)
]


def train(env: Any) -> tuple[MaskablePPO, int, int]:
    """A learner after 64 steps; its number of illegal actions, and of steps with a mask."""
    learner = MaskablePPO("MlpPolicy", env, n_steps=16, batch_size=16, n_epochs=1, seed=0)
    steps, illegal, masked = 0, 0, 0

    def count(values: dict[str, Any], _: dict[str, Any]) -> bool:
        nonlocal steps, illegal, masked
        steps += len(values["infos"])
        illegal += sum(bool(info["projected"]) for info in values["infos"])
        masked += int((~values["action_masks"].astype(bool)).any())
        return True

    learner.learn(64, callback=count)
    assert steps == 64
    return learner, illegal, masked


@pytest.mark.cut(8)
@pytest.mark.parametrize(("kind", "agent"), MASKED)
def test_no_action_is_illegal(kind: str, agent: str) -> None:
    learner, illegal, _ = train(gym_make(kind, agent=agent, rounds=4))
    assert illegal == 0
    env = learner.get_env()
    assert env is not None and is_masking_supported(env)
    observation = env.reset()
    for _ in range(8):
        masks = get_action_masks(env)
        actions, _ = learner.predict(observation, action_masks=masks)
        observation, _, _, infos = env.step(actions)
        assert not infos[0]["projected"]


def test_many_worlds() -> None:
    """`SB3VecEnv` has a mask for each world, and masks that exclude options."""
    env = mores.SB3VecEnv("moral_hazard", 4, agent="agent_0", rounds=4, **small("moral_hazard"))
    _, illegal, masked = train(env)
    assert illegal == 0 and masked > 0


def test_recurrent_learner() -> None:
    env = mores.SB3VecEnv("dr_mdp", 2, rounds=4, num_people=1)
    learner = RecurrentPPO("MlpLstmPolicy", env, n_steps=16, batch_size=16, n_epochs=1, seed=0)
    learner.learn(64)
    action, state = learner.predict(env.reset(), deterministic=True)
    assert action.shape == (2,) and all(np.isfinite(part).all() for part in state)

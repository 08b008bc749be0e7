"""Clients that are source code at a path: `MORES_EPYMARL`, `MORES_PUFFERLIB`.

They are installed by nobody here: the tests run where a variable names a folder with their code.
"""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

from tests.clients.kinds import gym_make, zoo_make


def use_source(variable: str, monkeypatch: pytest.MonkeyPatch, *folders: str) -> None:
    """Import from the folder that the variable names, or skip the test."""
    root = os.environ.get(variable)
    if not root:
        pytest.skip(f"{variable} names no folder")
    for folder in folders:
        monkeypatch.syspath_prepend(os.path.join(root, folder))
    assert sys.path


def test_epymarl(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its wrapper of PettingZoo environments: joint steps, masks and the state."""
    use_source("MORES_EPYMARL", monkeypatch, "src")
    from envs.pz_wrapper import PettingZooWrapper  # type: ignore[import-not-found]

    made = zoo_make("parallel", "dr_mdp", external=["assistant"], rounds=4)
    monkeypatch.setattr("pettingzoo.make", lambda *_, **__: made)
    env = PettingZooWrapper("mores", "dr_mdp")
    env.reset()
    for _ in range(4):
        observations, rewards, done, truncated, _ = env.step(env.action_space.sample())
    assert len(observations) == len(rewards) == len(made.possible_agents)
    assert done or truncated


def test_pufferlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its emulation flattens observations and pads nothing."""
    use_source("MORES_PUFFERLIB", monkeypatch, "")
    import pufferlib.emulation  # type: ignore[import-not-found]

    env = pufferlib.emulation.GymnasiumPufferEnv(
        env_creator=lambda **_: gym_make("dr_mdp", agent="assistant_0", rounds=4)
    )
    observation, _ = env.reset(seed=1)
    assert np.asarray(observation).shape[-1] == env.single_observation_space.shape[0]
    for _ in range(4):
        *_, truncated, _ = env.step(env.single_action_space.sample())
    assert bool(np.asarray(truncated).all())

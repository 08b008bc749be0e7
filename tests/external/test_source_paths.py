"""Clients that are source code at a path: `MORES_EPYMARL`, `MORES_PUFFERLIB`.

Nothing installs them: the tests run where a variable names a folder with their code.
"""

from __future__ import annotations

import importlib
import os
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.clients.kinds import gym_make, zoo_make

ROUNDS = 4


def import_source(variable: str, folder: str, module: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of the code in the folder that the variable names; else the test is skipped."""
    root = os.environ.get(variable)
    if not root:
        pytest.skip(f"{variable} names no folder")
    monkeypatch.syspath_prepend(os.path.join(root, folder))
    for name in [name for name in sys.modules if name.split(".")[0] == module.split(".")[0]]:
        monkeypatch.delitem(sys.modules, name)  # EPyMARL's `envs` is not the folder of mores
    return importlib.import_module(module)


def test_epymarl(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its wrapper of PettingZoo environments, which imports a module with `parallel_env`."""
    wrapper = import_source("MORES_EPYMARL", "src/envs", "pz_wrapper", monkeypatch)
    module = SimpleNamespace(
        parallel_env=lambda **kwargs: zoo_make(
            "parallel", "dr_mdp", external=["assistant"], rounds=ROUNDS, **kwargs
        )
    )
    monkeypatch.setitem(sys.modules, "pettingzoo.mores.dr_mdp", module)
    env = wrapper.PettingZooWrapper("mores", "dr_mdp")
    observations, _ = env.reset(seed=1)
    assert env.observation_space.contains(observations)
    for _ in range(ROUNDS - 1):
        observations, rewards, done, truncated, _ = env.step(env.action_space.sample())
        assert len(observations) == len(rewards) == env.n_agents
        assert env.observation_space.contains(observations)
        assert not done and not truncated


def test_pufferlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its emulation flattens the observations of a Gymnasium environment."""
    emulation = import_source("MORES_PUFFERLIB", "", "pufferlib.emulation", monkeypatch)
    env = emulation.GymnasiumPufferEnv(
        env_creator=lambda **_: gym_make("dr_mdp", agent="assistant_0", rounds=ROUNDS)
    )
    observation, _ = env.reset(seed=1)
    assert np.asarray(observation).shape[-1] == env.single_observation_space.shape[0]
    for _ in range(ROUNDS):
        *_, truncated, _ = env.step(env.single_action_space.sample())
    assert bool(np.asarray(truncated).all())

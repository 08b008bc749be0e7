"""Last observation and mask of an episode: of the phase in which the agent acts, in every client.

All worlds of `ENDLESS` end together, at the limit of rounds, so that no other world runs on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from mores.clients.gymnasium import GymnasiumEnv
from mores.clients.gymnasium_vector import GymnasiumVectorEnv
from mores.clients.pettingzoo import PettingZooAECEnv, PettingZooParallelEnv
from tests.conformance.environments import Relay

ENDLESS = Relay(termination_probability=0)
ROUNDS, SEED, WORLDS = 2, 3, 2
RUN = 1.0  # index of the phase in which runners act: the last part of their observation


def last_turn(simulator: Any, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Observation and mask of a runner of the only world, from the environment itself."""
    observation = ENDLESS.observe(simulator.state, "runner", "run")[0, index].numpy()
    mask = ENDLESS.action_mask(simulator.state, "runner", "run")
    assert mask is not None and observation[-1] == RUN and not mask.all()
    return observation, mask[0, index].numpy()


def single_world() -> tuple[np.ndarray, np.ndarray]:
    """Last observation and mask of `GymnasiumEnv`, in both formats of observations."""
    found = []
    for observation in ("dict", "vector"):
        env: Any = GymnasiumEnv(ENDLESS, "runner_1", ROUNDS, observation=observation)
        env.reset(seed=SEED)
        for _ in range(ROUNDS):
            obs, _, _, truncated, info = env.step(1)
        assert truncated
        vector, mask = last_turn(env.simulator, 1)
        masks = [info["action_mask"], env.action_masks()]
        if observation == "dict":
            masks.append(obs["action_mask"])
            obs = obs["observation"]
        assert np.array_equal(obs, vector)
        assert all(np.array_equal(each, mask) for each in masks)
        found.append((vector, mask))
    return found[0]


@pytest.mark.parametrize("observation", ["dict", "vector"])
@pytest.mark.parametrize("mode", AutoresetMode)
def test_gymnasium(mode: AutoresetMode, observation: str) -> None:
    """Those of a batch are those of the single world, which are the environment's."""
    vector, mask = single_world()
    env: Any = GymnasiumVectorEnv(
        ENDLESS,
        WORLDS,
        "runner_1",
        ROUNDS,
        autoreset_mode=mode,
        observation=observation,
        array="numpy",
    )
    env.reset(seed=SEED)
    for _ in range(ROUNDS):
        obs, _, _, truncated, info = env.step(np.ones(WORLDS, int))
    assert truncated.all()
    if mode is AutoresetMode.SAME_STEP:
        obs, info = info["final_obs"], info["final_info"]
        assert info["_action_mask"].all()
    else:
        assert np.array_equal(env.action_masks()[0], mask)
    masks = [info["action_mask"]]
    if observation == "dict":
        masks.append(obs["action_mask"])
        obs = obs["observation"]
    assert np.array_equal(obs[0], vector)
    assert (obs[:, -1] == RUN).all()
    assert all(np.array_equal(each[0], mask) for each in masks)


@pytest.mark.parametrize("observation", ["dict", "vector"])
def test_pettingzoo(observation: str) -> None:
    """With all roles external the caller acts first in a round: its phase is not the runners'."""
    env = PettingZooParallelEnv(ENDLESS, rounds=ROUNDS, observation=observation)
    env.reset(seed=SEED)
    while env.agents:
        observations, _, _, _, infos = env.step(dict.fromkeys(env.agents, 1))
    for index in range(ENDLESS.num_runners):
        vector, mask = last_turn(env.simulator, index)
        obs: Any = observations[f"runner_{index}"]
        if observation == "dict":
            assert np.array_equal(obs["action_mask"], mask)
            obs = obs["observation"]
        assert np.array_equal(obs, vector)
        assert np.array_equal(infos[f"runner_{index}"]["action_mask"], mask)
    aec = PettingZooAECEnv(ENDLESS, rounds=ROUNDS, observation=observation)
    aec.reset(seed=SEED)
    while not any(aec.truncations.values()):
        aec.step(1)
    for name, info in infos.items():
        assert np.array_equal(aec.infos[name]["action_mask"], info["action_mask"])


@pytest.mark.parametrize("external", [["runner"], ["caller", "runner"]])
@pytest.mark.parametrize("probability", [0.0, 0.4])  # 0.4: other worlds run on
def test_torchrl(external: list[str], probability: float) -> None:
    pytest.importorskip("torchrl", reason="an extra: pip install mores[rl]")
    from mores.clients.torchrl import TorchRLEnv

    relay = Relay(termination_probability=probability)
    env = TorchRLEnv(relay, 8, external, rounds=ROUNDS)
    env.set_seed(SEED)
    data = env.reset()
    first = data["runner", "mask"]
    while True:
        data = env.step(env.rand_action(data))["next"]
        done = data["done"][:, 0]
        if done.any():
            break
    assert bool(done.all()) == (not probability)
    mask = relay.action_mask(env.simulator.state, "runner", "run")
    assert mask is not None
    assert torch.equal(data["runner", "action_mask"][done], mask[done])
    observation = relay.observe(env.simulator.state, "runner", "run")
    assert torch.equal(data["runner", "observation"][done], observation[done])
    assert torch.equal(data["runner", "mask"], first)

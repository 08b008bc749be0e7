"""Rewards, ends and final observations in every client."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mores.clients.gymnasium import GymnasiumEnv
from mores.clients.gymnasium_vector import GymnasiumVectorEnv
from mores.clients.pettingzoo import PettingZooAECEnv, PettingZooParallelEnv
from tests.conformance.environments import Relay
from tests.refusals import refused


def test_reward_with_autoreset() -> None:
    """Rewards of an episode sum to those of its rounds, although the next one has begun."""
    env = GymnasiumVectorEnv(Relay(), 16, "runner_2", rounds=6)
    env.reset(seed=4)
    total, rounds, lengths = torch.zeros(16), torch.zeros(16), []
    for _ in range(40):
        _, reward, terminated, truncated, info = env.step(first_legal(env))
        total, rounds = total + reward, rounds + 1
        done = terminated | truncated
        assert torch.equal(total[done], 3 * 111 * rounds[done])
        assert torch.equal(truncated, (rounds == 6) & ~terminated)
        lengths += rounds[done].tolist()
        total[done], rounds[done] = 0.0, 0.0
        assert ("final_obs" in info) == bool(done.any())
    assert set(lengths) == {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}


def first_legal(env: GymnasiumVectorEnv) -> torch.Tensor:
    """The first legal option in every world."""
    mask = env._client.action_mask()
    assert mask is not None
    return mask.int().argmax(-1)


def test_final_observation_is_of_the_ended_episode() -> None:
    """It equals the last observation of a single world, not the first of the next episode."""
    relay = Relay(termination_probability=0)
    vector = GymnasiumVectorEnv(relay, 1, "runner_0", rounds=2)
    single = GymnasiumEnv(relay, "runner_0", rounds=2)
    vector.reset(seed=5)
    _, info = single.reset(seed=5)
    for _ in range(2):
        action = int(np.flatnonzero(info["action_mask"])[-1])
        obs, *_, vector_info = vector.step(torch.tensor([action]))
        last_obs, _, _, truncated, info = single.step(action)
    assert truncated
    assert torch.equal(vector_info["final_obs"][0], torch.from_numpy(last_obs))
    assert not torch.equal(obs[0], vector_info["final_obs"][0])
    assert last_obs[2] == action  # the last action is in the last observation


def test_final_observation_is_zero_in_running_worlds() -> None:
    env = GymnasiumVectorEnv(Relay(), 12, "caller_0", rounds=9)
    env.reset(seed=1)
    info = {}
    while not info.get("_final_obs", torch.zeros(1)).any():
        *_, info = env.step(first_legal(env))
    done = info["_final_obs"]
    assert not done.all()
    assert not info["final_obs"][~done].any()
    assert torch.equal(info["_final_info"], done)


@pytest.mark.parametrize("client", [PettingZooParallelEnv, PettingZooAECEnv])
def test_max_cycles_counts_phases(client: type) -> None:
    """It can truncate an episode within a round."""
    env = client(Relay(termination_probability=0), max_cycles=4)
    env.reset(seed=1)
    steps = 0
    while env.agents:
        steps += 1
        if client is PettingZooParallelEnv:
            *_, truncated, _ = env.step(dict.fromkeys(env.agents, 1))
            done = all(truncated.values())
        else:
            done = env.truncations[env.agent_selection]
            env.step(None if done else 1)
    assert done
    # AEC: the turns of four phases, then one step with None for each of four agents
    assert steps == (4 if client is PettingZooParallelEnv else 1 + 3 + 1 + 1 + 4)
    with refused("out_of_range", path="max_cycles"):
        client(Relay(), max_cycles=0)


def test_step_after_the_end() -> None:
    env = GymnasiumEnv(Relay(termination_probability=1), "caller_0")
    env.reset(seed=1)
    env.step(0)
    assert env.step(0)[2]
    with refused("wrong_order"):
        env.step(0)
    parallel = PettingZooParallelEnv(Relay(), max_cycles=1)
    parallel.reset()
    parallel.step({"caller_0": 0})
    assert parallel.step({}) == ({}, {}, {}, {}, {})

"""What every view promises of pay, ends, and what is seen last."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mores.clients.gymnasium import GymnasiumEnv
from mores.clients.gymnasium_vector import GymnasiumVectorEnv
from mores.clients.pettingzoo import PettingZooAECEnv, PettingZooParallelEnv
from tests.conformance.games import Relay
from tests.refusals import refused


def test_pay_over_same_step_autoreset() -> None:
    """Every episode's pay adds up to its rounds, though the next one has begun and earned."""
    env = GymnasiumVectorEnv(Relay(), 16, "runner_2", rounds=6)
    env.reset(seed=4)
    paid, rounds, lengths = torch.zeros(16), torch.zeros(16), []
    for _ in range(40):
        _, pay, terminated, truncated, info = env.step(info_choice(env))
        paid, rounds = paid + pay, rounds + 1
        over = terminated | truncated
        assert torch.equal(paid[over], 3 * 111 * rounds[over])
        assert torch.equal(truncated, (rounds == 6) & ~terminated)
        lengths += rounds[over].tolist()
        paid[over], rounds[over] = 0.0, 0.0
        assert ("final_obs" in info) == bool(over.any())
    assert set(lengths) == {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}


def info_choice(env: GymnasiumVectorEnv) -> torch.Tensor:
    """The first open option in every world."""
    mask = env._client.action_mask()
    assert mask is not None
    return mask.int().argmax(-1)


def test_final_observation_is_the_true_last_one() -> None:
    """It is what a single world shows at its end, and not the start of the next episode."""
    vector, single = GymnasiumVectorEnv(Relay(quits=0), 1, "runner_0", rounds=2), None
    single = GymnasiumEnv(Relay(quits=0), "runner_0", rounds=2)
    vector.reset(seed=5)
    _, info = single.reset(seed=5)
    for _ in range(2):
        choice = int(np.flatnonzero(info["action_mask"])[-1])
        seen, *_, told = vector.step(torch.tensor([choice]))
        last, _, _, truncated, info = single.step(choice)
    assert truncated
    assert torch.equal(told["final_obs"][0], torch.from_numpy(last))
    assert not torch.equal(seen[0], told["final_obs"][0])
    assert last[2] == choice  # what it did in its last turn is in its last sight


def test_where_no_world_ended_the_final_observation_is_empty() -> None:
    env = GymnasiumVectorEnv(Relay(), 12, "caller_0", rounds=9)
    env.reset(seed=1)
    told = {}
    while not told.get("_final_obs", torch.zeros(1)).any():
        *_, told = env.step(info_choice(env))
    ended = told["_final_obs"]
    assert not ended.all()
    assert not told["final_obs"][~ended].any()
    assert torch.equal(told["_final_info"], ended)


@pytest.mark.parametrize("form", [PettingZooParallelEnv, PettingZooAECEnv])
def test_max_cycles_counts_phases(form: type) -> None:
    """It may cut an episode off within a round."""
    env = form(Relay(quits=0), max_cycles=4)
    env.reset(seed=1)
    steps = 0
    while env.agents:
        steps += 1
        if form is PettingZooParallelEnv:
            *_, truncated, _ = env.step(dict.fromkeys(env.agents, 1))
            over = all(truncated.values())
        else:
            over = env.truncations[env.agent_selection]
            env.step(None if over else 1)
    assert over
    assert steps == (
        4 if form is PettingZooParallelEnv else 1 + 3 + 1 + 1 + 4
    )  # and four are told the end
    with refused("out_of_range", path="max_cycles"):
        form(Relay(), max_cycles=0)


def test_after_the_end() -> None:
    env = GymnasiumEnv(Relay(quits=1), "caller_0")
    env.reset(seed=1)
    env.step(0)
    assert env.step(0)[2]
    with refused("wrong_order"):
        env.step(0)
    parallel = PettingZooParallelEnv(Relay(), max_cycles=1)
    parallel.reset()
    parallel.step({"caller_0": 0})
    assert parallel.step({}) == ({}, {}, {}, {}, {})

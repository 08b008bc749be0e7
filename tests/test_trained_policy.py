"""Trained policies as functions of observations, in loops outside of mores."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

import mores
from tests.refusals import refused

PPO = {"kind": "ppo", "num_steps": 8}
GRU = {"kind": "gru", "hidden_size": 4}


def train(environment: Any = "matrix_game", role: str = "player", policy: Any = PPO) -> Any:
    return mores.train(environment, {role: policy}, episodes=2, rounds=8, replicates=2, seed=1)


@pytest.mark.parametrize("network", [{"kind": "mlp"}, GRU], ids=lambda network: network["kind"])
def test_actions_equal_those_of_an_evaluation(network: Any) -> None:
    """Also of recurrent networks: each agent and replicate has its own models."""
    result = train(policy={**PPO, "network": network, "parameter_sharing": "agent"})
    run = result.evaluate(record=["actions", "observations"])
    for replicate in (0, 1):
        for agent in (0, 1):
            policy = result.policy("player", replicate=replicate, agent=agent)
            obs = run["observations_player"].values[replicate, 0, :, agent]
            actions = run["actions_player"].values[replicate, 0, :, agent]
            assert [int(policy(each)) for each in obs] == actions.tolist()
            policy.reset()
            assert [int(policy(each)) for each in obs] == actions.tolist()


def test_arrays_batches_and_masks() -> None:
    result = train(policy={**PPO, "network": GRU})
    size = result.environment.roles[0].observation_space.size
    batch = np.random.default_rng(0).normal(size=(5, size)).astype(np.float32)
    policy = result.policy("player")
    actions = policy(batch)
    assert isinstance(actions, np.ndarray) and actions.shape == (5,)
    one = result.policy("player")(torch.from_numpy(batch[2]))
    assert isinstance(one, torch.Tensor) and one.shape == () and int(one) == actions[2]
    second = policy(batch)
    policy.reset([True, False, False, False, False])  # one entry begins anew, the others go on
    reset = policy(batch)
    fresh, later = result.policy("player"), result.policy("player")
    assert reset[0] == fresh(batch)[0]
    assert [*later(batch), *later(batch)] == [*actions, *second]
    for option in (0, 1):
        mask = np.zeros((5, 2), np.int8)
        mask[:, option] = 1
        assert (result.policy("player")(batch, mask) == option).all()


def test_sampled_actions_follow_the_seed() -> None:
    result = train()
    size = result.environment.roles[0].observation_space.size
    batch = np.zeros((400, size), np.float32)
    first, again, other = (
        result.policy("player", deterministic=False, seed=seed)(batch) for seed in (3, 3, 4)
    )
    assert (first == again).all() and (first != other).any()
    assert 100 < first.sum() < 300
    assert len(set(result.policy("player")(batch))) == 1


def test_a_loop_of_gymnasium() -> None:
    trained = mores.train("dr_mdp", {"assistant": PPO}, episodes=2, rounds=8)
    env = gymnasium.make("mores/DRMDP-v0", agent="assistant_0", rounds=8)
    policy, ended = trained.policy("assistant"), False
    observation, info = env.reset(seed=0)
    while not ended:
        action = policy(observation, info["action_mask"])
        observation, _, terminated, truncated, info = env.step(action)
        assert not info["projected"]
        ended = terminated or truncated


def test_a_role_of_several_phases_is_called_once_for_each() -> None:
    """The principal offers and pays in turn: a loop of Gymnasium has the same order."""
    result = mores.train(
        "moral_hazard", {"principal": PPO}, episodes=1, rounds=8, seed=3, replicates=2
    )
    run = result.evaluate(record=["actions", "action_masks", "observations"])
    policy, rounds = result.policy("principal"), np.flatnonzero(run["active"][0, 0])
    assert len(rounds) > 1
    for index in rounds:
        for phase in ("offer", "pay"):
            names = [f"{name}_principal_{phase}" for name in ("observations", "actions")]
            obs, action = (run[name].values[0, 0, index, 0] for name in names)
            mask = f"action_masks_principal_{phase}"
            masked = run[mask].values[0, 0, index, 0] if mask in run else None
            assert int(policy(obs, masked)) == action
    policy(obs)
    with refused("wrong_order", path="reset_mask"):  # the entry would pay first
        policy.reset([True])


def test_masks_of_clients_are_padded_to_the_largest_phase() -> None:
    learner = {"kind": "ppo", "num_steps": 4}
    setup = {"episodes": 1, "rounds": 4, "replicates": 2}
    policy = mores.train("principal_agent", {"agent": learner}, **setup).policy("agent")
    worlds = gymnasium.make_vec("mores/PrincipalAgent-v0", num_envs=3, agent="agent_0", rounds=4)
    observation, info = worlds.reset(seed=1)
    legal = []
    for _ in range(4):
        actions = policy(observation, info["action_mask"])
        legal.append(info["action_mask"].gather(1, actions[:, None].long()).all())
        observation, *_, info = worlds.step(actions)
    assert all(legal)
    policy.reset()
    observation, info = worlds.reset(seed=1)
    beyond = torch.ones_like(info["action_mask"])
    with refused("invalid_value", "action_mask"):
        for _ in range(2):  # one of its phases has fewer options
            policy(observation, beyond)


def test_what_does_not_fit_is_refused() -> None:
    result = train()
    size = result.environment.roles[0].observation_space.size
    for kwargs, code, path in [
        ({"replicate": 2}, "out_of_range", "replicate"),
        ({"agent": 2}, "out_of_range", "agent"),
        ({"phase": "talk"}, "unknown_name", "phase"),
    ]:
        with refused(code, path=path):
            result.policy("player", **kwargs)
    with refused("unknown_name", path="policies.playr"):
        result.policy("playr")
    policy = result.policy("player")
    with refused("wrong_shape", path="observation"):
        policy(np.zeros(size + 1))
    with refused("wrong_shape", path="action_mask"):
        policy(np.zeros(size), np.ones(3))
    policy(np.zeros((2, size)))
    with refused("wrong_shape", path="observation"):
        policy(np.zeros((3, size)))
    with refused("wrong_shape", path="reset_mask"):
        policy.reset([True])
    respondent = {
        "kind": "survey_respondent",
        "noise_std": {"kind": "uniform", "low": 0.1, "high": 2.0},
    }
    community = {"kind": "coevolution", "num_people": 4}
    result = mores.train(community, {"assistant": PPO, "person": respondent}, episodes=1, rounds=8)
    with refused("unsupported", path="policies.person"):
        result.policy("person")

"""Tianshou's multi-agent learners play the native AEC environment and obey its masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("tianshou", reason="an environment of its own: make test-clients")

import pettingzoo
import torch
from gymnasium.spaces import Discrete
from tianshou.algorithm.modelfree.dqn import DQN, DiscreteQLearningPolicy
from tianshou.algorithm.multiagent.marl import MultiAgentOffPolicyAlgorithm
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv, PettingZooEnv
from tianshou.trainer import OffPolicyTrainerParams
from tianshou.utils.net.common import Net

from mores.clients.registration import pettingzoo_id
from tests.clients.kinds import KINDS, role_names, small, zoo_make

DISCRETE = [
    (kind, role)
    for kind in KINDS
    for role in role_names(kind)
    if isinstance(zoo_make("aec", kind).action_space(f"{role}_0"), Discrete)
]


class Recorder(PettingZooEnv):
    """Counts the actions that were illegal."""

    illegal = 0
    steps = 0

    def step(self, action: Any) -> Any:
        agent = self.env.agent_selection
        result = super().step(action)
        if agent in self.env.agents:
            Recorder.illegal += bool(self.env.infos[agent]["projected"])
            Recorder.steps += 1
        return result


def make_env(kind: str, role: str) -> PettingZooEnv:
    return Recorder(
        pettingzoo.make(
            "aec",
            pettingzoo_id(kind),
            external=[role],
            rounds=4,
            observation="dict",
            **small(kind),
        )
    )


@pytest.mark.cut(8)
@pytest.mark.parametrize(("kind", "role"), DISCRETE)
def test_dqn_of_all_agents_of_a_role(kind: str, role: str) -> None:
    """A network per agent trains; exploring too, no action is illegal."""
    torch.manual_seed(0)
    np.random.seed(0)
    Recorder.illegal = Recorder.steps = 0
    env = make_env(kind, role)
    shape, num_options = env.observation_space["observation"].shape, env.action_space.n
    networks = [
        Net(state_shape=shape, action_shape=num_options, hidden_sizes=[8]) for _ in env.agents
    ]
    before = [network.model.model[0].weight.clone() for network in networks]
    algorithm = MultiAgentOffPolicyAlgorithm(
        algorithms=[
            DQN(
                policy=DiscreteQLearningPolicy(
                    model=network, action_space=env.action_space, eps_training=0.5
                ),
                optim=AdamOptimizerFactory(lr=1e-2),
            )
            for network in networks
        ],
        env=env,
    )
    envs = DummyVectorEnv([lambda: make_env(kind, role) for _ in range(2)])
    collector = Collector(algorithm, envs, VectorReplayBuffer(1000, 2), exploration_noise=True)
    collector.reset()
    result = algorithm.run_training(
        OffPolicyTrainerParams(
            training_collector=collector,
            max_epochs=1,
            epoch_num_steps=10 * len(networks),
            collection_step_num_env_steps=10 * len(networks),
            batch_size=16,
            update_step_num_gradient_steps_per_sample=0.1,
            verbose=False,
            show_progress=False,
            test_in_training=False,
        )
    )
    assert result.update_step > 0
    after = [network.model.model[0].weight for network in networks]
    assert all(not torch.equal(*pair) for pair in zip(before, after, strict=True))
    assert Recorder.steps >= 10 * len(networks)
    assert Recorder.illegal == 0

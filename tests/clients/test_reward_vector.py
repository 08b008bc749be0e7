"""Rewards as vectors: components by agent, role and feedback, also in MO-Gymnasium's wrappers."""

from __future__ import annotations

import dataclasses
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from mores.clients.gymnasium import GymnasiumEnv
from mores.clients.gymnasium_vector import GymnasiumVectorEnv
from mores.core.environment import StepResult
from mores.sim.episode_recorder import EpisodeRecorder
from mores.sim.simulator import Simulator
from tests.clients.kinds import FILTERS
from tests.conformance.environments import Relay, simulator_seed
from tests.refusals import refused

pytestmark = pytest.mark.filterwarnings(*FILTERS)


@pytest.mark.cut(2)
@pytest.mark.parametrize("agent", ["runner_1", "caller_0"])
@pytest.mark.parametrize("mode", ["SameStep", "Disabled"])
def test_the_agents_component_is_its_reward(agent: str, mode: str) -> None:
    """Also where episodes end at different times and policies act before the next turn."""
    kwargs: dict[str, Any] = {"agent": agent, "rounds": 7, "autoreset_mode": mode}
    scalar = GymnasiumVectorEnv(Relay(), 6, **kwargs)
    names = ["caller", "runner", agent]
    vector = GymnasiumVectorEnv(Relay(), 6, reward_vector=names, **kwargs)
    assert vector.reward_space is not None and scalar.reward_space is None
    assert vector.reward_labels[-1] == agent
    both = scalar, vector
    for env in both:
        env.reset(seed=5)
    scalar.action_space.seed(0)
    total = torch.zeros(())
    for _ in range(30):
        action = scalar.action_space.sample()
        (_, reward, terminated, truncated, _), (_, rewards, *_) = (e.step(action) for e in both)
        assert rewards.shape == (6, *vector.reward_space.shape)
        assert torch.equal(rewards[:, -1], reward)
        assert torch.equal(rewards[:, vector.reward_labels.index(agent)], reward)
        total += reward.abs().sum()
        done = terminated | truncated
        if mode == "Disabled" and done.any():
            for env in both:
                env.reset(options={"reset_mask": done})
    assert total > 0


def test_components_of_other_roles_add_up() -> None:
    """Over an episode, to the rewards that a recorder receives."""
    names = ["caller", "runner"]
    env = GymnasiumEnv(Relay(), agent="runner_1", rounds=7, reward_vector=names)
    recorder = EpisodeRecorder(names)
    external = {"runner": [1]}
    simulator = Simulator(
        Relay(), Relay().default_policies(), external, rounds=7, recorder=recorder
    )
    env.reset(seed=5)
    simulator.reset(simulator_seed(5))
    total, done = np.zeros(len(env.reward_labels)), False
    while not done:
        action = env.action_space.sample()
        _, reward, terminated, truncated, _ = env.step(action)
        simulator.step({"runner": torch.tensor([[int(action)]])})
        total, done = total + reward, terminated or truncated
    recorded = [recorder.dataset(role).reward for role in names]
    expected = torch.cat([r[0].sum(0) for r in recorded if r is not None])
    np.testing.assert_allclose(total, expected.numpy(), rtol=1e-5)
    assert np.abs(total).min() > 0


PRINCIPALS: dict[str, Any] = {
    "num_completions": 2,
    "num_principals": 3,
    "conflict": 1.0,
}


def token_feedback(**kwargs: Any) -> gymnasium.Env:
    """Two assistants with a reward from each of three principals, at the end of a completion."""
    return gymnasium.make(
        "mores/TokenFeedback-v0",
        disable_env_checker=True,  # it asks for floats
        **PRINCIPALS,
        reward_vector=["feedback.reward"],
        **kwargs,
    )


def test_one_component_per_principal() -> None:
    """The agent's own reward is the mean of its principals' rewards."""
    env = token_feedback()
    own = gymnasium.make("mores/TokenFeedback-v0", **PRINCIPALS)
    env.reset(seed=2)
    own.reset(seed=2)
    assert env.unwrapped.reward_labels == tuple(f"feedback.reward_{i}" for i in range(3))
    total, expected, done = np.zeros(3), 0.0, False
    while not done:
        action = env.action_space.sample()
        (_, reward, done, *_), (_, scalar, *_) = env.step(action), own.step(action)
        assert reward in env.unwrapped.reward_space
        assert isinstance(scalar, float)
        total, expected = total + reward, expected + scalar
    assert len(set(total)) == 3
    np.testing.assert_allclose(total.mean(), expected, rtol=1e-5)


def test_mo_gymnasium() -> None:
    wrappers = pytest.importorskip("mo_gymnasium.wrappers", reason="pip install mo-gymnasium")
    env = wrappers.MORecordEpisodeStatistics(token_feedback())
    env = wrappers.LinearReward(env, weight=np.array([1.0, 2.0, 0.0]))
    env.reset(seed=2)
    done, total = False, 0.0
    while not done:
        _, reward, done, _, info = env.step(env.action_space.sample())
        total += reward
    np.testing.assert_allclose(info["episode"]["r"] @ [1.0, 2.0, 0.0], total, rtol=1e-5)
    vector = wrappers.vector.MOSyncVectorEnv([token_feedback] * 2)
    vector.reset(seed=2)
    _, rewards, *_ = vector.step(vector.action_space.sample())
    assert rewards.shape == (2, 3)


class LateBonus(Relay):
    """Most episodes end before the third round, from which on runners get a bonus."""

    termination_probability: float = 0.8

    def step(self, state: Any, phase: str, actions: Any, streams: Any) -> StepResult[Any]:
        result = super().step(state, phase, actions, streams)
        if phase != "pay" or not bool((state.round >= 2).any()):
            return result
        return dataclasses.replace(result, feedback={"runner": {"bonus": state.ran}})


def test_feedback_that_few_episodes_have() -> None:
    env = GymnasiumEnv(LateBonus(), agent="runner_1", reward_vector=["feedback.bonus"])
    assert env.reward_labels == ("feedback.bonus",)


def test_what_is_no_component_is_refused() -> None:
    for name in ("caler", "caller_9", "feedback.rewards"):
        with refused("unknown_name", f"reward_vector.{name}"):
            GymnasiumEnv(Relay(), reward_vector=[name])
    with refused("duplicate", "reward_vector"):
        GymnasiumEnv(Relay(), reward_vector=["caller", "runner", "caller"])
    with refused("unknown_name", "reward_vector.feedback.preferred"):  # it is no number
        GymnasiumEnv("token_feedback", reward_vector=["feedback.preferred"])

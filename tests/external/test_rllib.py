"""RLlib trains single agents and all agents, saves, restores, and obeys masks.

RLlib requires one version of Gymnasium: it runs in an environment of its own (`make test-clients`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

pytest.importorskip("ray", reason="an environment of its own: make test-clients")

import pettingzoo
import ray
from ray.rllib.algorithms.ppo import PPO, PPOConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.rllib.env.wrappers.pettingzoo_env import ParallelPettingZooEnv, PettingZooEnv
from ray.rllib.examples.rl_modules.classes.action_masking_rlm import ActionMaskingTorchRLModule
from ray.tune.registry import register_env

from mores.clients.registration import gymnasium_id, pettingzoo_id
from tests.clients.kinds import AGENTS, small

ROUNDS = 5


@pytest.fixture(scope="module", autouse=True)
def ray_in_this_process() -> Iterator[None]:
    ray.init(
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100_000_000,
        logging_level="ERROR",
    )
    yield
    ray.shutdown()


def config(env: str, **env_config: Any) -> PPOConfig:
    """PPO in this process: 40 steps an iteration."""
    return (
        PPOConfig()
        .environment(env, env_config=env_config)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=2, rollout_fragment_length=20)
        .learners(num_learners=0)
        .training(train_batch_size_per_learner=40, minibatch_size=20, num_epochs=1)
        .rl_module(model_config={"fcnet_hiddens": [16]})
        .debugging(seed=0, log_level="ERROR")
    )


def single_agent(env_config: dict[str, Any]) -> gymnasium.Env[Any, Any]:
    return gymnasium.make(**env_config)


def parallel(env_config: dict[str, Any]) -> ParallelPettingZooEnv:
    return ParallelPettingZooEnv(pettingzoo.make("parallel", **env_config))


def aec(env_config: dict[str, Any]) -> PettingZooEnv:
    return PettingZooEnv(pettingzoo.make("aec", **env_config))


for _name, _function in (("single", single_agent), ("parallel", parallel), ("aec", aec)):
    register_env(_name, _function)


def weights(algorithm: PPO) -> dict[str, np.ndarray]:
    """Arrays of all policies."""
    arrays = {}
    for module, values in algorithm.get_weights().items():
        arrays |= {f"{module}/{name}": np.array(value) for name, value in values.items()}
    return arrays


def test_single_agent_is_restored(tmp_path: Path) -> None:
    """A checkpoint has the same weights, and training continues from it."""
    algorithm = config("mores:mores/DRMDP-v0", rounds=ROUNDS, num_people=1).build_algo()
    first = weights(algorithm)
    algorithm.train()
    result = algorithm.train()
    assert result["num_env_steps_sampled_lifetime"] == 80
    assert result["env_runners"]["episode_len_mean"] == ROUNDS
    trained = weights(algorithm)
    assert any(not np.array_equal(trained[name], first[name]) for name in first)
    algorithm.save_to_path(tmp_path)
    restored = PPO.from_checkpoint(tmp_path)
    copies = weights(restored)
    assert all(np.array_equal(trained[name], copies[name]) for name in trained)
    assert restored.train()["training_iteration"] == 3
    assert any(not np.array_equal(trained[name], new) for name, new in weights(restored).items())
    for each in (algorithm, restored):
        each.stop()


@pytest.mark.parametrize("api", ["parallel", "aec"])
@pytest.mark.parametrize("kind", ["dr_mdp", "lock_in"])
def test_policy_per_role(kind: str, api: str, tmp_path: Path) -> None:
    """Every role has a policy; all of them train, and are restored."""
    env_config = {"id": pettingzoo_id(kind), "rounds": ROUNDS} | small(kind)
    agents = pettingzoo.make("parallel", **env_config).possible_agents
    roles = {agent.rpartition("_")[0] for agent in agents}
    algorithm = (
        config(api, **env_config)
        .multi_agent(
            policies=roles, policy_mapping_fn=lambda agent, *_, **__: agent.rpartition("_")[0]
        )
        .env_runners(num_envs_per_env_runner=1)
        .build_algo()
    )
    first = weights(algorithm)
    result = algorithm.train()
    assert set(result["env_runners"]["module_episode_returns_mean"]) == roles
    trained = weights(algorithm)
    changed = {n.split("/")[0] for n in first if not np.array_equal(first[n], trained[n])}
    assert changed == roles
    algorithm.save_to_path(tmp_path)
    restored = PPO.from_checkpoint(tmp_path)
    copies = weights(restored)
    assert all(np.array_equal(trained[name], copies[name]) for name in trained)
    for each in (algorithm, restored):
        each.stop()


class NamedAsRLlib(gymnasium.ObservationWrapper):
    """RLlib's example of masks reads `observations` where others read `observation`."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        spaces = env.observation_space.spaces  # type: ignore[attr-defined]
        mask = gymnasium.spaces.Box(0.0, 1.0, spaces["action_mask"].shape)
        self.observation_space = gymnasium.spaces.Dict(
            {"observations": spaces["observation"], "action_mask": mask}
        )

    def observation(self, observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        mask = observation["action_mask"].astype(np.float32)
        return {"observations": observation["observation"], "action_mask": mask}


def masked(env_config: dict[str, Any]) -> gymnasium.Env[Any, Any]:
    return NamedAsRLlib(gymnasium.make(**env_config, observation="dict"))


def test_masks_are_obeyed() -> None:
    """With RLlib's module for masks no action is illegal; random actions are."""
    register_env("masked", masked)
    env_config = {"id": gymnasium_id("moral_hazard"), "agent": "agent_0", "rounds": ROUNDS}
    algorithm = (
        config("masked", **env_config)
        .rl_module(rl_module_spec=RLModuleSpec(ActionMaskingTorchRLModule))
        .build_algo()
    )
    algorithm.train()
    episodes = algorithm.env_runner.sample(num_timesteps=40)
    algorithm.stop()
    infos = [info for episode in episodes for info in episode.get_infos()]
    legal = [episode.get_observations(slice(0, -1))["action_mask"] for episode in episodes]
    chosen = np.concatenate([episode.get_actions() for episode in episodes])
    masks = np.concatenate(legal)
    assert (masks[np.arange(len(chosen)), chosen] == 1).all()
    assert (masks == 0).any()
    assert not any(info["projected"] for info in infos)


@pytest.mark.cut(12)
@pytest.mark.parametrize(("kind", "agent"), AGENTS)
def test_rollouts(kind: str, agent: str) -> None:
    """RLlib's runner of environments records whole episodes of every agent."""
    rounds = 3
    env_config = {"id": gymnasium_id(kind), "agent": agent, "rounds": rounds} | small(kind)
    runner = SingleAgentEnvRunner(config=config("single", **env_config))
    episodes = runner.sample(num_episodes=2, random_actions=True)
    runner.stop()
    assert len(episodes) >= 2
    phases = gymnasium.make(**env_config).unwrapped.environment.phases
    turns = rounds * sum(agent.rpartition("_")[0] in phase.action_spaces for phase in phases)
    for episode in episodes[:2]:
        assert episode.is_done
        assert len(episode) == turns or (episode.is_terminated and 1 <= len(episode) < turns)
        assert np.isfinite(episode.get_return())

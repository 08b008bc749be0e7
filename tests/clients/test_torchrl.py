"""TorchRL: its wrappers of our Gymnasium and PettingZoo environments, and `TorchRLEnv`."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("torchrl", reason="an extra: pip install mores[rl]")

from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torchrl.collectors import Collector
from torchrl.envs import (
    GymWrapper,
    PettingZooWrapper,
    RewardSum,
    TransformedEnv,
    check_env_specs,
)

import mores
from mores.sim.simulator import Simulator
from tests.clients.kinds import AGENTS, FILTERS, KINDS, gym_make, gym_make_vec, small, zoo_make
from tests.refusals import refused

pytestmark = pytest.mark.filterwarnings(*FILTERS)


# TorchRL's wrapper of PettingZoo stacks choices with equally many options, and then cannot read the
# flat masks of PettingZoo: messages have such actions. `TorchRLEnv` has them.
WRAPPED = [kind for kind in KINDS if kind != "opinion_messages"]


@pytest.mark.cut(3)
@pytest.mark.parametrize("kind", WRAPPED)
def test_pettingzoo_wrapper(kind: str) -> None:
    """Agents are grouped by role."""
    parallel = zoo_make("parallel", kind, rounds=5)
    env = PettingZooWrapper(parallel, use_mask=False, categorical_actions=True)
    check_env_specs(env)
    data = env.rollout(20, break_when_any_done=False)
    assert bool(data["next", "done"].any())
    for role in parallel.environment.roles:
        assert data[role.name, "observation"].shape == (
            20,
            role.num_agents,
            role.observation_space.size,
        )
        assert not bool(data["next", role.name, "info", "projected"].any())  # masks hold


@pytest.mark.cut(3)
@pytest.mark.parametrize("kind", WRAPPED)
def test_pettingzoo_wrapper_of_native_aec(kind: str) -> None:
    """Each agent is a group, and a mask marks the selected one."""
    aec = zoo_make("aec", kind, rounds=5)
    env = PettingZooWrapper(aec, use_mask=True, categorical_actions=True)
    check_env_specs(env)
    data = env.rollout(12)
    selected = torch.stack([data[agent, "mask"][:, 0] for agent in aec.possible_agents], -1)
    assert bool((selected.sum(-1) == 1).all())


@pytest.mark.cut(4)
@pytest.mark.parametrize(("kind", "agent"), AGENTS)
def test_gym_wrapper(kind: str, agent: str) -> None:
    env = GymWrapper(gym_make(kind, agent=agent, rounds=5))
    check_env_specs(env)
    data = env.rollout(25, break_when_any_done=False)
    assert bool(data["next", "done"].any())


@pytest.mark.cut(4)
@pytest.mark.parametrize("mode", ["SameStep", "Disabled"])
@pytest.mark.parametrize(("kind", "agent"), AGENTS)
def test_gym_wrapper_of_vector(kind: str, agent: str, mode: str) -> None:
    """The wrapper reads the last observation of an episode from `final_obs`, or resets by mask."""
    rounds = 3
    made = gym_make_vec(kind, num_envs=8, agent=agent, rounds=rounds, autoreset_mode=mode)
    env = GymWrapper(made)
    assert env.batch_size == torch.Size([8])
    check_env_specs(env)
    data = env.rollout(20, break_when_any_done=False)
    done = data["next", "done"][:, :-1, 0]
    assert int(done.sum()) >= 8
    true_next, next_start = data["next", "observation"][:, :-1], data["observation"][:, 1:]
    assert torch.equal(true_next[~done], next_start[~done])
    assert not torch.equal(true_next[done], next_start[done])


@pytest.mark.cut(3)
@pytest.mark.parametrize("kind", KINDS)
def test_torchrl_env(kind: str) -> None:
    env = mores.TorchRLEnv(kind, 6, rounds=4, **small(kind))
    assert env.batch_size == torch.Size([6])
    check_env_specs(env, seed=1, break_when_any_done="both")
    data = env.rollout(30, break_when_any_done=False)
    assert data.shape == (6, 30)
    done = data["next", "done"][:, :-1, 0]
    assert int(done.sum()) >= 6
    for role in env.environment.roles:
        obs = data[role.name, "observation"]
        assert obs.shape == (6, 30, role.num_agents, role.observation_space.size)
        next_obs = data["next", role.name, "observation"][:, :-1]
        assert torch.equal(next_obs[~done], obs[:, 1:][~done])
        assert not bool(data["next", role.name, "projected"].any())


@pytest.mark.cut(3)
@pytest.mark.parametrize("kind", KINDS)
def test_torchrl_env_in_collector(kind: str) -> None:
    """A collector with a policy and a transform continues over many ends of episodes."""
    role = mores.make_environment(kind, **small(kind)).roles[0].name
    base = mores.TorchRLEnv(kind, 4, external=[role], rounds=3, **small(kind))
    env = TransformedEnv(base, RewardSum(in_keys=[(role, "reward")]))
    action = base.full_action_spec[role, "action"]
    policy = TensorDictModule(
        lambda obs: action.zero(), in_keys=[(role, "observation")], out_keys=[(role, "action")]
    )
    collector = Collector(env, policy, frames_per_batch=40, total_frames=80)
    batches = list(collector)
    assert [batch.numel() for batch in batches] == [40, 40]
    assert all(bool(batch["next", "done"].any()) for batch in batches)


def test_worlds_are_reset_alone() -> None:
    """Worlds that are not finished too; the others do not change."""
    env = mores.TorchRLEnv("lock_in", 3, external=["assistant"], rounds=5, num_people=3)
    env.set_seed(0)
    env.reset()
    environment, seed = env.environment, env.simulator.seed
    assert seed is not None
    policies = {"person": {"kind": "truthful_report"}}
    singles = [
        Simulator(environment, policies, {"assistant": [0]}, [world], 5) for world in range(3)
    ]
    for single in singles:
        single.reset(seed)
    action = torch.ones(3, 1, 1)
    for reset in ((), (1,), (), (0, 2), ()):
        data = env.step(TensorDict({"assistant": {"action": action}}, [3]))["next"]
        for world, single in enumerate(singles):
            single.step({"assistant": action[world : world + 1]})
            if world in reset:
                single.next_episode()
        if reset:
            data["_reset"] = torch.tensor([[world in reset] for world in range(3)])
            data = env.reset(data)
        expected = torch.cat([single.observe("assistant") for single in singles])
        assert torch.equal(data["assistant", "observation"], expected)


def test_worlds_are_not_reset_alone_within_a_round() -> None:
    env = mores.TorchRLEnv("moral_hazard", 3, rounds=5)
    data = env.rand_step(env.reset())["next"]
    data["_reset"] = torch.tensor([[True], [False], [False]])
    with refused("wrong_order", path="reset_mask"):
        env.reset(data)

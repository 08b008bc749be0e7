"""TorchRL: its wrappers around our Gymnasium and PettingZoo forms, and our own environment."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("torchrl", reason="an extra: pip install mores[rl]")

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
from tests.clients.kinds import KINDS, MEANT, SEATS, gym_make, gym_make_vec, small, zoo_make
from tests.refusals import refused

pytestmark = pytest.mark.filterwarnings(*MEANT)


@pytest.mark.parametrize("kind", KINDS)
def test_pettingzoo_wrapper(kind: str) -> None:
    """Agents are grouped by role."""
    own = zoo_make("parallel", kind, rounds=5)
    env = PettingZooWrapper(own, use_mask=False, categorical_actions=True)
    check_env_specs(env)
    data = env.rollout(20, break_when_any_done=False)
    assert bool(data["next", "done"].any())
    for role in own.game.roles:
        assert data[role.name, "observation"].shape == (
            20,
            role.num_agents,
            role.observation_space.size,
        )
        assert not bool(data["next", role.name, "info", "repaired"].any())  # it obeys masks


@pytest.mark.parametrize("kind", KINDS)
def test_pettingzoo_wrapper_around_the_native_aec(kind: str) -> None:
    """Each agent is a group, and a mask says who is asked."""
    own = zoo_make("aec", kind, rounds=5)
    env = PettingZooWrapper(own, use_mask=True, categorical_actions=True)
    check_env_specs(env)
    data = env.rollout(12)
    asked = torch.stack([data[agent, "mask"][:, 0] for agent in own.possible_agents], -1)
    assert bool((asked.sum(-1) == 1).all())


@pytest.mark.parametrize(("kind", "seat"), SEATS)
def test_gym_wrapper(kind: str, seat: str) -> None:
    env = GymWrapper(gym_make(kind, seat=seat, rounds=5))
    check_env_specs(env)
    data = env.rollout(25, break_when_any_done=False)
    assert bool(data["next", "done"].any())


@pytest.mark.parametrize(("kind", "seat"), SEATS)
def test_gym_wrapper_around_a_vector(kind: str, seat: str) -> None:
    """It reads the last observation of an episode from `final_obs`, and the first of the next."""
    rounds = 3
    env = GymWrapper(gym_make_vec(kind, num_envs=8, seat=seat, rounds=rounds))
    assert env.batch_size == torch.Size([8])
    check_env_specs(env)
    data = env.rollout(20, break_when_any_done=False)
    over = data["next", "done"][:, :-1, 0]
    assert int(over.sum()) >= 8
    true_next, next_start = data["next", "observation"][:, :-1], data["observation"][:, 1:]
    assert torch.equal(true_next[~over], next_start[~over])
    assert not torch.equal(true_next[over], next_start[over])


@pytest.mark.parametrize("kind", KINDS)
def test_own_environment(kind: str) -> None:
    env = mores.TorchRLEnv(kind, 6, rounds=4, **small(kind))
    assert env.batch_size == torch.Size([6])
    check_env_specs(env, seed=1, break_when_any_done="both")
    data = env.rollout(30, break_when_any_done=False)
    assert data.shape == (6, 30)
    over = data["next", "done"][:, :-1, 0]
    assert int(over.sum()) >= 6
    for role in env.environment.roles:
        seen = data[role.name, "observation"]
        assert seen.shape == (6, 30, role.num_agents, role.observation_space.size)
        after = data["next", role.name, "observation"][:, :-1]
        assert torch.equal(after[~over], seen[:, 1:][~over])
        assert not bool(data["next", role.name, "repaired"].any())


@pytest.mark.parametrize("kind", KINDS)
def test_own_environment_in_a_collector(kind: str) -> None:
    """A collector with a policy and a transform goes over many ends of episodes."""
    role = mores.make_environment(kind, **small(kind)).roles[0].name
    own = mores.TorchRLEnv(kind, 4, external=[role], rounds=3, **small(kind))
    env = TransformedEnv(own, RewardSum(in_keys=[(role, "reward")]))
    action = own.full_action_spec[role, "action"]
    act = TensorDictModule(
        lambda seen: action.zero(), in_keys=[(role, "observation")], out_keys=[(role, "action")]
    )
    collector = Collector(env, act, frames_per_batch=40, total_frames=80)
    batches = list(collector)
    assert [batch.numel() for batch in batches] == [40, 40]
    assert all(bool(batch["next", "done"].any()) for batch in batches)


def test_only_ended_worlds_can_be_reset_alone() -> None:
    env = mores.TorchRLEnv("lock_in", 3, rounds=5, people=3)
    data = env.rand_step(env.reset())["next"]
    data["_reset"] = torch.tensor([[True], [False], [False]])
    with refused("unsupported", path="_reset"):
        env.reset(data)

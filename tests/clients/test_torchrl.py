"""TorchRL: its wrappers of our Gymnasium and PettingZoo environments, and `TorchRLEnv`."""

from __future__ import annotations

import pytest
import torch
from gymnasium.spaces import MultiDiscrete

pytest.importorskip("torchrl", reason="an extra: pip install mores[rl]")

from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torchrl.collectors import Collector
from torchrl.envs import (
    GymEnv,
    GymWrapper,
    MarlGroupMapType,
    PettingZooWrapper,
    RewardSum,
    TransformedEnv,
    check_env_specs,
)
from torchrl.modules import ProbabilisticActor, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

import mores
from mores.clients import gymnasium_spaces
from mores.clients.registration import gymnasium_id
from mores.sim.simulator import Simulator
from tests.clients.kinds import AGENTS, FILTERS, KINDS, gym_make, gym_make_vec, small, zoo_make
from tests.conformance.environments import make
from tests.refusals import refused

pytestmark = pytest.mark.filterwarnings(*FILTERS)


def has_equal_choices(kind: str) -> bool:
    """Whether an action consists of several choices with equally many options, as in messages.

    TorchRL's wrapper of PettingZoo stacks them and then cannot read the flat masks of PettingZoo.
    `TorchRLEnv` has them.
    """
    environment = make(kind)
    spaces = [gymnasium_spaces.action_space(environment, role.name) for role in environment.roles]
    counts = [space.nvec.tolist() for space in spaces if isinstance(space, MultiDiscrete)]
    return any(len(count) > 1 and len(set(count)) == 1 for count in counts)


WRAPPED = [kind for kind in KINDS if not has_equal_choices(kind)]


@pytest.mark.cut(5)
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


@pytest.mark.cut(5)
@pytest.mark.parametrize("kind", WRAPPED)
def test_pettingzoo_wrapper_of_native_aec(kind: str) -> None:
    """Each agent is a group, and a mask marks the selected one."""
    aec = zoo_make("aec", kind, rounds=5)
    env = PettingZooWrapper(aec, use_mask=True, categorical_actions=True)
    check_env_specs(env)
    data = env.rollout(12)
    selected = torch.stack([data[agent, "mask"][:, 0] for agent in aec.possible_agents], -1)
    assert bool((selected.sum(-1) == 1).all())


@pytest.mark.cut(6)
@pytest.mark.parametrize(("kind", "agent"), AGENTS)
def test_gym_wrapper(kind: str, agent: str) -> None:
    env = GymWrapper(gym_make(kind, agent=agent, rounds=5))
    check_env_specs(env)
    data = env.rollout(25, break_when_any_done=False)
    assert bool(data["next", "done"].any())


@pytest.mark.cut(18)
@pytest.mark.parametrize("kind", KINDS)
def test_gym_env(kind: str) -> None:
    """By id: TorchRL first tries a parameter `frameskip` and expects a `TypeError`."""
    env = GymEnv(gymnasium_id(kind), rounds=5, **small(kind))
    check_env_specs(env)
    assert bool(env.rollout(25, break_when_any_done=False)["next", "done"].any())


@pytest.mark.cut(6)
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


@pytest.mark.cut(5)
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


@pytest.mark.cut(5)
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


OF_THREE = ["person_0", "person_1", "person_2"]
GROUP_MAPS = {
    "all": MarlGroupMapType.ALL_IN_ONE_GROUP,
    "single": MarlGroupMapType.ONE_GROUP_PER_AGENT,
    "mixed": {"b": ["person_2", "person_0"], "a": ["person_1"]},
}


@pytest.mark.cut(5)
@pytest.mark.parametrize("group_done", [False, True])
@pytest.mark.parametrize("groups", GROUP_MAPS)
def test_groups_hold_what_roles_hold(groups: str, group_done: bool) -> None:
    """Every agent's observations, rewards and ends, whatever its group, as with groups by role."""
    parameters = {"num_people": 3, "external": ["person"], "rounds": 3}
    by_role = mores.TorchRLEnv("coevolution", 2, **parameters)
    grouped = mores.TorchRLEnv(
        "coevolution", 2, **parameters, group_map=GROUP_MAPS[groups], group_done=group_done
    )
    check_env_specs(grouped, seed=1, break_when_any_done="both")
    assert by_role.group_map == {"person": OF_THREE}
    place = {
        name: (group, index)
        for group, names in grouped.group_map.items()
        for index, name in enumerate(names)
    }
    assert sorted(place) == OF_THREE
    for env in (by_role, grouped):
        env.set_seed(0)
    data, other = by_role.reset(), grouped.reset()
    for _ in range(3):
        by_role.rand_action(data)
        actions = data["person", "action"]
        for group, names in grouped.group_map.items():
            other[group, "action"] = actions[:, [OF_THREE.index(name) for name in names]]
        data, other = by_role.step(data)["next"], grouped.step(other)["next"]
        for entry in ("observation", "reward", "mask", "projected"):
            values = data["person", entry].unbind(1)
            for name, value in zip(OF_THREE, values, strict=True):
                group, index = place[name]
                assert torch.equal(other[group, entry][:, index], value)
    for end in ("done", "terminated", "truncated"):
        assert torch.equal(other[end], data[end])
        for group, names in grouped.group_map.items():
            assert ((group, end) in other.keys(True)) == group_done
            if group_done:
                expected = data[end][:, None].expand(2, len(names), 1)
                assert torch.equal(other[group, end], expected)
    assert bool(data["done"].all())


def test_group_of_two_roles() -> None:
    """Roles with equal spaces share a group and act as in groups of their own."""
    parameters = {"num_people": 2, "rounds": 4}
    everyone = MarlGroupMapType.ALL_IN_ONE_GROUP
    env = mores.TorchRLEnv("lock_in", 3, **parameters, group_map=everyone)
    assert env.group_map == {"agents": ["person_0", "person_1", "assistant_0"]}
    check_env_specs(env, seed=1)
    by_role = mores.TorchRLEnv("lock_in", 3, **parameters)
    for each in (env, by_role):
        each.set_seed(0)
    data, other = env.rand_action(env.reset()), by_role.reset()
    other["person", "action"] = data["agents", "action"][:, :2]
    other["assistant", "action"] = data["agents", "action"][:, 2:]
    data, other = env.step(data)["next"], by_role.step(other)["next"]
    for entry in ("observation", "reward", "mask"):
        expected = torch.cat([other[role, entry] for role in ("person", "assistant")], 1)
        assert torch.equal(data["agents", entry], expected)


def test_ppo_reads_the_ends_of_a_group() -> None:
    """TorchRL's losses take `done` from the group; sums of rewards start anew in reset worlds."""
    env = mores.TorchRLEnv("dr_mdp", 4, rounds=3, num_people=2, group_done=True)
    names = ("value", "advantage", "value_target", "reward", "done", "terminated")
    keys = {name: ("assistant", name) for name in names}
    observation, action = ("assistant", "observation"), ("assistant", "action")
    size = env.observation_spec[observation].shape[-1]
    policy = ProbabilisticActor(
        TensorDictModule(torch.nn.Linear(size, 2), [observation], [("assistant", "logits")]),
        in_keys=[("assistant", "logits")],
        out_keys=[action],
        distribution_class=torch.distributions.Categorical,
        return_log_prob=True,
        log_prob_key=("assistant", "logp"),
    )
    critic = ValueOperator(torch.nn.Linear(size, 1), [observation], [keys["value"]])
    advantage = GAE(gamma=1.0, lmbda=0.95, value_network=critic)
    advantage.set_keys(**keys)
    loss = ClipPPOLoss(policy, critic)
    loss.set_keys(action=action, sample_log_prob=("assistant", "logp"), **keys)
    sums = RewardSum(in_keys=[keys["reward"]], reset_keys=["_reset"])
    (data,) = Collector(TransformedEnv(env, sums), policy, frames_per_batch=40, total_frames=40)
    done = data["next", "done"][:, :, None]
    assert torch.equal(data["next", "assistant", "done"], done.expand(4, 10, 2, 1))
    with torch.no_grad():
        advantage(data)
    losses = loss(data.reshape(-1))
    assert bool(torch.isfinite(losses["loss_objective"] + losses["loss_critic"]))
    ends = data["next", "done"][:, :-1, 0]  # the next step is the first one of an episode
    assert int(ends.sum()) == 4 * 3
    returns = data["next", "assistant", "episode_reward"][:, 1:][ends]
    assert torch.equal(returns, data["next", "assistant", "reward"][:, 1:][ends])


@pytest.mark.parametrize(
    ("group_map", "code", "path"),
    [
        ({"a": ["person_0"]}, "missing", "group_map"),
        ({"a": OF_THREE, "b": ["person_2"]}, "duplicate", "group_map.b"),
        ({"a": [*OF_THREE, "persn_1"]}, "unknown_name", "group_map.a"),
        ({"a": OF_THREE, "b": []}, "missing", "group_map.b"),
        ({"next": OF_THREE}, "invalid_value", "group_map.next"),
        ({"a": "person_0"}, "wrong_type", "group_map.a"),
        ("person", "wrong_type", "group_map"),
    ],
)
def test_group_map_is_checked(group_map: Any, code: str, path: str) -> None:
    with refused(code, path=path):
        mores.TorchRLEnv("coevolution", num_people=3, external=["person"], group_map=group_map)


@pytest.mark.parametrize(
    ("arguments", "code", "path"),
    [
        ({"policies": 3}, "wrong_type", "policies"),
        ({"external": 3}, "wrong_type", "external"),
        ({"device": "nope"}, "unknown_name", "device"),
        ({"roudns": 3}, "unknown_name", "coevolution.roudns"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], code: str, path: str) -> None:
    with refused(code, path):
        mores.TorchRLEnv("coevolution", **arguments)


def test_group_of_different_roles() -> None:
    with refused("incompatible", path="group_map.agents"):
        mores.TorchRLEnv("coevolution", group_map=MarlGroupMapType.ALL_IN_ONE_GROUP)

"""Every client gives the trajectory of a `Simulator`, bit for bit."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from mores.clients import gymnasium_spaces
from mores.clients.array_conversion import sampling_mask
from mores.clients.gymnasium import GymnasiumEnv
from mores.clients.gymnasium_vector import GymnasiumVectorEnv
from mores.clients.pettingzoo import PettingZooAECEnv, PettingZooParallelEnv
from mores.clients.torchrl import TorchRLEnv
from mores.sim.autoreset import AutoresetMode
from mores.sim.simulator import Simulator
from tests.conformance.environments import ALL_AGENTS, ALL_KINDS, make, simulator_seed

SEED = 7


def single_agent_simulator(
    kind: str, agent: str, world: int, rounds: int, autoreset_mode: AutoresetMode
) -> tuple[Simulator, str, int]:
    """A simulator of one world with one external agent, its role and its index."""
    role, _, index = agent.rpartition("_")
    environment = make(kind)
    policies, external = environment.default_policies(), {role: [int(index)]}
    simulator = Simulator(environment, policies, external, [world], rounds, autoreset_mode)
    simulator.reset(simulator_seed(SEED))
    return simulator, role, int(index)


def sample(space: gymnasium.Space, mask: np.ndarray | None) -> np.ndarray:
    """A random legal action."""
    if isinstance(space, gymnasium.spaces.Box):
        return np.asarray(space.sample())
    return np.asarray(space.sample(mask))


def as_row(mask: Any) -> np.ndarray:
    """The mask of one choice, or the concatenated masks of several."""
    return np.concatenate(mask) if isinstance(mask, tuple) else mask


@pytest.mark.cut(8)
@pytest.mark.parametrize(("kind", "agent"), ALL_AGENTS)
def test_gymnasium(kind: str, agent: str) -> None:
    env = GymnasiumEnv(make(kind), agent, rounds=6)
    simulator, role, index = single_agent_simulator(kind, agent, 0, 6, autoreset_mode="disabled")
    env.action_space.seed(SEED)
    obs, info = env.reset(seed=SEED)
    assert obs.tobytes() == simulator.observe(role)[0, index].numpy().tobytes()
    while not simulator.all_finished:
        if "action_mask" in info:
            num_options = gymnasium_spaces.num_options(env.action_space)
            mask = as_row(info["action_mask"])
            assert (mask == simulator.action_mask(role, num_options)[0, index].numpy()).all()
            assert (env.action_masks() == mask.astype(bool)).all()
        action = sample(env.action_space, info.get("action_mask"))
        obs, reward, terminated, truncated, info = env.step(action)
        turn = simulator.step({role: torch.as_tensor(action)[None, None]})
        final = turn.final_observation
        expected = simulator.observe(role) if final is None else final[role]
        assert obs.tobytes() == expected[0, index].numpy().tobytes()
        assert reward == float(turn.reward[role][0, index])
        assert (terminated, truncated) == (bool(turn.terminated), bool(turn.truncated))
        assert obs in env.observation_space
        assert not info["projected"]


@pytest.mark.cut(24)
@pytest.mark.parametrize(("kind", "agent"), ALL_AGENTS)
def test_gymnasium_vector(kind: str, agent: str) -> None:
    """Each world equals the world simulated alone, over several episodes."""
    worlds, rounds = 3, 3
    env = GymnasiumVectorEnv(make(kind), worlds, agent, rounds=rounds)
    simulators = [
        single_agent_simulator(kind, agent, w, rounds, "same_step") for w in range(worlds)
    ]
    generator = np.random.default_rng(SEED)
    obs, info = env.reset(seed=SEED)
    ends = 0
    for _ in range(12):
        for world, (simulator, role, index) in enumerate(simulators):
            assert torch.equal(obs[world], simulator.observe(role)[0, index])
        actions = []
        for world in range(worlds):
            env.single_action_space.seed(int(generator.integers(2**31)))
            num_options = gymnasium_spaces.num_options(env.single_action_space)
            mask = None
            if num_options is not None:
                mask = sampling_mask(info["action_mask"][world], num_options)
            actions.append(sample(env.single_action_space, mask))
        obs, reward, terminated, truncated, info = env.step(np.stack(actions))
        for world, (simulator, role, index) in enumerate(simulators):
            turn = simulator.step({role: torch.as_tensor(actions[world])[None, None]})
            assert reward[world] == turn.reward[role][0, index]
            assert terminated[world] == turn.terminated[0]
            assert truncated[world] == turn.truncated[0]
            final = turn.final_observation
            assert ("final_obs" in info and bool(info["_final_obs"][world])) == (final is not None)
            if final is not None:
                ends += 1
                assert torch.equal(info["final_obs"][world], final[role][0, index])
    assert ends >= worlds


def external_simulator(
    kind: str, worlds: int, rounds: int, autoreset_mode: AutoresetMode
) -> Simulator:
    """A simulator in which all agents are external."""
    environment = make(kind)
    external = {role.name: list(range(role.num_agents)) for role in environment.roles}
    simulator = Simulator(environment, {}, external, worlds, rounds, autoreset_mode)
    simulator.reset(simulator_seed(SEED))
    return simulator


@pytest.mark.cut(8)
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_pettingzoo_parallel(kind: str) -> None:
    env = PettingZooParallelEnv(make(kind), rounds=5)
    simulator = external_simulator(kind, 1, 5, autoreset_mode="disabled")
    for i, agent in enumerate(env.possible_agents):
        env.action_space(agent).seed(i)
    observations, infos = env.reset(seed=SEED)
    while not simulator.all_finished:
        actions = {a: sample(env.action_space(a), infos[a].get("action_mask")) for a in env.agents}
        for agent in env.agents:
            role, _, index = agent.rpartition("_")
            expected = simulator.observe(role)[0, int(index)]
            assert observations[agent].tobytes() == expected.numpy().tobytes()
            assert infos[agent]["acting"] == (role in simulator.acting_roles)
            assert not infos[agent]["projected"]
        by_role = {
            role: [torch.as_tensor(actions[f"{role}_{i}"]) for i in simulator.external[role]]
            for role in simulator.acting_roles
        }
        observations, rewards, terminated, truncated, infos = env.step(actions)
        turn = simulator.step({role: torch.stack(each)[None] for role, each in by_role.items()})
        for agent in env.possible_agents:
            role, _, index = agent.rpartition("_")
            assert rewards[agent] == float(turn.reward[role][0, int(index)])
            assert terminated[agent] is bool(turn.terminated[0])
            assert truncated[agent] is bool(turn.truncated[0])
            if turn.final_observation is not None:
                expected = turn.final_observation[role][0, int(index)]
                assert np.array_equal(observations[agent], expected.numpy())
    assert env.agents == []


def aec_trajectory(
    env: PettingZooAECEnv, actions: dict[str, list[np.ndarray]]
) -> dict[str, list[Any]]:
    """Observations, rewards and ends of each agent at its turns, with the given actions."""
    remaining = {agent: iter(own) for agent, own in actions.items()}
    turns: dict[str, list[Any]] = {agent: [] for agent in env.possible_agents}
    env.reset(seed=SEED)
    for agent in env.agent_iter():
        obs, reward, terminated, truncated, _ = env.last()
        turns[agent].append((obs.tobytes(), np.float32(reward), terminated, truncated))
        env.step(None if terminated or truncated else next(remaining[agent]))
    return turns


@pytest.mark.cut(8)
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_pettingzoo_aec(kind: str) -> None:
    """The turns of an agent equal those in the parallel environment, with summed rewards."""
    parallel = PettingZooParallelEnv(make(kind), rounds=4)
    for i, agent in enumerate(parallel.possible_agents):
        parallel.action_space(agent).seed(i)
    obs, infos = parallel.reset(seed=SEED)
    actions: dict[str, list[np.ndarray]] = {agent: [] for agent in parallel.possible_agents}
    turns: dict[str, list[Any]] = {agent: [] for agent in parallel.possible_agents}
    pending = dict.fromkeys(parallel.possible_agents, 0.0)
    while parallel.agents:
        sampled = {
            agent: sample(parallel.action_space(agent), infos[agent].get("action_mask"))
            for agent in parallel.agents
        }
        for agent, info in infos.items():
            if info["acting"]:
                reward = np.float32(pending[agent])
                turns[agent].append((obs[agent].tobytes(), reward, False, False))
                actions[agent].append(sampled[agent])
                pending[agent] = 0.0
        obs, rewards, terminated, truncated, infos = parallel.step(sampled)
        for agent in pending:
            pending[agent] += rewards[agent]
    for agent in pending:
        end = (np.float32(pending[agent]), terminated[agent], truncated[agent])
        turns[agent].append((obs[agent].tobytes(), *end))
    assert aec_trajectory(PettingZooAECEnv(make(kind), rounds=4), actions) == turns


@pytest.mark.cut(8)
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_torchrl(kind: str) -> None:
    """Over several episodes, with TorchRL's own resets between them."""
    worlds, rounds, steps = 4, 3, 14
    env = TorchRLEnv(make(kind), worlds, rounds=rounds)
    env.set_seed(SEED)
    torch.manual_seed(SEED)
    data = env.rollout(steps, break_when_any_done=False)
    simulator = external_simulator(kind, worlds, rounds, autoreset_mode="same_step")
    ends = 0
    for t in range(steps):
        before, after = data[:, t], data[:, t]["next"]
        acting = simulator.acting_roles
        for role in simulator.external:
            assert torch.equal(before[role, "observation"], simulator.observe(role))
            assert bool((before[role, "mask"] == (role in acting)).all())
            if (role, "action_mask") in before.keys(True):
                space = gymnasium_spaces.action_space(env.environment, role)
                mask = simulator.action_mask(role, gymnasium_spaces.num_options(space))
                assert torch.equal(before[role, "action_mask"], mask)
        turn = simulator.step({role: before[role, "action"] for role in acting})
        assert torch.equal(after["terminated"][:, 0], turn.terminated)
        assert torch.equal(after["truncated"][:, 0], turn.truncated)
        done = turn.terminated | turn.truncated
        assert torch.equal(after["done"][:, 0], done)
        ends += int(done.sum())
        for role in simulator.external:
            assert torch.equal(after[role, "reward"][..., 0], turn.reward[role])
            expected = simulator.observe(role)
            if turn.final_observation is not None:
                final = turn.final_observation[role]
                expected = torch.where(done[:, None, None], final, expected)
            assert torch.equal(after[role, "observation"], expected)
            assert not bool(after[role, "projected"].any())
    assert ends >= worlds


@pytest.mark.cut(8)
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_same_seed_same_world_in_every_client(kind: str) -> None:
    environment = make(kind)
    role = environment.roles[0].name
    agent = f"{role}_0"
    single = GymnasiumEnv(environment, agent).reset(seed=SEED)[0].tobytes()
    vector, _ = GymnasiumVectorEnv(environment, 2, agent).reset(seed=SEED)
    aec = PettingZooAECEnv(environment)
    aec.reset(seed=SEED)
    torchrl_env = TorchRLEnv(environment, 2)
    torchrl_env.set_seed(SEED)
    if agent in aec.infos and aec.infos[agent]["acting"]:  # else `GymnasiumEnv` skipped phases
        parallel = PettingZooParallelEnv(environment)
        assert single == aec.observe(agent).tobytes()
        assert single == parallel.reset(seed=SEED)[0][agent].tobytes()
        assert single == torchrl_env.reset()[role, "observation"][0, 0].numpy().tobytes()
    assert single == vector[0].numpy().tobytes()


@pytest.mark.cut(8)
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_reset_with_a_seed_restarts_and_without_continues(kind: str) -> None:
    environment = make(kind)
    for client in (
        GymnasiumEnv(environment),
        GymnasiumVectorEnv(environment, 2),
        PettingZooParallelEnv(environment),
        PettingZooAECEnv(environment),
    ):
        seeds = []
        for seed in (SEED, None, SEED):
            client.reset(seed=seed)
            seeds.append(client.simulator.seed)
        assert seeds[0] == seeds[2] == simulator_seed(SEED) != seeds[1]
    torchrl_env = TorchRLEnv(environment, 2)
    torchrl_env.set_seed(SEED)
    torchrl_env.reset()
    assert torchrl_env.simulator.seed == simulator_seed(SEED)
    torchrl_env.reset()
    assert torchrl_env.simulator.seed != simulator_seed(SEED)

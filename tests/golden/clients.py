"""Twenty steps of every environment through every client interface, with seeded actions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

import mores
from mores.clients.pettingzoo import PettingZooAECEnv, PettingZooParallelEnv
from mores.core.environment import Environment
from mores.core.random_streams import Worlds
from mores.sim.simulator import Simulator
from tests.golden.entries import Entry, entry
from tests.golden.environments import EVERY

STEPS, SEED, WORLDS = 20, 7, 3


def entries() -> Iterator[tuple[str, Entry]]:
    """Observations and rewards of every client in every environment."""
    for kind, environment in EVERY.items():
        for client, record in CLIENTS.items():
            for array_name, rows in record(environment).items():
                yield f"client/{client}/{kind}/{array_name}", entry(np.asarray(rows))


def _drawn(space: Any, generator: np.random.Generator, count: int | None = None) -> np.ndarray:
    """Any action, legal or not; bounded where the space has no bounds."""
    shape = () if count is None else (count,)
    if isinstance(space, spaces.Discrete):
        return generator.integers(0, int(space.n), shape)
    if isinstance(space, spaces.MultiDiscrete):
        return generator.integers(0, space.nvec, (*shape, len(space.nvec)))
    low, high = np.maximum(space.low, -1.0), np.minimum(space.high, 1.0)
    return generator.uniform(low, high, (*shape, *low.shape)).astype(np.float32)


def gymnasium_env(environment: Environment[Any]) -> dict[str, Any]:
    """One agent, episode after episode."""
    env, generator = mores.GymnasiumEnv(environment, rounds=6), np.random.default_rng(SEED)
    rows: dict[str, list[Any]] = {"observation": [env.reset(seed=SEED)[0]], "reward": []}
    for _ in range(STEPS):
        observation, reward, terminated, truncated, _ = env.step(
            _drawn(env.action_space, generator)
        )
        rows["observation"].append(observation)
        rows["reward"].append(reward)
        if terminated or truncated:
            rows["observation"].append(env.reset()[0])
    return rows


def gymnasium_vector_env(environment: Environment[Any]) -> dict[str, Any]:
    """One agent in several worlds."""
    env, generator = (
        mores.GymnasiumVectorEnv(environment, WORLDS, rounds=6),
        np.random.default_rng(SEED),
    )
    rows: dict[str, list[Any]] = {"observation": [env.reset(seed=SEED)[0].numpy()], "reward": []}
    for _ in range(STEPS):
        action = _drawn(env.single_action_space, generator, WORLDS)
        observation, reward, *_ = env.step(action)
        rows["observation"].append(observation.numpy())
        rows["reward"].append(reward.numpy())
    return rows


def sb3_vec_env(environment: Environment[Any]) -> dict[str, Any]:
    """One agent in several worlds, for Stable-Baselines3."""
    env, generator = mores.SB3VecEnv(environment, WORLDS, rounds=6), np.random.default_rng(SEED)
    env.seed(SEED)
    rows: dict[str, list[Any]] = {"observation": [env.reset()], "reward": []}
    for _ in range(STEPS):
        observation, reward, _, _ = env.step(_drawn(env.action_space, generator, WORLDS))
        rows["observation"].append(observation)
        rows["reward"].append(reward)
    return rows


def pettingzoo_parallel(environment: Environment[Any]) -> dict[str, Any]:
    """All agents at once."""
    env, generator = PettingZooParallelEnv(environment, rounds=6), np.random.default_rng(SEED)
    observation, _ = env.reset(seed=SEED)
    rows: dict[str, list[Any]] = {f"{a}/observation": [x] for a, x in observation.items()}
    rows |= {f"{a}/reward": [] for a in observation}
    for _ in range(STEPS):
        if not env.agents:
            break
        actions = {a: _drawn(env.action_space(a), generator) for a in env.agents}
        observation, reward, *_ = env.step(actions)
        for agent in observation:
            rows[f"{agent}/observation"].append(observation[agent])
            rows[f"{agent}/reward"].append(reward[agent])
    return {n: row for n, row in rows.items() if n.split("/")[0].endswith("_0")}


def pettingzoo_aec(environment: Environment[Any]) -> dict[str, Any]:
    """One agent after another."""
    env, generator = PettingZooAECEnv(environment, rounds=6), np.random.default_rng(SEED)
    env.reset(seed=SEED)
    rows: dict[str, list[Any]] = {}
    for _ in range(STEPS):
        if not env.agents:
            break
        agent = env.agent_selection
        observation, reward, terminated, truncated, _ = env.last()
        rows.setdefault(f"{agent}/observation", []).append(observation)
        rows.setdefault(f"{agent}/reward", []).append(reward)
        done = terminated or truncated
        env.step(None if done else _drawn(env.action_space(agent), generator))
    return {n: row for n, row in rows.items() if n.split("/")[0].endswith("_0")}


def torchrl_env(environment: Environment[Any]) -> dict[str, Any]:
    """All agents in several worlds, with TorchRL's own random actions."""
    env = mores.TorchRLEnv(environment, WORLDS, rounds=6)
    env.set_seed(SEED)
    torch.manual_seed(SEED)
    data = env.rollout(STEPS, break_when_any_done=False)
    arrays = {}
    for role in (role.name for role in environment.roles):
        arrays[f"{role}/observation"] = data[role, "observation"].numpy()
        arrays[f"{role}/reward"] = data["next", role, "reward"].numpy()
    return arrays


def simulator(environment: Environment[Any]) -> dict[str, Any]:
    """The simulator itself; all agents of the first role are external."""
    role, generator = environment.roles[0], np.random.default_rng(SEED)
    external = {role.name: list(range(role.num_agents))}
    simulator = Simulator(
        environment,
        environment.default_policies(),
        external,
        Worlds.grid(2, 2),
        6,
        autoreset_mode="same_step",
    )
    simulator.reset(SEED)
    rows: dict[str, list[Any]] = {"observation": [], "reward": []}
    for _ in range(STEPS):
        rows["observation"].append(simulator.observe(role.name).numpy())
        space = simulator.phase.action_spaces[role.name]
        options = getattr(space, "num_options", None)
        shape = (4, role.num_agents) if options is not None else (4, role.num_agents, space.size)
        if isinstance(options, int):
            action = torch.from_numpy(generator.integers(0, options, shape))
        elif options is not None:
            action = torch.from_numpy(generator.integers(0, options, (*shape, len(options))))
        else:
            action = torch.from_numpy(generator.uniform(-1, 1, shape).astype(np.float32))
        rows["reward"].append(simulator.step({role.name: action}).reward[role.name].numpy())
    return rows


CLIENTS = {
    "gymnasium": gymnasium_env,
    "gymnasium_vector": gymnasium_vector_env,
    "stable_baselines3": sb3_vec_env,
    "pettingzoo_parallel": pettingzoo_parallel,
    "pettingzoo_aec": pettingzoo_aec,
    "torchrl": torchrl_env,
    "simulator": simulator,
}

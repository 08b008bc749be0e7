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
    """What every client sees and earns in every environment."""
    for kind, game in EVERY.items():
        for client, found in CLIENTS.items():
            for what, rows in found(game).items():
                yield f"client/{client}/{kind}/{what}", entry(np.asarray(rows))


def _drawn(space: Any, generator: np.random.Generator, count: int | None = None) -> np.ndarray:
    """Any action, legal or not; bounded where the space has no bounds."""
    shape = () if count is None else (count,)
    if isinstance(space, spaces.Discrete):
        return generator.integers(0, int(space.n), shape)
    if isinstance(space, spaces.MultiDiscrete):
        return generator.integers(0, space.nvec, (*shape, len(space.nvec)))
    low, high = np.maximum(space.low, -1.0), np.minimum(space.high, 1.0)
    return generator.uniform(low, high, (*shape, *low.shape)).astype(np.float32)


def gymnasium_env(game: Environment[Any]) -> dict[str, Any]:
    """One agent, episode after episode."""
    env, generator = mores.GymnasiumEnv(game, rounds=6), np.random.default_rng(SEED)
    rows: dict[str, list[Any]] = {"observation": [env.reset(seed=SEED)[0]], "reward": []}
    for _ in range(STEPS):
        seen, reward, terminated, truncated, _ = env.step(_drawn(env.action_space, generator))
        rows["observation"].append(seen)
        rows["reward"].append(reward)
        if terminated or truncated:
            rows["observation"].append(env.reset()[0])
    return rows


def gymnasium_vector_env(game: Environment[Any]) -> dict[str, Any]:
    """One agent in several worlds."""
    env, generator = mores.GymnasiumVectorEnv(game, WORLDS, rounds=6), np.random.default_rng(SEED)
    rows: dict[str, list[Any]] = {"observation": [env.reset(seed=SEED)[0].numpy()], "reward": []}
    for _ in range(STEPS):
        action = _drawn(env.single_action_space, generator, WORLDS)
        seen, reward, *_ = env.step(action)
        rows["observation"].append(seen.numpy())
        rows["reward"].append(reward.numpy())
    return rows


def sb3_vec_env(game: Environment[Any]) -> dict[str, Any]:
    """The same as Stable-Baselines3 has it."""
    env, generator = mores.SB3VecEnv(game, WORLDS, rounds=6), np.random.default_rng(SEED)
    env.seed(SEED)
    rows: dict[str, list[Any]] = {"observation": [env.reset()], "reward": []}
    for _ in range(STEPS):
        seen, reward, _, _ = env.step(_drawn(env.action_space, generator, WORLDS))
        rows["observation"].append(seen)
        rows["reward"].append(reward)
    return rows


def pettingzoo_parallel(game: Environment[Any]) -> dict[str, Any]:
    """All agents at once."""
    env, generator = PettingZooParallelEnv(game, rounds=6), np.random.default_rng(SEED)
    seen, _ = env.reset(seed=SEED)
    rows: dict[str, list[Any]] = {f"{a}/observation": [x] for a, x in seen.items()}
    rows |= {f"{a}/reward": [] for a in seen}
    for _ in range(STEPS):
        if not env.agents:
            break
        actions = {a: _drawn(env.action_space(a), generator) for a in env.agents}
        seen, reward, *_ = env.step(actions)
        for agent in seen:
            rows[f"{agent}/observation"].append(seen[agent])
            rows[f"{agent}/reward"].append(reward[agent])
    return {n: row for n, row in rows.items() if n.split("/")[0].endswith("_0")}


def pettingzoo_aec(game: Environment[Any]) -> dict[str, Any]:
    """One agent after another."""
    env, generator = PettingZooAECEnv(game, rounds=6), np.random.default_rng(SEED)
    env.reset(seed=SEED)
    rows: dict[str, list[Any]] = {}
    for _ in range(STEPS):
        if not env.agents:
            break
        agent = env.agent_selection
        seen, reward, terminated, truncated, _ = env.last()
        rows.setdefault(f"{agent}/observation", []).append(seen)
        rows.setdefault(f"{agent}/reward", []).append(reward)
        over = terminated or truncated
        env.step(None if over else _drawn(env.action_space(agent), generator))
    return {n: row for n, row in rows.items() if n.split("/")[0].endswith("_0")}


def torchrl_env(game: Environment[Any]) -> dict[str, Any]:
    """All agents in several worlds, with TorchRL's own random actions."""
    env = mores.TorchRLEnv(game, WORLDS, rounds=6)
    env.set_seed(SEED)
    torch.manual_seed(SEED)
    data = env.rollout(STEPS, break_when_any_done=False)
    found = {}
    for role in (role.name for role in game.roles):
        found[f"{role}/observation"] = data[role, "observation"].numpy()
        found[f"{role}/reward"] = data["next", role, "reward"].numpy()
    return found


def simulator(game: Environment[Any]) -> dict[str, Any]:
    """The loop itself, with all agents of the first role acted for from outside."""
    role, generator = game.roles[0], np.random.default_rng(SEED)
    outside = {role.name: list(range(role.num_agents))}
    table = Simulator(game, game.default_policies(), outside, Worlds.grid(2, 2), 6, autoreset=True)
    table.reset(SEED)
    rows: dict[str, list[Any]] = {"observation": [], "reward": []}
    for _ in range(STEPS):
        rows["observation"].append(table.observe(role.name).numpy())
        space = table.phase.action_spaces[role.name]
        options = getattr(space, "num_options", None)
        shape = (4, role.num_agents) if options is not None else (4, role.num_agents, space.size)
        if isinstance(options, int):
            action = torch.from_numpy(generator.integers(0, options, shape))
        elif options is not None:
            action = torch.from_numpy(generator.integers(0, options, (*shape, len(options))))
        else:
            action = torch.from_numpy(generator.uniform(-1, 1, shape).astype(np.float32))
        rows["reward"].append(table.step({role.name: action}).reward[role.name].numpy())
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

"""A view and a Table that is driven directly give the same trajectory, bit for bit."""

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
from mores.sim.simulator import Simulator
from tests.conformance.games import EVERY_GAME, EVERY_SEAT, make, table_seed

SEED = 7


def alone(
    kind: str, seat: str, world: int, rounds: int, autoreset: bool
) -> tuple[Simulator, str, int]:
    """A table with one world, in which one seat is outside."""
    role, _, number = seat.rpartition("_")
    game = make(kind)
    players = dict(game.default_policies())
    table = Simulator(game, players, {role: [int(number)]}, [world], rounds, autoreset)
    table.reset(table_seed(SEED))
    return table, role, int(number)


def sampled(space: gymnasium.Space, mask: np.ndarray | None) -> np.ndarray:
    """A random action that is open."""
    if isinstance(space, gymnasium.spaces.Box):
        return np.asarray(space.sample())
    return np.asarray(space.sample(mask))


def flat(mask: Any) -> np.ndarray:
    """A mask of one choice, or those of several one after the other."""
    return np.concatenate(mask) if isinstance(mask, tuple) else mask


@pytest.mark.parametrize(("kind", "seat"), EVERY_SEAT)
def test_env(kind: str, seat: str) -> None:
    env = GymnasiumEnv(make(kind), seat, rounds=6)
    table, role, number = alone(kind, seat, 0, 6, autoreset=False)
    env.action_space.seed(SEED)
    seen, info = env.reset(seed=SEED)
    assert seen.tobytes() == table.observe(role)[0, number].numpy().tobytes()
    while not table.all_finished:
        if "action_mask" in info:
            options = gymnasium_spaces.num_options(env.action_space)
            told = flat(info["action_mask"])
            assert (told == table.action_mask(role, options)[0, number].numpy()).all()
            assert (env.action_masks() == told.astype(bool)).all()
        action = sampled(env.action_space, info.get("action_mask"))
        seen, reward, terminated, truncated, info = env.step(action)
        turn = table.step({role: torch.as_tensor(action)[None, None]})
        sight = (
            table.observe(role) if turn.final_observation is None else turn.final_observation[role]
        )
        assert seen.tobytes() == sight[0, number].numpy().tobytes()
        assert reward == float(turn.reward[role][0, number])
        assert (terminated, truncated) == (bool(turn.terminated), bool(turn.truncated))
        assert seen in env.observation_space
        assert not info["repaired"]


@pytest.mark.parametrize(("kind", "seat"), EVERY_SEAT)
def test_vector_env(kind: str, seat: str) -> None:
    """Each world of it is as if it were played alone, over several episodes."""
    worlds, rounds = 3, 3
    env = GymnasiumVectorEnv(make(kind), worlds, seat, rounds=rounds)
    tables = [alone(kind, seat, world, rounds, autoreset=True) for world in range(worlds)]
    generator = np.random.default_rng(SEED)
    seen, info = env.reset(seed=SEED)
    ends = 0
    for _ in range(12):
        for world, (table, role, number) in enumerate(tables):
            assert torch.equal(seen[world], table.observe(role)[0, number])
        actions = []
        for world in range(worlds):
            env.single_action_space.seed(int(generator.integers(2**31)))
            options = gymnasium_spaces.num_options(env.single_action_space)
            open_now = None
            if options is not None:
                open_now = sampling_mask(info["action_mask"][world], options)
            actions.append(sampled(env.single_action_space, open_now))
        seen, reward, terminated, truncated, info = env.step(np.stack(actions))
        for world, (table, role, number) in enumerate(tables):
            turn = table.step({role: torch.as_tensor(actions[world])[None, None]})
            assert reward[world] == turn.reward[role][0, number]
            assert terminated[world] == turn.terminated[0]
            assert truncated[world] == turn.truncated[0]
            assert ("final_obs" in info and bool(info["_final_obs"][world])) == (
                turn.final_observation is not None
            )
            if turn.final_observation is not None:
                ends += 1
                assert torch.equal(
                    info["final_obs"][world], turn.final_observation[role][0, number]
                )
    assert ends >= worlds


def everybody(kind: str, worlds: int, rounds: int, autoreset: bool) -> Simulator:
    """A table in which all seats are outside."""
    game = make(kind)
    out = {role.name: list(range(role.num_agents)) for role in game.roles}
    table = Simulator(game, {}, out, worlds, rounds, autoreset)
    table.reset(table_seed(SEED))
    return table


@pytest.mark.parametrize("kind", EVERY_GAME)
def test_parallel(kind: str) -> None:
    env = PettingZooParallelEnv(make(kind), rounds=5)
    table = everybody(kind, 1, 5, autoreset=False)
    for i, agent in enumerate(env.possible_agents):
        env.action_space(agent).seed(i)
    seen, infos = env.reset(seed=SEED)
    while not table.all_finished:
        actions = {a: sampled(env.action_space(a), infos[a].get("action_mask")) for a in env.agents}
        for agent in env.agents:
            role, _, number = agent.rpartition("_")
            assert seen[agent].tobytes() == table.observe(role)[0, int(number)].numpy().tobytes()
            assert infos[agent]["acting"] == (role in table.acting_roles)
            assert not infos[agent]["repaired"]
        given = {
            role: torch.stack(
                [torch.as_tensor(actions[f"{role}_{n}"]) for n in table.external[role]]
            )[None]
            for role in table.acting_roles
        }
        seen, pay, terminated, truncated, infos = env.step(actions)
        turn = table.step(given)
        for agent in env.possible_agents:
            role, _, number = agent.rpartition("_")
            assert pay[agent] == float(turn.reward[role][0, int(number)])
            assert terminated[agent] is bool(turn.terminated[0])
            assert truncated[agent] is bool(turn.truncated[0])
            if turn.final_observation is not None:
                assert np.array_equal(
                    seen[agent], turn.final_observation[role][0, int(number)].numpy()
                )
    assert env.agents == []


def trajectory_of_aec(
    env: PettingZooAECEnv, actions: dict[str, list[np.ndarray]]
) -> dict[str, list]:
    """What each agent saw and earned at its own turns, when it does the given actions in order."""
    left = {agent: iter(acts) for agent, acts in actions.items()}
    lived: dict[str, list] = {agent: [] for agent in env.possible_agents}
    env.reset(seed=SEED)
    for agent in env.agent_iter():
        seen, reward, terminated, truncated, _ = env.last()
        lived[agent].append((seen.tobytes(), np.float32(reward), terminated, truncated))
        env.step(None if terminated or truncated else next(left[agent]))
    return lived


@pytest.mark.parametrize("kind", EVERY_GAME)
def test_aec(kind: str) -> None:
    """What an agent lives through turn by turn is what the parallel form shows at those turns."""
    parallel = PettingZooParallelEnv(make(kind), rounds=4)
    for i, agent in enumerate(parallel.possible_agents):
        parallel.action_space(agent).seed(i)
    seen, infos = parallel.reset(seed=SEED)
    actions: dict[str, list[np.ndarray]] = {agent: [] for agent in parallel.possible_agents}
    lived: dict[str, list] = {agent: [] for agent in parallel.possible_agents}
    owed = dict.fromkeys(parallel.possible_agents, 0.0)
    while parallel.agents:
        chosen = {
            agent: sampled(parallel.action_space(agent), infos[agent].get("action_mask"))
            for agent in parallel.agents
        }
        for agent, info in infos.items():
            if info["acting"]:
                lived[agent].append((seen[agent].tobytes(), np.float32(owed[agent]), False, False))
                actions[agent].append(chosen[agent])
                owed[agent] = 0.0
        seen, pay, terminated, truncated, infos = parallel.step(chosen)
        for agent in owed:
            owed[agent] += pay[agent]
    for agent in owed:
        last = (np.float32(owed[agent]), terminated[agent], truncated[agent])
        lived[agent].append((seen[agent].tobytes(), *last))
    assert trajectory_of_aec(PettingZooAECEnv(make(kind), rounds=4), actions) == lived


@pytest.mark.parametrize("kind", EVERY_GAME)
def test_torchrl(kind: str) -> None:
    """Over several episodes, with TorchRL's own resets between them."""
    worlds, rounds, steps = 4, 3, 14
    env = TorchRLEnv(make(kind), worlds, rounds=rounds)
    env.set_seed(SEED)
    torch.manual_seed(SEED)
    data = env.rollout(steps, break_when_any_done=False)
    table = everybody(kind, worlds, rounds, autoreset=True)
    ends = 0
    for t in range(steps):
        now, after = data[:, t], data[:, t]["next"]
        acting = table.acting_roles
        for role in table.external:
            assert torch.equal(now[role, "observation"], table.observe(role))
            assert bool((now[role, "mask"] == (role in acting)).all())
            if (role, "action_mask") in now.keys(True):
                options = gymnasium_spaces.num_options(
                    gymnasium_spaces.action_space(env.environment, role)
                )
                assert torch.equal(now[role, "action_mask"], table.action_mask(role, options))
        turn = table.step({role: now[role, "action"] for role in acting})
        assert torch.equal(after["terminated"][:, 0], turn.terminated)
        assert torch.equal(after["truncated"][:, 0], turn.truncated)
        over = turn.terminated | turn.truncated
        assert torch.equal(after["done"][:, 0], over)
        ends += int(over.sum())
        for role in table.external:
            assert torch.equal(after[role, "reward"][..., 0], turn.reward[role])
            sight = table.observe(role)
            if turn.final_observation is not None:
                sight = torch.where(over[:, None, None], turn.final_observation[role], sight)
            assert torch.equal(after[role, "observation"], sight)
            assert not bool(after[role, "repaired"].any())
    assert ends >= worlds


@pytest.mark.parametrize("kind", EVERY_GAME)
def test_same_seed_same_world_in_every_view(kind: str) -> None:
    game = make(kind)
    role = game.roles[0].name
    first = f"{role}_0"
    single, _ = GymnasiumEnv(game, first).reset(seed=SEED)
    vector, _ = GymnasiumVectorEnv(game, 2, first).reset(seed=SEED)
    native = PettingZooAECEnv(game)
    native.reset(seed=SEED)
    batched = TorchRLEnv(game, 2)
    batched.set_seed(SEED)
    if (
        first in native.infos and native.infos[first]["acting"]
    ):  # else time has gone on for `GymnasiumEnv`
        assert single.tobytes() == native.observe(first).tobytes()
        assert single.tobytes() == PettingZooParallelEnv(game).reset(seed=SEED)[0][first].tobytes()
        assert single.tobytes() == batched.reset()[role, "observation"][0, 0].numpy().tobytes()
    assert single.tobytes() == vector[0].numpy().tobytes()


@pytest.mark.parametrize("kind", EVERY_GAME)
def test_a_seed_begins_again_and_none_goes_on(kind: str) -> None:
    game = make(kind)
    for view in (
        GymnasiumEnv(game),
        GymnasiumVectorEnv(game, 2),
        PettingZooParallelEnv(game),
        PettingZooAECEnv(game),
    ):
        begun = []
        for seed in (SEED, None, SEED):
            view.reset(seed=seed)
            begun.append(view.simulator.seed)
        assert begun[0] == begun[2] == table_seed(SEED) != begun[1]
    batched = TorchRLEnv(game, 2)
    batched.set_seed(SEED)
    batched.reset()
    assert batched.simulator.seed == table_seed(SEED)
    batched.reset()
    assert batched.simulator.seed != table_seed(SEED)

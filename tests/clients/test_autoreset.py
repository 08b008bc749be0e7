"""Autoreset modes: `GymnasiumVectorEnv` equals Gymnasium's `SyncVectorEnv` over single worlds."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import (
    FlattenObservation,
    NormalizeObservation,
    RecordEpisodeStatistics,
)

from mores.clients.gymnasium import GymnasiumEnv
from mores.clients.gymnasium_vector import GymnasiumVectorEnv
from mores.core.random_streams import Worlds
from mores.sim.simulator import Simulator
from tests.conformance.environments import Relay
from tests.learners.small_environments import unchecked
from tests.refusals import refused

SEED, WORLDS, ROUNDS, STEPS = 5, 6, 7, 30
METRICS = ("ran", "secrets")
# the agent acts in one phase of a round: after a policy (a runner), or twice (the caller)
AGENTS = {
    "runner_1": list(AutoresetMode),
    "caller_0": [AutoresetMode.SAME_STEP, AutoresetMode.DISABLED],
}
CASES = [(agent, mode) for agent, modes in AGENTS.items() for mode in modes]


class World(GymnasiumEnv):
    """One world of the batch: a reset without a seed begins the next episode of the same seed."""

    def __init__(self, world: int, **kwargs: Any) -> None:
        super().__init__(Relay(), **kwargs)
        self.simulator.worlds = Worlds.of([world])

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        if seed is not None:
            gymnasium.Env.reset(self, seed=SEED)
            self.simulator.reset(int(self.np_random.integers(2**63 - 1)))
        else:
            self.simulator.next_episode()
        return self._client.observe()[0].numpy(), self._info(False)


def environments(agent: str, mode: AutoresetMode) -> tuple[GymnasiumVectorEnv, SyncVectorEnv]:
    kwargs: dict[str, Any] = {"agent": agent, "rounds": ROUNDS, "metrics": METRICS}
    batch = GymnasiumVectorEnv(Relay(), WORLDS, autoreset_mode=mode, **kwargs)
    singles = [lambda world=world: World(world, **kwargs) for world in range(WORLDS)]
    return batch, SyncVectorEnv(singles, autoreset_mode=mode)


def assert_equal_infos(ours: dict[str, Any], theirs: dict[str, Any], acts: np.ndarray) -> None:
    """Equal keys and masks, and equal values where the masks are true.

    Action masks are compared in worlds that act next: others have none, and `final_info` neither.
    """
    masks = {"action_mask", "_action_mask"}
    assert ours.keys() | masks == theirs.keys() | masks
    for name, value in theirs.items():
        if name.startswith("_"):
            assert name in masks or np.array_equal(ours[name].numpy(), value), name
        elif isinstance(value, dict):
            assert_equal_infos(ours[name], value, acts)
        elif name in ours:
            valid = theirs[f"_{name}"] & (acts if name in masks else True)
            assert not valid.any() or np.array_equal(
                ours[name].numpy()[valid], _stacked(value[valid])
            )


def _stacked(rows: np.ndarray) -> np.ndarray:
    return np.stack([np.asarray(row) for row in rows])


@pytest.mark.parametrize(("agent", "mode"), CASES)
def test_steps_equal_those_of_single_worlds(agent: str, mode: AutoresetMode) -> None:
    batch, single = environments(agent, mode)
    single.action_space.seed(0)
    rng, lengths, length = np.random.default_rng(0), set[int](), np.zeros(WORLDS, int)
    one, other = batch.reset(seed=SEED), single.reset(seed=SEED)
    ended = np.zeros(WORLDS, bool)
    for _ in range(STEPS):
        assert np.array_equal(one[0].numpy(), other[0])
        acts = ~ended if mode is not AutoresetMode.SAME_STEP else np.ones(WORLDS, bool)
        assert_equal_infos(one[1], other[1], acts)
        if mode is AutoresetMode.DISABLED and ended.any():
            mask = ended | (rng.random(WORLDS) < 0.2) if agent == "runner_1" else ended
            one = batch.reset(options={"reset_mask": mask})
            other = single.reset(options={"reset_mask": mask})
            assert np.array_equal(one[0].numpy(), other[0])
            assert_equal_infos(one[1], other[1], mask)
            length[mask] = 0
        action = single.action_space.sample()
        (*first, info), (*second, expected_info) = batch.step(action), single.step(action)
        for mine, theirs in zip(first, second, strict=True):
            assert np.array_equal(mine.numpy(), theirs.astype(mine.numpy().dtype))
        one, other = (first[0], info), (second[0], expected_info)
        length += 1
        was_reset = ended if mode is AutoresetMode.NEXT_STEP else np.zeros(WORLDS, bool)
        length[was_reset] = 0
        ended = second[2] | second[3]
        lengths |= set(length[ended])
        if mode is AutoresetMode.SAME_STEP:
            length[ended] = 0
    assert len(lengths) > 2, lengths  # episodes of unequal lengths


@pytest.mark.parametrize("mode", AutoresetMode)
def test_gymnasiums_wrappers_accept_the_modes(mode: AutoresetMode) -> None:
    env: Any = gymnasium.make_vec(
        "mores/MoralHazard-v0",
        num_envs=4,
        agent="agent_0",
        rounds=3,
        autoreset_mode=mode.value,
        array="numpy",
    )
    assert env.metadata["autoreset_mode"] is env.unwrapped.autoreset_mode is mode
    if mode is not AutoresetMode.SAME_STEP:  # it would not transform `final_obs`
        env = FlattenObservation(env)
    if mode is AutoresetMode.NEXT_STEP:
        env = NormalizeObservation(env)
    env = RecordEpisodeStatistics(env)
    env.reset(seed=1)
    env.action_space.seed(1)
    lengths: list[int] = []
    for _ in range(12):
        *_, terminated, truncated, info = env.step(env.action_space.sample())
        done = terminated | truncated
        if done.any():
            lengths += info["episode"]["l"][done].tolist()
            if mode is AutoresetMode.DISABLED:
                env.reset(options={"reset_mask": done})
    assert lengths and set(lengths) <= set(range(1, 4))


@unchecked()
def test_what_is_no_mode_is_refused() -> None:
    for mode, code in (("NextStp", "unknown_name"), (True, "wrong_type")):
        with refused(code, "autoreset_mode"):
            GymnasiumVectorEnv(Relay(), 2, autoreset_mode=mode)  # type: ignore[arg-type]
        with refused(code, "autoreset_mode"):
            Simulator(Relay(), Relay().default_policies(), autoreset_mode=mode)  # type: ignore[arg-type]
    with refused("unsupported", "autoreset_mode"):  # the caller acts twice a round
        GymnasiumVectorEnv(Relay(), 2, agent="caller_0", autoreset_mode=AutoresetMode.NEXT_STEP)


@unchecked()
def test_what_is_no_reset_mask_is_refused() -> None:
    env = GymnasiumVectorEnv(Relay(), 2, agent="caller_0", autoreset_mode="Disabled")
    env.reset(seed=0)
    for mask, code in (
        ([True, False], "wrong_type"),
        (np.array([1, 0]), "wrong_type"),
        (np.array([True]), "wrong_shape"),
        (np.zeros(2, bool), "invalid_value"),
    ):
        with refused(code, "options.reset_mask"):
            env.reset(options={"reset_mask": mask})
    with refused("conflict", "seed"):
        env.reset(seed=1, options={"reset_mask": np.ones(2, bool)})
    with refused("wrong_type", "options"):
        env.reset(options=3)
    with refused("unsupported", "options"):
        env.reset(options={"reset_mask": np.ones(2, bool), "other": 1})
    env.step(np.zeros(2, int))
    with refused("wrong_order", "reset_mask"):  # in the middle of a round
        env.reset(options={"reset_mask": np.ones(2, bool)})
    env = GymnasiumVectorEnv(Relay(), 2, agent="runner_0", rounds=1, autoreset_mode="Disabled")
    env.reset(seed=0)
    env.step(np.zeros(2, int))
    with refused("wrong_order", "options.reset_mask"):  # both are finished
        env.step(np.zeros(2, int))
    env = GymnasiumVectorEnv(Relay(), 2)
    with refused("unsupported", "options.reset_mask"):
        env.reset(options={"reset_mask": np.ones(2, bool)})

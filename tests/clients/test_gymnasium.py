"""Gymnasium's own checks, on every environment and role."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import ArrayConversion, RecordEpisodeStatistics

from mores.clients.registration import gymnasium_id
from tests.clients.kinds import KINDS, MEANT, SEATS, gym_make, gym_make_vec, small
from tests.refusals import refused

pytestmark = pytest.mark.filterwarnings(*MEANT)


@pytest.mark.parametrize(("kind", "seat"), SEATS)
def test_check_env(kind: str, seat: str) -> None:
    check_env(gym_make(kind, seat=seat).unwrapped)


@pytest.mark.parametrize(("kind", "seat"), SEATS)
def test_make_vec(kind: str, seat: str) -> None:
    env = gym_make_vec(kind, num_envs=8, seat=seat)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    seen, _ = env.reset(seed=1)
    assert seen.numpy() in env.observation_space
    for _ in range(5):
        seen, *_ = env.step(env.action_space.sample())
        assert seen.numpy() in env.observation_space


@pytest.mark.parametrize("kind", KINDS)
def test_specification_survives_json(kind: str) -> None:
    """What is made from the saved specification plays the same."""
    first = gym_make(kind, rounds=7, measures=())
    second = gymnasium.make(EnvSpec.from_json(first.spec.to_json()))
    assert isinstance(gym_make_vec(kind, num_envs=8).spec.to_json(), str)
    for env in (first, second):
        env.action_space.seed(3)
    assert data_equivalence(first.reset(seed=3), second.reset(seed=3), exact=True)
    lengths = 0
    while True:
        one, other = (env.step(env.action_space.sample()) for env in (first, second))
        assert data_equivalence(one, other, exact=True)
        lengths += 1
        if one[2] or one[3]:
            break
    assert 1 <= lengths <= 7 * first.unwrapped._own.turns_per_round


@pytest.mark.parametrize("kind", KINDS)
def test_players_and_populations_by_name(kind: str) -> None:
    """Everything that can be said in JSON can be said to `make`."""
    role = gym_make(kind).unwrapped.game.roles[0].name
    last = gym_make(kind).unwrapped.game.roles[-1].name
    players = {role: {"kind": "anyhow"}}
    env = gym_make(kind, players=players, seat=f"{last}_0")
    again = gymnasium.make(EnvSpec.from_json(env.spec.to_json()))
    assert data_equivalence(env.reset(seed=3), again.reset(seed=3), exact=True)


@pytest.mark.parametrize(("kind", "seat"), SEATS)
def test_true_episode_lengths(kind: str, seat: str) -> None:
    """The recorder, outside the conversion to numpy, sees episodes as long as they are."""
    rounds, steps, worlds = 5, 40, 8
    own = gym_make_vec(kind, num_envs=worlds, seat=seat, rounds=rounds)
    turns = own.unwrapped._own.turns_per_round
    env = RecordEpisodeStatistics(ArrayConversion(own, env_xp=torch, target_xp=np))
    env.reset(seed=1)
    env.action_space.seed(1)
    begun, expected, found, pay = np.zeros(worlds, int), [], [], np.zeros(worlds)
    for _ in range(steps):
        _, reward, terminated, truncated, info = env.step(env.action_space.sample())
        begun, pay = begun + 1, pay + reward
        over = terminated | truncated
        assert ("episode" in info) == bool(over.any())
        if over.any():
            expected += [*zip(begun[over].tolist(), pay[over].tolist(), strict=True)]
            told = info["episode"]
            found += [*zip(told["l"][over].tolist(), told["r"][over].tolist(), strict=True)]
            begun, pay = np.where(over, 0, begun), np.where(over, 0.0, pay)
    assert len(found) >= worlds
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    lengths = [length for length, _ in found]
    assert max(lengths) == rounds * turns
    assert all(length % turns == 0 for length in lengths)


@pytest.mark.parametrize("kind", KINDS)
def test_max_episode_steps(kind: str) -> None:
    """Gymnasium may pass a limit in own turns, to one world and to many."""
    turns = gym_make(kind).unwrapped._own.turns_per_round
    env = gym_make_vec(kind, num_envs=2, max_episode_steps=2 * turns)
    env.reset(seed=1)
    ends = [env.step(env.action_space.sample())[3].tolist() for _ in range(2 * turns)]
    assert ends[-1] == [True, True] or kind == "commission"  # where a deal may end it before
    assert not any(any(end) for end in ends[:-1])
    if turns > 1:
        with refused("invalid_value", path="max_episode_steps"):
            gym_make_vec(kind, num_envs=2, max_episode_steps=2 * turns + 1)
    one = gym_make(kind, max_episode_steps=3)
    one.reset(seed=1)
    one.action_space.seed(1)
    ends = [one.step(one.action_space.sample())[3] for _ in range(3)]
    assert ends == [False, False, True]


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_gymnasium_s_own_vectors(mode: str) -> None:
    """Single environments side by side, in this process and in others."""
    env = gymnasium.make_vec(
        gymnasium_id(KINDS[0]), num_envs=2, vectorization_mode=mode, rounds=3, **small(KINDS[0])
    )
    env.reset(seed=1)
    for _ in range(7):
        _, _, _, truncated, _ = env.step(env.action_space.sample())
    env.close()
    assert truncated.tolist() == [True, True]


def test_a_wrong_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(gymnasium.error.NameNotFound, match="`LockIn`"):
        gymnasium.make("mores/LokIn-v0")
    with refused("unknown_name", path="lock_in.peple"):
        gymnasium.make("mores/LockIn-v0", peple=3)

"""PettingZoo's checks of every environment in every API."""

from __future__ import annotations

from typing import Any

import numpy as np
import pettingzoo
import pytest
from pettingzoo.test import (
    api_test,
    max_cycles_test,
    parallel_api_test,
    render_test,
    seed_test,
)
from pettingzoo.test.state_test import state_test
from pettingzoo.utils.conversions import aec_to_parallel, parallel_to_aec

import mores.clients.zoo
from mores.clients.registration import pettingzoo_id, versioned
from mores.registry import class_of
from tests.clients.kinds import FILTERS, KINDS, small, zoo_make
from tests.refusals import refused

pytestmark = pytest.mark.filterwarnings(*FILTERS)
AEC_SOURCES = ["converted", "native"]


def aec(source: str, kind: str, **kwargs: Any) -> Any:
    """The native AEC environment, or PettingZoo's conversion of the parallel one."""
    if source == "native":
        return zoo_make("aec", kind, **kwargs)
    return parallel_to_aec(zoo_make("parallel", kind, **kwargs))


@pytest.mark.parametrize("kind", KINDS)
def test_parallel_api(kind: str) -> None:
    parallel_api_test(zoo_make("parallel", kind, rounds=20), num_cycles=100)


@pytest.mark.cut(6)
@pytest.mark.parametrize("source", AEC_SOURCES)
@pytest.mark.parametrize("kind", KINDS)
def test_api(kind: str, source: str) -> None:
    api_test(aec(source, kind, rounds=20), num_cycles=50)


@pytest.mark.cut(18)
@pytest.mark.parametrize("source", AEC_SOURCES)
@pytest.mark.parametrize("kind", KINDS)
def test_seed(kind: str, source: str) -> None:
    seed_test(lambda: aec(source, kind), 50)


@pytest.mark.cut(6)
@pytest.mark.parametrize("source", AEC_SOURCES)
@pytest.mark.parametrize("kind", KINDS)
def test_whole_trajectory_is_seeded(kind: str, source: str) -> None:
    """Two episodes are reproducible. PettingZoo's seed test stops at the first end.

    Its `parallel_seed_test` compares one step only (PettingZoo 1.27.0, pull request 1437).
    """

    def trajectory(seed: int) -> list[Any]:
        env = aec(source, kind, rounds=4)
        rows: list[Any] = []
        for episode in range(2):
            env.reset(seed=seed if episode == 0 else None)  # continues the first seed
            for i, agent in enumerate(env.possible_agents):
                env.action_space(agent).seed(i)
            for agent in env.agent_iter():
                obs, reward, terminated, truncated, info = env.last()
                done = terminated or truncated
                mask = info.get("action_mask")
                action = None if done else env.action_space(agent).sample(mask)
                rows.append((agent, obs.tobytes(), reward, terminated, truncated, str(info)))
                env.step(action)
        return rows

    first = trajectory(5)
    half = len(first) // 2
    assert first == trajectory(5)
    assert first != trajectory(6)
    assert [row[1] for row in first[:half]] != [row[1] for row in first[-half:]]


class SmallModule:
    """A zoo module with small environments."""

    def __init__(self, kind: str, **parameters: Any) -> None:
        self._module = getattr(mores.clients.zoo, versioned(kind))
        self._small = small(kind) | parameters

    def parallel_env(self, **kwargs: Any) -> Any:
        return self._module.parallel_env(**kwargs, **self._small)

    def env(self, **kwargs: Any) -> Any:
        return self._module.env(**kwargs, **self._small)

    def aec_env(self, **kwargs: Any) -> Any:
        return self._module.aec_env(**kwargs, **self._small)


@pytest.mark.parametrize("kind", KINDS)
def test_max_cycles(kind: str) -> None:
    """PettingZoo's test resets without a seed and fails at a random termination."""
    random_end = {"termination_probability"} & set(class_of("environment", kind).model_fields)
    max_cycles_test(SmallModule(kind, **dict.fromkeys(random_end, 0.0)))


@pytest.mark.cut(9)
@pytest.mark.parametrize("kind", KINDS)
def test_render(kind: str) -> None:
    render_test(SmallModule(kind).env)
    render_test(SmallModule(kind).aec_env)


@pytest.mark.parametrize("kind", KINDS)
def test_state(kind: str) -> None:
    module = SmallModule(kind)
    state_test(module.env(), module.parallel_env())
    state_test(module.aec_env(), module.parallel_env())


@pytest.mark.parametrize("kind", KINDS)
def test_registry(kind: str) -> None:
    """The registered environment equals that of the zoo module."""
    registered = pettingzoo.make("parallel", pettingzoo_id(kind), **small(kind), rounds=3)
    from_module = SmallModule(kind).parallel_env(rounds=3)
    observations, _ = registered.reset(seed=2)
    others, _ = from_module.reset(seed=2)
    assert list(observations) == list(others) == from_module.possible_agents
    assert all(np.array_equal(obs, others[agent]) for agent, obs in observations.items())
    assert str(from_module) == versioned(kind)


@pytest.mark.cut(6)
@pytest.mark.parametrize("kind", KINDS)
def test_aec_is_parallelizable_if_all_agents_act_at_once(kind: str) -> None:
    """Converted back, it then equals the parallel environment; else the conversion is refused."""
    aec_env, parallel = (zoo_make(api, kind, rounds=3) for api in ("aec", "parallel"))
    parallel.reset(seed=1)
    phases = [{*phase.action_spaces} for phase in aec_env.environment.phases]
    if any(phase != phases[0] for phase in phases):
        with pytest.raises(AssertionError, match="not generally safe"):
            aec_to_parallel(aec_env)
        return
    converted = aec_to_parallel(aec_env)
    observations = converted.reset(seed=1)[0], parallel.observe
    while parallel.agents:
        assert all(np.array_equal(obs, observations[1](a)) for a, obs in observations[0].items())
        actions = {agent: parallel.action_space(agent).sample() for agent in parallel.agents}
        obs, rewards, terminated, truncated, _ = converted.step(actions)
        expected = parallel.step(actions)
        assert (rewards, terminated, truncated) == expected[1:4]
        observations = obs, parallel.observe


def test_converted_environments_can_be_converted_back() -> None:
    module = SmallModule("moral_hazard")  # three phases
    assert module.env().metadata["is_parallelizable"]
    assert aec_to_parallel(module.env()).reset(seed=1)[1]["agent_0"]["acting"] is False
    assert not module.aec_env().metadata["is_parallelizable"]
    assert module.aec_env(external=["principal"]).metadata["is_parallelizable"]  # acts twice


def test_wrappers_draw_from_np_random() -> None:
    """SuperSuit's random `frame_skip`; episodes of one seed stay equal."""
    supersuit = pytest.importorskip("supersuit")
    env = supersuit.frame_skip_v0(zoo_make("parallel", "dr_mdp", rounds=20), (1, 4))
    trajectories = []
    for _ in range(2):
        env.reset(seed=3)
        rewards = [env.step(dict.fromkeys(env.agents, 1))[1] for _ in range(4)]
        trajectories.append((rewards, int(env.unwrapped.np_random.integers(2**62))))
    assert trajectories[0] == trajectories[1]


def test_wrong_types_are_refused() -> None:
    for name, value in (("policies", 3), ("external", "assistant"), ("max_cycles", "3")):
        with refused("wrong_type", name):
            zoo_make("parallel", "coevolution", **{name: value})
    env = zoo_make("parallel", "dr_mdp")
    env.reset(seed=1)
    with refused("wrong_type", "actions"):
        env.step(None)


def test_unknown_zoo_module() -> None:
    with pytest.raises(AttributeError, match="'lock_in_v1'"):
        mores.clients.zoo.lokin_v0  # noqa: B018
    assert versioned(KINDS[0]) in dir(mores.clients.zoo)

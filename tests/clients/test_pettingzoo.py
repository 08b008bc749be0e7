"""PettingZoo's own checks, on every environment in every form."""

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
from pettingzoo.utils.conversions import parallel_to_aec

import mores.clients.zoo
from mores.clients.registration import pettingzoo_id
from mores.registry import class_of
from tests.clients.kinds import KINDS, MEANT, small, zoo_make

pytestmark = pytest.mark.filterwarnings(*MEANT)
FORMS = ["converted", "native"]


def aec(form: str, kind: str, **kwargs: Any) -> Any:
    """An AEC environment: ours, or PettingZoo's conversion of our parallel one."""
    if form == "native":
        return zoo_make("aec", kind, **kwargs)
    return parallel_to_aec(zoo_make("parallel", kind, **kwargs))


@pytest.mark.parametrize("kind", KINDS)
def test_parallel_api(kind: str) -> None:
    parallel_api_test(zoo_make("parallel", kind, rounds=20), num_cycles=100)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_api(kind: str, form: str) -> None:
    api_test(aec(form, kind, rounds=20), num_cycles=50)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_seed(kind: str, form: str) -> None:
    seed_test(lambda: aec(form, kind), 50)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_whole_trajectory_is_seeded(kind: str, form: str) -> None:
    """PettingZoo's seed test stops at the first end; this goes on over two episodes.

    Its `parallel_seed_test` compares one step only (PettingZoo 1.27.0, pull request 1437).
    """

    def lived(seed: int) -> list[Any]:
        env = aec(form, kind, rounds=4)
        found: list[Any] = []
        for episode in range(2):
            env.reset(seed=seed if episode == 0 else None)  # the second follows from the first
            for i, agent in enumerate(env.possible_agents):
                env.action_space(agent).seed(i)
            for agent in env.agent_iter():
                seen, reward, terminated, truncated, info = env.last()
                over = terminated or truncated
                mask = info.get("action_mask")
                action = None if over else env.action_space(agent).sample(mask)
                found.append((agent, seen.tobytes(), reward, terminated, truncated, str(info)))
                env.step(action)
        return found

    first = lived(5)
    half = len(first) // 2
    assert first == lived(5)
    assert first != lived(6)
    assert [row[1] for row in first[:half]] != [row[1] for row in first[-half:]]


class SmallModule:
    """A zoo module whose environments are made small."""

    def __init__(self, kind: str, **parameters: Any) -> None:
        self._module = getattr(mores.clients.zoo, f"{kind}_v0")
        self._small = small(kind) | parameters

    def parallel_env(self, **kwargs: Any) -> Any:
        return self._module.parallel_env(**kwargs, **self._small)

    def env(self, **kwargs: Any) -> Any:
        return self._module.env(**kwargs, **self._small)

    def aec_env(self, **kwargs: Any) -> Any:
        return self._module.aec_env(**kwargs, **self._small)


@pytest.mark.parametrize("kind", KINDS)
def test_max_cycles(kind: str) -> None:
    """It resets without a seed, and takes an end by chance for one that came too early."""
    by_chance = "quits" in class_of("environment", kind).model_fields
    max_cycles_test(SmallModule(kind, **({"quits": 0.0} if by_chance else {})))


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
    """What is registered is what the zoo has."""
    named = pettingzoo.make("parallel", pettingzoo_id(kind), **small(kind), rounds=3)
    ours = SmallModule(kind).parallel_env(rounds=3)
    seen, _ = named.reset(seed=2)
    other, _ = ours.reset(seed=2)
    assert list(seen) == list(other) == ours.possible_agents
    assert all(np.array_equal(seen[agent], other[agent]) for agent in seen)
    assert str(ours) == f"{kind}_v0"


def test_zoo_knows_no_other() -> None:
    with pytest.raises(AttributeError, match="'lock_in_v0'"):
        mores.clients.zoo.lokin_v0  # noqa: B018
    assert f"{KINDS[0]}_v0" in dir(mores.clients.zoo)

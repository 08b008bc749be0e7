"""Action boxes have units in which a random policy is sane, where learners begin."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from mores.core.spaces import Box
from mores.envs.opinion.lock_in import LockIn
from mores.sim.simulator import Simulator
from tests.conformance.environments import SHIPPED, make

ROUNDS, WORLDS = 10, 16
# Largest absolute bound of each role's box.
LARGEST = {
    ("coevolution", "person"): 10.0,  # value_limit
    ("coevolution", "assistant"): 10.0,
    ("contracts", "principal"): 1.5,  # max_slope, max_salary
    ("contracts", "agent"): 3.0,  # max_effort
    ("lock_in", "person"): 11.314,  # 8 standard deviations of evidence
    ("lock_in", "assistant"): 11.314,
    ("welfare_game", "composer"): 6.0,  # max_words
    ("opinion_messages", "person"): 1.0,
    ("panel", "person"): 7.0,  # the largest code of an answer
    ("principal_agent", "customer"): 10.0,  # rating_limit
    ("principal_agent", "principal"): 10.0,
    ("survey", "person"): 1.0,
}
FACTOR = 100.0  # of a random policy's return, in units of a round's reward of the default policies


def test_bounds() -> None:
    found = {}
    for kind in SHIPPED:
        for phase in make(kind).phases:
            for role, space in phase.action_spaces.items():
                if isinstance(space, Box):
                    found[kind, role] = max(map(abs, (*space.low, *space.high)))
    assert found == pytest.approx(LARGEST, rel=1e-3)


@pytest.mark.cut(5)
@pytest.mark.parametrize("kind", sorted({kind for kind, _ in LARGEST}))
def test_returns_of_random_policies(kind: str) -> None:
    """Finite, and not far larger than rewards of the default policies."""
    if kind == "opinion_messages":
        pytest.skip("no rewards, and messages of random bytes")
    environment = make(kind)
    default = largest_return(kind, environment.default_policies())
    random = largest_return(kind, dict.fromkeys((r.name for r in environment.roles), "random"))
    for role, value in random.items():
        assert value <= FACTOR * max(1.0, default[role]), (role, value, default[role])


def largest_return(kind: str, policies: dict[str, object]) -> dict[str, float]:
    """Largest absolute return of each role in an episode."""
    simulator = Simulator(make(kind), policies, worlds=WORLDS, rounds=ROUNDS)  # type: ignore[arg-type]
    totals: dict[str, Tensor] = {role: torch.zeros(()) for role in simulator.roles}

    def add(role: str, reward: Tensor) -> None:
        totals[role] = totals[role] + reward

    simulator.reward_ledger.listeners.append(add)
    simulator.reset(0)
    for _ in range(ROUNDS):
        if not simulator.all_finished:
            simulator.step()
    assert all(bool(torch.isfinite(total).all()) for total in totals.values())
    return {role: float(total.abs().max()) for role, total in totals.items()}


@pytest.mark.cut(3)
@pytest.mark.parametrize(
    ("truth_std", "noise_std"), itertools.product([0.0, 1.0, 100.0], [0.01, 1.0])
)
def test_honest_reports_are_within_the_box(truth_std: float, noise_std: float) -> None:
    """The box of `lock_in` follows its units, and truthful reports are never projected to it."""
    environment = LockIn(num_people=8, truth_std=truth_std, evidence_noise_std=noise_std)
    simulator = Simulator(environment, environment.default_policies(), worlds=64, rounds=ROUNDS)
    simulator.reset(0)
    for _ in range(ROUNDS):
        simulator.step()
        assert float(simulator.state.reports.abs().max()) < 0.9 * environment.report_limit

"""What is computed ahead for the next episodes changes no number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mores.core import next_episodes, pytree
from mores.core.environment import Environment, StepResult
from mores.sim import next_states
from mores.sim.simulator import Simulator
from tests.conformance.environments import ALL_KINDS, make
from tests.learners.small_environments import unchecked

WORLDS, ROUNDS = 4, 14


def end_at_random(step: Callable[..., StepResult[Any]]) -> Callable[..., StepResult[Any]]:
    """The method `step` of an environment, with an end in a third of the rounds."""

    def ending(self: Environment[Any], *arguments: Any) -> StepResult[Any]:
        result = step(self, *arguments)
        ends = arguments[-1].child("test").uniform("end")[:, 0, 0] < 1 / 3
        return StepResult(result.state, result.reward, ends, result.feedback)

    return ending


@unchecked()
@pytest.mark.cut(3)
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_what_is_computed_ahead_changes_no_number(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = make(kind)
    monkeypatch.setattr(type(environment), "step", end_at_random(type(environment).step))

    def simulated() -> list[dict[str, torch.Tensor]]:
        policies = environment.default_policies()
        simulator = Simulator(environment, policies, {}, WORLDS, 8, "same_step")
        simulator.reset(5)
        states = []
        for _ in range(ROUNDS):
            simulator.step()
            states.append(pytree.flatten([simulator.state, simulator.policy_states]))
        assert int(simulator.episode.sum()) > WORLDS
        return states

    ahead = simulated()
    monkeypatch.setattr(next_states, "MAX_ELEMENTS", 0)
    monkeypatch.setattr(next_episodes, "MAX_WORDS", 0)
    for one, other in zip(ahead, simulated(), strict=True):
        assert one.keys() == other.keys()
        for name, tensor in one.items():
            size = min(tensor.shape[-1], other[name].shape[-1]) if tensor.dim() == 2 else None
            # ties of graphs are padded to the largest number of any world so far
            pair = tensor[..., :size], other[name][..., :size]
            torch.testing.assert_close(*pair, rtol=0, atol=0, equal_nan=True, msg=name)

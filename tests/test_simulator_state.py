"""Errors of incomplete states, and of states of other simulators."""

from __future__ import annotations

import pytest
import torch

from mores.core.policy import ActionOutput, Policy
from mores.envs.strategic.moral_hazard import FixedSharePrincipal, MoralHazard
from mores.sim.simulator import Simulator
from tests.refusals import refused


class Counter(Policy):
    """Policy that counts its actions and has no initial state."""

    def act(self, phase, observation, action_mask, state, streams):
        count = torch.zeros(len(observation)) if state is None else state
        return ActionOutput(torch.zeros(observation.shape[:2], dtype=torch.int64), count + 1)


def test_tensors_without_an_initial_value_are_an_error():
    policies = {"agent": Counter(), "principal": FixedSharePrincipal()}
    simulator = Simulator(MoralHazard(), policies, rounds=9)
    simulator.reset(0)
    simulator.step()
    with refused("incompatible"):
        simulator.load_state_dict(simulator.state_dict())


@pytest.mark.parametrize("argument", [{"worlds": [5]}, {"stage": 1}, {"rounds": 8}])
def test_a_state_of_other_worlds_is_an_error_and_changes_nothing(argument):
    environment = MoralHazard()
    policies = environment.default_policies()
    simulator = Simulator(environment, policies, rounds=9)
    simulator.reset(0)
    other = Simulator(environment, policies, **{"rounds": 9, **argument})
    other.reset(3)
    before = other.state_dict()
    with refused("incompatible"):
        other.load_state_dict(simulator.state_dict())
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())

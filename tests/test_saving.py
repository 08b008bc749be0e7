"""What cannot be saved whole, or loaded where it belongs, is refused."""

from __future__ import annotations

import pytest
import torch

from mores.core.environment import ActionOutput, Policy
from mores.envs.strategic.moral_hazard import FixedSharePrincipal, MoralHazard
from mores.sim.simulator import Simulator
from tests.refusals import refused


class Counter(Policy):
    """Counts its acts, and does not say so at the start."""

    def act(self, phase, observation, action_mask, state, streams):
        count = torch.zeros(len(observation)) if state is None else state
        return ActionOutput(torch.zeros(observation.shape[:2], dtype=torch.int64), count + 1)


def test_a_memory_that_would_be_lost_is_refused():
    game = MoralHazard()
    table = Simulator(game, {"agent": Counter(), "principal": FixedSharePrincipal()}, rounds=9)
    table.reset(0)
    table.step()
    with refused("incompatible"):
        table.load_state_dict(table.state_dict())


@pytest.mark.parametrize("other", [{"worlds": [5]}, {"stage": 1}, {"rounds": 8}])
def test_a_state_of_other_worlds_is_refused_and_changes_nothing(other):
    game = MoralHazard()
    table = Simulator(game, game.default_policies(), rounds=9)
    table.reset(0)
    held = table.state_dict()
    stranger = Simulator(game, game.default_policies(), **{"rounds": 9, **other})
    stranger.reset(3)
    before = stranger.state_dict()
    with refused("incompatible"):
        stranger.load_state_dict(held)
    assert all(torch.equal(tensor, before[name]) for name, tensor in stranger.state_dict().items())

"""What cannot be saved whole, or loaded where it belongs, is refused."""

from __future__ import annotations

import pytest
import torch

from mores.core.environment import Act, Player
from mores.envs.strategic.moral_hazard import Commission, FairPrincipal
from mores.sim.simulator import Table
from tests.refusals import refused


class Counter(Player):
    """Counts its acts, and does not say so at the start."""

    def act(self, phase, seen, legal, memory, draws):
        count = torch.zeros(len(seen)) if memory is None else memory
        return Act(torch.zeros(seen.shape[:2], dtype=torch.int64), count + 1)


def test_a_memory_that_would_be_lost_is_refused():
    game = Commission()
    table = Table(game, {"agent": Counter(), "principal": FairPrincipal()}, rounds=9)
    table.reset(0)
    table.step()
    with refused("incompatible"):
        table.load_state_dict(table.state_dict())


@pytest.mark.parametrize("other", [{"worlds": [5]}, {"stage": 1}, {"rounds": 8}])
def test_a_state_of_other_worlds_is_refused_and_changes_nothing(other):
    game = Commission()
    table = Table(game, game.baseline(), rounds=9)
    table.reset(0)
    held = table.state_dict()
    stranger = Table(game, game.baseline(), **{"rounds": 9, **other})
    stranger.reset(3)
    before = stranger.state_dict()
    with refused("incompatible"):
        stranger.load_state_dict(held)
    assert all(torch.equal(tensor, before[name]) for name, tensor in stranger.state_dict().items())

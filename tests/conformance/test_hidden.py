"""What is hidden is not seen, measures are told on request, and what is given out is one's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import mores
from mores.clients.gymnasium import GymnasiumEnv
from mores.clients.gymnasium_vector import GymnasiumVectorEnv
from mores.clients.pettingzoo import PettingZooAECEnv, PettingZooParallelEnv
from mores.clients.torchrl import TorchRLEnv
from mores.core import pytree
from mores.core.environment import Discrete
from tests.conformance.games import EVERY_GAME, Relay, make
from tests.refusals import refused

# What a role must not see, as paths in the state: of others (each seat may see its own), or of all.
HIDDEN = {
    "coevolution": {"person": ["people/values", "anchor"], "": ["reference"]},
    "commission": {"agent": ["cost", "ability", "effort"]},
    "influence": {"assistant": ["taste", "nature", "first", "influences", "susceptibility"]},
    "lock_in": {"": ["truth"]},
    "panel": {"person": ["held/disposition", "held/temporary", "waves"], "": ["treated"]},
    "relay": {"runner": ["secret"]},
    "meeting": {},
    "errands": {"porter": ["strength", "at"]},
}


@pytest.mark.parametrize("kind", EVERY_GAME)
def test_changing_what_is_hidden_changes_no_observation(kind: str) -> None:
    game = make(kind)
    everybody = {role.name: list(range(role.num_agents)) for role in game.roles}
    table = mores.Simulator(game, {}, everybody, 2, 9)
    table.reset(1)
    for _ in range(2 * len(game.phases)):  # on the way, so that states are not all zeros
        given = {}
        for role in table.acting_roles:
            space = table.phase.action_spaces[role]
            shape = (2, table.roles[role].num_agents)
            given[role] = torch.ones(shape if isinstance(space, Discrete) else (*shape, space.size))
        table.step(given)
    held = pytree.flatten(table.state)
    for owner, paths in HIDDEN.get(kind, {}).items():
        for path in paths:
            changed = dict(held)
            changed[path] = held[path] + 1
            if owner:  # the first seat keeps its own
                changed[path][:, 0] = held[path][:, 0]
            state = pytree.restore(table.state, changed)
            assert not torch.equal(pytree.flatten(state)[path], held[path])
            for role in game.roles:
                own = slice(0, 1) if role.name == owner else slice(None)
                for phase in game.phases:
                    seen = game.observe(state, role.name, phase.name)[:, own]
                    before = game.observe(table.state, role.name, phase.name)[:, own]
                    assert torch.equal(seen, before), (path, role.name, phase.name)


@pytest.mark.parametrize("kind", EVERY_GAME)
def test_measures_are_told_only_on_request(kind: str) -> None:
    game = make(kind)
    seat = f"{game.roles[0].name}_0"
    names = set(game.metrics(game.reset(mores.RandomStreams.of(0, 1))))
    views: list[Any] = [
        GymnasiumEnv(game, seat),
        GymnasiumVectorEnv(game, 2, seat),
        PettingZooParallelEnv(game),
        PettingZooAECEnv(game),
    ]
    for view in views:
        got = view.reset(seed=1)
        infos = view.infos if isinstance(view, PettingZooAECEnv) else got[1]
        told = set(infos) | {
            key for info in infos.values() if isinstance(info, dict) for key in info
        }
        assert not names & told
    name = sorted(names)[0]
    for view in (
        GymnasiumEnv(game, seat, metrics=[name]),
        GymnasiumVectorEnv(game, 2, seat, metrics=[name]),
    ):
        assert name in view.reset(seed=1)[1]
    for view in (
        PettingZooParallelEnv(game, metrics=[name]),
        PettingZooAECEnv(game, metrics=[name]),
    ):
        got = view.reset(seed=1)
        infos = view.infos if isinstance(view, PettingZooAECEnv) else got[1]
        assert all(name in info for info in infos.values())


def test_measures_of_an_episode_that_ended() -> None:
    """`info` tells of the new episode, `final_info` of the one that ended; alone it is the same."""
    names = ("rounds", "secrets")
    env = GymnasiumVectorEnv(Relay(quits=0), 1, "caller_0", rounds=3, metrics=names)
    one = GymnasiumEnv(Relay(quits=0), "caller_0", rounds=3, metrics=names)
    batched = TorchRLEnv(Relay(quits=0), 1, external=["caller"], rounds=3, metrics=names)
    batched.set_seed(2)
    env.reset(seed=2)
    one.reset(seed=2)
    data = batched.reset()
    for _ in range(6):
        *_, told = env.step(torch.tensor([1]))
        *_, alone = one.step(1)
        data["caller", "action"] = torch.ones(1, 1, dtype=torch.int64)
        data, start = batched.step_and_maybe_reset(data)
        data, shown = start, data["next", "measures"]
    assert told["rounds"].tolist() == [0.0]
    assert told["final_info"]["rounds"].tolist() == [3.0] == [alone["rounds"]]
    assert np.array_equal(told["final_info"]["secrets"][0].numpy(), alone["secrets"])
    assert torch.equal(shown["secrets"], told["final_info"]["secrets"])
    assert torch.equal(start["measures", "secrets"], told["secrets"])
    with refused("unknown_name", path="measures"):
        GymnasiumEnv(Relay(), "caller_0", metrics=["round"]).reset()


@pytest.mark.parametrize("kind", EVERY_GAME)
def test_what_is_given_out_is_ones_own(kind: str) -> None:
    """Writing into observations, masks and measures changes nothing inside."""
    game = make(kind)
    seat = f"{game.roles[0].name}_0"
    names = sorted(game.metrics(game.reset(mores.RandomStreams.of(0, 1))))
    for view in (
        GymnasiumEnv(game, seat, metrics=names),
        GymnasiumVectorEnv(game, 2, seat, metrics=names),
    ):
        seen, info = view.reset(seed=1)
        held = {
            name: tensor.clone() for name, tensor in pytree.flatten(view.simulator.state).items()
        }
        seen[...] = 7
        for value in info.values():
            if isinstance(value, (np.ndarray, torch.Tensor)):
                value[...] = 1
        now = pytree.flatten(view.simulator.state)
        assert all(torch.equal(now[n].nan_to_num(), held[n].nan_to_num()) for n in held)
    parallel = PettingZooParallelEnv(game, metrics=names)
    seen, _ = parallel.reset(seed=1)
    state = parallel.state().copy()
    for array in seen.values():
        array[...] = 7
    parallel.state()[...] = 7
    assert np.array_equal(parallel.state(), state)


def test_state_is_made_of_sights() -> None:
    env = PettingZooParallelEnv(Relay())
    seen, _ = env.reset(seed=1)
    assert np.array_equal(env.state(), np.concatenate(list(seen.values())))
    assert env.state() in env.state_space

"""Latent quantities are not observed, metrics are given on request, returned arrays are copies."""

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
from mores.core.spaces import Discrete
from tests.conformance.environments import ALL_KINDS, Relay, make
from tests.refusals import refused

# Paths in the state that a role must not observe: those of other agents, or ("") of any agent.
HIDDEN = {
    "coevolution": {"person": ["people/values", "anchor"], "": ["history_position"]},
    "coevolution_person": {"person": ["people/values", "anchor"], "": ["history_position"]},
    "coevolution_group": {"person": ["people/values", "anchor"], "": ["history_position"]},
    "contracts": {"agent": ["outside_option", "effort", "output", "income"]},
    "moral_hazard": {"agent": ["effort_cost", "max_effort", "effort"]},
    "dr_mdp": {
        "assistant": [
            "preference",
            "natural_preference",
            "initial_preference",
            "num_influences",
            "susceptibility",
        ]
    },
    "lock_in": {"": ["truth"]},
    "panel": {
        "person": ["trait_state/disposition", "trait_state/state_residual", "wave_answers"],
        "": ["treated"],
    },
    "welfare_game": {"user": ["writing_cost"], "": ["is_vague"]},
    "relay": {"runner": ["secret"]},
    "meeting": {},
    "errands": {"porter": ["strength", "place"]},
}
assert set(HIDDEN) <= set(ALL_KINDS)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_hidden_state_changes_no_observation(kind: str) -> None:
    environment = make(kind)
    external = {role.name: list(range(role.num_agents)) for role in environment.roles}
    simulator = mores.Simulator(environment, {}, external, 2, 9)
    simulator.reset(1)
    for _ in range(2 * len(environment.phases)):  # so that not all of the state is zero
        actions = {}
        for role in simulator.acting_roles:
            space = simulator.phase.action_spaces[role]
            shape = (2, simulator.roles[role].num_agents)
            shape = shape if isinstance(space, Discrete) else (*shape, space.size)
            actions[role] = torch.ones(shape)
        simulator.step(actions)
    tensors = pytree.flatten(simulator.state)
    for owner, paths in HIDDEN.get(kind, {}).items():
        for path in paths:
            changed = dict(tensors)
            changed[path] = tensors[path] + 1
            if owner:  # not of the first agent
                changed[path][:, 0] = tensors[path][:, 0]
            state = pytree.restore(simulator.state, changed)
            assert not torch.equal(pytree.flatten(state)[path], tensors[path])
            for role in environment.roles:
                first = slice(0, 1) if role.name == owner else slice(None)
                for phase in environment.phases:
                    obs = environment.observe(state, role.name, phase.name)[:, first]
                    before = environment.observe(simulator.state, role.name, phase.name)[:, first]
                    assert torch.equal(obs, before), (path, role.name, phase.name)


@pytest.mark.cut(3)
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_metrics_are_given_only_on_request(kind: str) -> None:
    environment = make(kind)
    agent = f"{environment.roles[0].name}_0"
    names = set(environment.metrics(environment.reset(mores.RandomStreams.of(0, 1))))
    clients: list[Any] = [
        GymnasiumEnv(environment, agent),
        GymnasiumVectorEnv(environment, 2, agent),
        PettingZooParallelEnv(environment),
        PettingZooAECEnv(environment),
    ]
    for client in clients:
        result = client.reset(seed=1)
        infos = client.infos if isinstance(client, PettingZooAECEnv) else result[1]
        nested = (info for info in infos.values() if isinstance(info, dict))
        assert not names & (set(infos) | {key for info in nested for key in info})
    name = sorted(names)[0]
    for client in (
        GymnasiumEnv(environment, agent, metrics=[name]),
        GymnasiumVectorEnv(environment, 2, agent, metrics=[name]),
    ):
        assert name in client.reset(seed=1)[1]
    for client in (
        PettingZooParallelEnv(environment, metrics=[name]),
        PettingZooAECEnv(environment, metrics=[name]),
    ):
        result = client.reset(seed=1)
        infos = client.infos if isinstance(client, PettingZooAECEnv) else result[1]
        assert all(name in info for info in infos.values())


def test_metrics_of_an_ended_episode() -> None:
    """`info` is of the new episode, `final_info` of the ended one, as in a single world."""
    names = ("rounds", "secrets")
    relay = Relay(termination_probability=0)
    vector = GymnasiumVectorEnv(relay, 1, "caller_0", rounds=3, metrics=names)
    single = GymnasiumEnv(relay, "caller_0", rounds=3, metrics=names)
    torchrl_env = TorchRLEnv(relay, 1, external=["caller"], rounds=3, metrics=names)
    torchrl_env.set_seed(2)
    vector.reset(seed=2)
    single.reset(seed=2)
    data = torchrl_env.reset()
    for _ in range(6):
        *_, info = vector.step(torch.tensor([1]))
        *_, single_info = single.step(1)
        data["caller", "action"] = torch.ones(1, 1, dtype=torch.int64)
        data, following = torchrl_env.step_and_maybe_reset(data)
        data, final_metrics = following, data["next", "metrics"]
    assert info["rounds"].tolist() == [0.0]
    assert info["final_info"]["rounds"].tolist() == [3.0] == [single_info["rounds"]]
    assert np.array_equal(info["final_info"]["secrets"][0].numpy(), single_info["secrets"])
    assert torch.equal(final_metrics["secrets"], info["final_info"]["secrets"])
    assert torch.equal(following["metrics", "secrets"], info["secrets"])
    with refused("unknown_name", path="metrics"):
        GymnasiumEnv(Relay(), "caller_0", metrics=["round"]).reset()


@pytest.mark.cut(3)
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_returned_arrays_are_copies(kind: str) -> None:
    """Writing into observations, masks and metrics does not change the simulator."""
    environment = make(kind)
    agent = f"{environment.roles[0].name}_0"
    names = sorted(environment.metrics(environment.reset(mores.RandomStreams.of(0, 1))))
    for client in (
        GymnasiumEnv(environment, agent, metrics=names),
        GymnasiumVectorEnv(environment, 2, agent, metrics=names),
    ):
        obs, info = client.reset(seed=1)
        before = {n: t.clone() for n, t in pytree.flatten(client.simulator.state).items()}
        obs[...] = 7
        for value in info.values():
            if isinstance(value, (np.ndarray, torch.Tensor)):
                value[...] = 1
        after = pytree.flatten(client.simulator.state)
        assert all(torch.equal(after[n].nan_to_num(), before[n].nan_to_num()) for n in before)
    parallel = PettingZooParallelEnv(environment, metrics=names)
    observations, _ = parallel.reset(seed=1)
    state = parallel.state().copy()
    for array in observations.values():
        array[...] = 7
    parallel.state()[...] = 7
    assert np.array_equal(parallel.state(), state)


def test_state_is_the_concatenation_of_observations() -> None:
    env = PettingZooParallelEnv(Relay())
    observations, _ = env.reset(seed=1)
    assert np.array_equal(env.state(), np.concatenate(list(observations.values())))
    assert env.state() in env.state_space

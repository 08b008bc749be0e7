"""Replays of single replicates and purity of steps, bit for bit."""

from __future__ import annotations

import pytest
import torch

from mores.agents.people.survey_respondent import SurveyRespondent
from mores.agents.scripted.assistants import Persuader
from mores.agents.scripted.uniform_random import UniformRandom
from mores.core.pytree import flatten
from mores.envs.influence.dr_mdp import DRMDP
from mores.envs.opinion.coevolution import Coevolution
from mores.envs.opinion.lock_in import LockIn
from mores.envs.strategic.moral_hazard import MoralHazard
from mores.sim.simulation import simulate
from mores.sim.simulator import Simulator

PEERS = {"rule": "friedkin_johnsen", "graph": {"kind": "homophily", "degree": 6}}
COEVOLUTION = Coevolution(
    human="idealised",
    num_people=101,
    num_values=3,
    num_assistants=2,
    noise_std=0.1,
    history={"noise_std": 0.1, "attraction": 0.1},
    peers=PEERS,
    ai_influence=0.3,
    confidence_bound=2.0,
)
NOISY = {"assistant": Persuader(goal=[1.0, 0.0, -1.0]), "person": SurveyRespondent(noise_std=0.2)}
CASES = {
    "coevolution": (COEVOLUTION, NOISY),
    "lock_in": (LockIn(num_people=101, num_assistants=3), {}),
    "moral_hazard": (
        MoralHazard(num_agents=7),
        {"agent": UniformRandom(), "principal": UniformRandom()},
    ),
    "dr_mdp": (DRMDP(num_people=7, susceptibility=0.6, susceptible_share=0.5), {}),
}


@pytest.mark.cut(2)
@pytest.mark.parametrize("name", CASES)
def test_replicate_37_alone_equals_replicate_37_of_512(name):
    environment, policies = CASES[name]
    batch = simulate(environment, policies, 512, 12, seed=6)
    single = simulate(environment, policies, [37], 12, seed=6)
    pair = simulate(environment, policies, [400, 37], 12, seed=6)
    for path, tensor in flatten(single.state).items():
        assert torch.equal(tensor[0], flatten(batch.state)[path][37]), path
        assert torch.equal(tensor[0], flatten(pair.state)[path][1]), path


@pytest.mark.parametrize("name", CASES)
def test_a_step_does_not_modify_the_state(name):
    environment, policies = CASES[name]
    policies = {**environment.default_policies(), **policies}
    simulator = Simulator(environment, policies, worlds=3, rounds=20)
    simulator.reset(0)
    for _ in range(3):
        before = simulator.state
        copy = {path: tensor.clone() for path, tensor in flatten(before).items()}
        simulator.step()
        for path, tensor in flatten(before).items():
            assert torch.equal(tensor, copy[path]), path


def test_recorded_rounds_do_not_change_the_simulation():
    environment, policies = CASES["coevolution"]
    every = simulate(environment, policies, 3, 12, 1, ["drift"])
    some = simulate(environment, policies, 3, 12, 1, ["drift"], metric_rounds=[0, 5, 12])
    assert every.metrics.isel(round=[0, 5, 12]).identical(some.metrics)


def test_finished_worlds_do_not_change():
    environment = MoralHazard(termination_probability=0.3)
    metrics = simulate(environment, {}, 50, 40, 2, ["promises_kept"]).metrics
    promises = metrics["promises_kept"].values
    assert (promises[:, -1] < 40).all()
    constant = promises[:, 1:] == promises[:, :-1]
    assert (constant[:, :-1] <= constant[:, 1:]).all()  # from the end on

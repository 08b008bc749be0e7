"""Twin worlds and replays, bit for bit, in every shipped environment."""

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

PEERS = {"rule": "friedkin_johnsen", "ties": 6}
COEVOLUTION = Coevolution(
    num_people=101,
    num_values=3,
    num_assistants=2,
    noise_std=0.1,
    history={"noise": 0.1, "pull": 0.1},
    peers=PEERS,
    ai_influence=0.3,
    confidence_bound=2.0,
)
LOUD = {"assistant": Persuader(goal=[1.0, 0.0, -1.0]), "person": SurveyRespondent(noise_std=0.2)}
CASES = {
    "coevolution": (COEVOLUTION, LOUD),
    "lock_in": (LockIn(num_people=101, num_assistants=3), {}),
    "commission": (
        MoralHazard(num_agents=7),
        {"agent": UniformRandom(), "principal": UniformRandom()},
    ),
    "influence": (DRMDP(num_people=7, susceptibility=0.6, susceptible_share=0.5), {}),
}


@pytest.mark.parametrize("name", CASES)
def test_replicate_37_alone_is_replicate_37_of_512(name):
    game, players = CASES[name]
    together = simulate(game, players, 512, 12, seed=6)
    alone = simulate(game, players, [37], 12, seed=6)
    pair = simulate(game, players, [400, 37], 12, seed=6)
    for path, tensor in flatten(alone.state).items():
        assert torch.equal(tensor[0], flatten(together.state)[path][37]), path
        assert torch.equal(tensor[0], flatten(pair.state)[path][1]), path


@pytest.mark.parametrize("name", CASES)
def test_a_step_leaves_the_given_state_as_it_was(name):
    from mores.sim.simulator import Simulator

    game, players = CASES[name]
    table = Simulator(game, {**game.default_policies(), **players}, worlds=3, rounds=20)
    table.reset(0)
    for _ in range(3):
        before = table.state
        copy = {path: tensor.clone() for path, tensor in flatten(before).items()}
        table.step()
        for path, tensor in flatten(before).items():
            assert torch.equal(tensor, copy[path]), path


def test_recording_less_often_changes_nothing():
    game, players = CASES["coevolution"]
    every = simulate(game, players, 3, 12, 1, ["drift"])
    some = simulate(game, players, 3, 12, 1, ["drift"], metric_rounds=[0, 5, 12])
    assert torch.equal(every.metrics["drift"][:, [0, 5, 12]], some.metrics["drift"])


def test_worlds_that_ended_stand_still():
    game = MoralHazard(termination_probability=0.3)
    played = simulate(game, {}, 50, 40, 2, ["kept"])
    kept = played.metrics["kept"]
    assert (kept[:, -1] < 40).all()
    still = kept[:, 1:] == kept[:, :-1]
    assert (still[:, :-1] <= still[:, 1:]).all()  # once still, still for good

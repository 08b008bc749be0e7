"""Twin worlds and replays, bit for bit, in every shipped environment."""

from __future__ import annotations

import pytest
import torch

from mores.agents.people.survey_respondent import Respondent
from mores.agents.scripted.assistants import Persuade
from mores.agents.scripted.uniform_random import Anyhow
from mores.core.pytree import flatten
from mores.envs.influence.dr_mdp import Influence
from mores.envs.opinion.coevolution import Coevolution
from mores.envs.opinion.lock_in import LockIn
from mores.envs.strategic.moral_hazard import Commission
from mores.sim.simulation import play

PEERS = {"rule": "friedkin_johnsen", "ties": 6}
COEVOLUTION = Coevolution(
    people=101,
    values=3,
    assistants=2,
    noise=0.1,
    history={"noise": 0.1, "pull": 0.1},
    peers=PEERS,
    ai_influence=0.3,
    confidence=2.0,
)
LOUD = {"assistant": Persuade(goal=[1.0, 0.0, -1.0]), "person": Respondent(noise=0.2)}
CASES = {
    "coevolution": (COEVOLUTION, LOUD),
    "lock_in": (LockIn(people=101, assistants=3), {}),
    "commission": (Commission(agents=7), {"agent": Anyhow(), "principal": Anyhow()}),
    "influence": (Influence(people=7, susceptibility=0.6, susceptible_share=0.5), {}),
}


@pytest.mark.parametrize("name", CASES)
def test_replicate_37_alone_is_replicate_37_of_512(name):
    game, players = CASES[name]
    together = play(game, players, 512, 12, seed=6)
    alone = play(game, players, [37], 12, seed=6)
    pair = play(game, players, [400, 37], 12, seed=6)
    for path, tensor in flatten(alone.state).items():
        assert torch.equal(tensor[0], flatten(together.state)[path][37]), path
        assert torch.equal(tensor[0], flatten(pair.state)[path][1]), path


@pytest.mark.parametrize("name", CASES)
def test_a_step_leaves_the_given_state_as_it_was(name):
    from mores.sim.simulator import Table

    game, players = CASES[name]
    table = Table(game, {**game.baseline(), **players}, worlds=3, rounds=20)
    table.reset(0)
    for _ in range(3):
        before = table.state
        copy = {path: tensor.clone() for path, tensor in flatten(before).items()}
        table.step()
        for path, tensor in flatten(before).items():
            assert torch.equal(tensor, copy[path]), path


def test_recording_less_often_changes_nothing():
    game, players = CASES["coevolution"]
    every = play(game, players, 3, 12, 1, ["drift"])
    some = play(game, players, 3, 12, 1, ["drift"], at=[0, 5, 12])
    assert torch.equal(every.measures["drift"][:, [0, 5, 12]], some.measures["drift"])


def test_worlds_that_ended_stand_still():
    game = Commission(quits=0.3)
    played = play(game, {}, 50, 40, 2, ["kept"])
    kept = played.measures["kept"]
    assert (kept[:, -1] < 40).all()
    still = kept[:, 1:] == kept[:, :-1]
    assert (still[:, :-1] <= still[:, 1:]).all()  # once still, still for good

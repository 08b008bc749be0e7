"""The precision recursion against its matrix form in float64, and against its closed forms."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from mores.envs.dynamics.belief_pooling import belief_error_std
from mores.envs.opinion.lock_in import LockIn
from mores.sim.simulation import simulate
from mores.sim.simulator import Simulator


def _trust(game: LockIn) -> np.ndarray:
    n, everybody = game.num_people, game.num_people + game.num_assistants
    trust = game.self_trust * np.eye(everybody)
    trust[:n, n:] += game.trust_in_ai
    trust[n:, :n] += game.trust_in_people
    return trust


def _game(gain: float, people: int = 100, **more: float) -> LockIn:
    trust = (gain / people) ** 0.5
    return LockIn(num_people=people, trust_in_ai=trust, trust_in_people=trust, **more)


@pytest.mark.parametrize(("people", "assistants"), [(3, 1), (7, 2), (20, 4)])
def test_the_environment_is_the_recursion(people, assistants):
    game = LockIn(
        num_people=people,
        num_assistants=assistants,
        trust_in_ai=0.7,
        trust_in_people=0.4,
        self_trust=0.3,
        prior_precision=0.5,
    )
    rounds, everybody = 12, people + assistants
    played = simulate(game, worlds=3, rounds=rounds, seed=4, metrics=["ai_error"])
    from mores.core.random_streams import RandomStreams

    draws = RandomStreams.of(4, 3).child("game")
    truth = played.state.truth.double().numpy()
    trust = _trust(game)
    for world in range(3):
        precision = np.full(everybody, 0.5)
        evidence, belief, weight = np.zeros(everybody), np.zeros(everybody), np.full(everybody, 0.5)
        for round in range(rounds):
            noise = draws.at(round).normal("evidence", everybody)[world, :, 0].double().numpy()
            evidence = (evidence * precision + truth[world] + noise) / (precision + 1)
            precision = precision + 1
            total = precision + trust @ weight
            belief = (evidence * precision + trust @ (belief * weight)) / total
            weight = total
        assert played.state.beliefs.mean[world].numpy() == pytest.approx(belief, abs=2e-5)
        found = 10 ** played.state.beliefs.log10_precision[world].double().numpy()
        assert found == pytest.approx(weight, rel=1e-4)


def test_spectral_radius():
    for game in (
        _game(1.21),
        LockIn(num_people=9, num_assistants=3, trust_in_ai=0.2, self_trust=0.1),
    ):
        radius = np.abs(np.linalg.eigvals(_trust(game))).max()
        assert game.analytic_values({}, 1)["spectral_radius"] == pytest.approx(radius, rel=1e-12)


@pytest.mark.parametrize("gain", [0.0, 0.5, 1.0, 1.1, 2.0])
@pytest.mark.parametrize(("people", "assistants"), [(10, 1), (6, 3)])
def test_exact_error_against_powers_of_the_matrix(gain, people, assistants):
    trust = (gain / (people * assistants)) ** 0.5
    game = LockIn(
        num_people=people, num_assistants=assistants, trust_in_ai=trust, trust_in_people=trust
    )
    matrix, rounds = _trust(game), 40
    power, row = np.eye(len(matrix)), np.zeros_like(matrix)
    squares, sums = np.zeros(len(matrix)), np.zeros(len(matrix))
    mine = (
        belief_error_std(rounds, people, assistants, trust, gain, 1.0),
        belief_error_std(rounds, assistants, people, trust, gain, 1.0),
    )
    for round in range(1, rounds + 1):
        row = row + power
        power = power @ matrix
        squares, sums = squares + (row**2).sum(1), sums + row.sum(1)
        exact = np.sqrt(squares) / sums
        assert mine[0][round] == pytest.approx(exact[0], rel=1e-9)
        assert mine[1][round] == pytest.approx(exact[-1], rel=1e-9)


@pytest.mark.parametrize(
    ("gain", "assistant", "person"),
    [(1.1, 0.01984, 0.01986), (1.5, 0.0407, 0.0414), (2.0, 0.0528, 0.0554), (4.0, 0.0717, 0.0861)],
)
def test_locked_standard_deviations(gain, assistant, person):
    """The two families of the locked value; in the table they are given without saying which."""
    trust = (gain / 100) ** 0.5
    found = [belief_error_std(2000, *sides, trust, gain, 1.0)[-1] for sides in ((1, 100), (100, 1))]
    assert sorted(found) == pytest.approx([assistant, person], rel=3e-3)


@pytest.mark.parametrize(("gain", "rounds"), [(4.0, 1500), (2.0, 3000)])
def test_float32_is_stable(gain, rounds):
    """Against a float64 run of the same evidence, rescaled every round."""
    game = _game(gain)
    played = simulate(
        game, worlds=2, rounds=rounds, seed=9, metrics=["growth"], metric_rounds=[rounds]
    )
    assert torch.isfinite(played.state.beliefs.mean).all()
    assert played.metrics["growth"].double().numpy() == pytest.approx(gain, rel=1e-5)
    from mores.core.random_streams import RandomStreams

    draws, trust = RandomStreams.of(9, 2).child("game"), _trust(game)
    truth = played.state.truth.double().numpy()
    evidence = np.zeros((2, 101))
    belief, weight, unit = np.zeros((2, 101)), np.zeros((2, 101)), 1.0
    for round in range(rounds):
        noise = draws.at(round).normal("evidence", 101)[..., 0].double().numpy()
        evidence = evidence + (truth[:, None] + noise - evidence) / (round + 1)
        own = (round + 1) * unit
        total = own + weight @ trust.T
        belief = (evidence * own + (belief * weight) @ trust.T) / total
        unit, weight = unit / total.max(), total / total.max()
    assert played.state.beliefs.mean.double().numpy() == pytest.approx(belief, abs=1e-4)


def test_what_is_seen_of_others_is_what_they_reported():
    """A report need not be a belief, and nobody sees another's belief or evidence."""
    game = LockIn(num_people=4, num_assistants=2)
    table = Simulator(game, game.default_policies(), {"assistant": [0, 1]}, worlds=3, rounds=9)
    table.reset(1)
    table.step({"assistant": torch.tensor([1000.0, 500.0])[None, :, None].expand(3, 2, 1)})
    assert (table.observe("person")[..., 2] == 750.0).all()
    before = {role: table.observe(role) for role in ("person", "assistant")}
    beliefs = dataclasses.replace(table.state.beliefs, mean=table.state.beliefs.mean + 1)
    table.state = dataclasses.replace(table.state, beliefs=beliefs)
    for role in before:
        assert torch.equal(table.observe(role)[..., 1:], before[role][..., 1:])

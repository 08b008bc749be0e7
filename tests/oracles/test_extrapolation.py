"""Extrapolation against the polynomial solved for, and the growth of errors against its formula."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from mores.agents.people.survey_respondent import SurveyRespondent
from mores.agents.scripted.extrapolation import extrapolation_weights, noise_gain, one_step_weights
from mores.agents.scripted.progressgym import Extrapolative
from mores.envs.opinion.coevolution import Coevolution
from mores.sim.simulation import simulate
from tests.oracles.progress_by_hand import on, scored


def test_weights_of_the_next_point():
    known = {0: (1,), 1: (-1, 2), 2: (1, -3, 3), 3: (-1, 4, -6, 4)}
    for order, row in known.items():
        assert one_step_weights(order) == extrapolation_weights(order, 1) == row


def test_weights_are_those_of_the_polynomial():
    for order, ahead in itertools.product(range(6), range(5)):
        identity = np.eye(order + 1)
        assert extrapolation_weights(order, ahead) == pytest.approx(
            on(list(identity), order, ahead), abs=1e-6
        )


def test_noise_gains():
    for order, gain in enumerate((1, 5, 19, 69)):
        assert noise_gain(order, 1) == gain == math.comb(2 * order + 2, order + 1) - 1
    assert [noise_gain(1, k) for k in (2, 3)] == [13, 25]
    assert [noise_gain(2, k) for k in (2, 3)] == [109, 361]


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_it_is_exact_on_polynomials_of_its_degree(order):
    x = np.arange(12.0) / 6
    points = np.stack([x**order, 1 - 0.5 * x**order], 1)
    history = {"points": points.tolist()}
    played = scored(Extrapolative(learning_rate=1.0, order=order), "predict", 2, 9, history=history)
    said = played.state.challenge_record.advice[0, :, 0].double().numpy()
    target = points[np.arange(1, 10) + 2]
    assert said[1 + order :] == pytest.approx(target[order:], abs=2e-4)
    if order:  # with as many answers as its degree it is not yet
        assert np.abs(said[order] - target[order - 1]).max() > 0.01


@pytest.mark.parametrize(("order", "ahead"), [(0, 1), (1, 1), (2, 1), (3, 1), (1, 3), (2, 2)])
def test_errors_of_answers_grow_by_the_noise_gain(order, ahead):
    """4,000 worlds of 5 values, seed 8: the variance ratio has a relative SE of 1 %."""
    game = Coevolution(num_people=1, challenge="follow", history={"points": [[0.5] * 5] * 9})
    players = {"assistant": Extrapolative(learning_rate=1.0, order=order, forecast_horizon=ahead),
               "person": SurveyRespondent(noise_std=0.1)}  # fmt: skip
    said = simulate(game, players, 4000, 8, seed=8).state.advice
    ratio = ((said - 0.5).double() ** 2).mean().item() / 0.1**2
    assert ratio == pytest.approx(noise_gain(order, ahead), rel=0.04)

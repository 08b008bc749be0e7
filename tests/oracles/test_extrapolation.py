"""Extrapolation against solved polynomials, and the growth of errors against its formula."""

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
from tests.oracles.progress_reference import extrapolate, score_policy


def test_one_step_weights():
    expected = {0: (1,), 1: (-1, 2), 2: (1, -3, 3), 3: (-1, 4, -6, 4)}
    for order, row in expected.items():
        assert one_step_weights(order) == extrapolation_weights(order, 1) == row


def test_weights_equal_polynomial():
    for order, horizon in itertools.product(range(6), range(5)):
        identity = np.eye(order + 1)
        assert extrapolation_weights(order, horizon) == pytest.approx(
            extrapolate(list(identity), order, horizon), abs=1e-6
        )


def test_noise_gains():
    for order, gain in enumerate((1, 5, 19, 69)):
        assert noise_gain(order, 1) == gain == math.comb(2 * order + 2, order + 1) - 1
    assert [noise_gain(1, k) for k in (2, 3)] == [13, 25]
    assert [noise_gain(2, k) for k in (2, 3)] == [109, 361]


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_exact_on_polynomials_of_its_degree(order):
    x = np.arange(12.0) / 6
    points = np.stack([x**order, 1 - 0.5 * x**order], 1)
    history = {"points": points.tolist()}
    result = score_policy(
        Extrapolative(learning_rate=1.0, order=order), "predict", 2, 9, history=history
    )
    advice = result.state.challenge_record.advice[0, :, 0].double().numpy()
    target = points[np.arange(1, 10) + 2]
    assert advice[1 + order :] == pytest.approx(target[order:], abs=2e-4)
    if order:  # not yet exact with `order` answers
        assert np.abs(advice[order] - target[order - 1]).max() > 0.01


@pytest.mark.parametrize(("order", "horizon"), [(0, 1), (1, 1), (2, 1), (3, 1), (1, 3), (2, 2)])
def test_answer_errors_grow_by_noise_gain(order, horizon):
    """4,000 worlds of 5 values, seed 8: the variance ratio has a relative SE of 1 %."""
    env = Coevolution(num_people=1, challenge="follow", history={"points": [[0.5] * 5] * 9})
    assistant = Extrapolative(learning_rate=1.0, order=order, forecast_horizon=horizon)
    policies = {"assistant": assistant, "person": SurveyRespondent(noise_std=0.1)}
    advice = simulate(env, policies, 4000, 8, seed=8).state.advice
    ratio = ((advice - 0.5).double() ** 2).mean().item() / 0.1**2
    assert ratio == pytest.approx(noise_gain(order, horizon), rel=0.04)

"""Settled people, trust and generations inside the coevolution environment."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mores.agents.scripted.assistants import LinearTrend, Persuader, Silent
from mores.core.random_streams import RandomStreams
from mores.envs.dynamics.cohorts import Cohorts, expected_variance
from mores.envs.dynamics.peers import Peers
from mores.envs.dynamics.trait_state import TraitStateDynamics
from mores.envs.dynamics.trust import Trust
from mores.envs.opinion.coevolution import Coevolution
from mores.sim.simulation import simulate

GOAL = Persuader(goal=[1.0, 0.0], goal_weight=1.0, learning_rate=0.0)


def _centres(game: Coevolution, rounds: int, worlds: int = 1, **players) -> np.ndarray:
    return simulate(game, players, worlds, rounds, 3, ["centre"]).metrics["centre"].numpy()


def test_a_month_of_talk_leaves_what_settles():
    """One round of influence, then none: what is left is settling + (1 - settling) 2^(-t/h)."""
    person = TraitStateDynamics(half_life=2.0, permanent_share=0.3)
    talk = Coevolution(num_people=5, initial_std=0.0, ai_influence=0.4, trait_state=person)
    heard = simulate(talk, {"assistant": GOAL}, 1, 1, 3).state
    quiet = talk.model_copy(update={"ai_influence": 0.0})
    held, values = heard.held, []
    for _ in range(5):
        values.append(held.values[0, 0, 0].item())
        held = quiet.trait_state.advance_round(held, RandomStreams.of(3, 1))
    left = [0.4 * person.retention(t) for t in range(5)]
    np.testing.assert_allclose(values, left, rtol=1e-6)


def test_long_influence_moves_as_far_as_the_recursion_says():
    """d' = d + phi m, s' = s decay + (1 - phi) m, m = alpha (1 - v): by plain numbers."""
    person = TraitStateDynamics(half_life=1.5, permanent_share=0.2)
    game = Coevolution(num_people=4, initial_std=0.0, ai_influence=0.25, trait_state=person)
    centres = _centres(game, 12, assistant=GOAL)[0, :, 0]
    disposition = state = 0.0
    decay, by_hand = 2 ** (-1 / 1.5), [0.0]
    for _ in range(12):
        state *= decay
        push = 0.25 * (1.0 - disposition - state)
        disposition, state = disposition + 0.2 * push, state + 0.8 * push
        by_hand.append(disposition + state)
    np.testing.assert_allclose(centres, by_hand, atol=1e-6)
    settled = simulate(game, {"assistant": GOAL}, 1, 12, 3, ["settled_drift"]).metrics
    assert settled["settled_drift"][0, -1].item() == pytest.approx(disposition, abs=1e-6)


def test_people_without_a_half_life_are_those_of_before():
    """Everything settles: the same path as by the plain update, and no temporary state."""
    game = Coevolution(num_people=30, ai_influence=0.3, noise_std=0.1)
    state = simulate(game, {"assistant": LinearTrend(learning_rate=0.5)}, 2, 20, 3).state
    assert not state.trait_state.state_residual.any()
    torch.testing.assert_close(state.trait_state.disposition, state.people.values)


def test_an_assistant_nobody_heeds_leaves_the_twin_bit_for_bit():
    person = TraitStateDynamics(
        half_life=1.0, permanent_share=0.3, volatility=0.4, volatility_heterogeneity=1.0
    )
    more = {"person": person, "cohorts": Cohorts(turnover=0.1, mutation_std=0.2),
            "trust": Trust(initial_trust=0.0, learning_rate=0.0), "people": 40}  # fmt: skip
    twin = _centres(Coevolution(num_assistants=0, **more), 30, 3)
    deaf = _centres(Coevolution(**more), 30, 3, assistant=GOAL)
    np.testing.assert_array_equal(twin, deaf)


def test_friedkin_and_johnsen_tie_people_to_their_dispositions_once():
    peers = Peers(rule="friedkin_johnsen", graph="karate", susceptibility=0.9)
    bare = Coevolution(num_people=34, num_assistants=0, peers=peers)
    settled = Coevolution(
        num_people=34, num_assistants=0, peers=peers, trait_state=TraitStateDynamics(half_life=1.0)
    )
    first = simulate(bare, {}, 1, 1, 3).state
    start = simulate(settled, {}, 1, 1, 3).state
    torch.testing.assert_close(first.people.values, start.people.values)  # alike in one round
    restless = TraitStateDynamics(half_life=0.5, permanent_share=0.22, volatility=0.6)
    deaf = peers.model_copy(update={"susceptibility": 0.0})
    alone = Coevolution(num_people=34, num_assistants=0, peers=deaf, trait_state=restless)
    later = simulate(alone, {}, 1, 50, 3).state
    torch.testing.assert_close(later.held.disposition, later.anchor)  # nobody is heard


def test_only_who_speaks_and_is_trusted_teaches_newcomers():
    """Placebo and twin stay the same, newcomers or not; a talker whom nobody trusts, too."""
    more = {"people": 30, "cohorts": Cohorts(turnover=0.2, tutoring_share=0.5), "ai_influence": 0.0}
    twin = _centres(Coevolution(num_assistants=0, **more), 20, 2)
    silent = _centres(Coevolution(**more), 20, 2, assistant=Silent())
    distrusted = Coevolution(**more, trust=Trust(initial_trust=0.0))
    np.testing.assert_array_equal(twin, silent)
    np.testing.assert_array_equal(twin, _centres(distrusted, 20, 2, assistant=GOAL))
    taught = _centres(Coevolution(**more), 20, 2, assistant=GOAL)
    assert abs(taught[:, -1, 0] - 1.0).max() < 0.4  # some four generations, each half the way


def test_trust_goes_to_whom_one_agrees_with():
    near = Coevolution(
        num_people=10,
        initial_std=0.1,
        ai_influence=0.0,
        trust=Trust(initial_trust=0.5, learning_rate=0.2),
    )
    agrees = simulate(near, {"assistant": LinearTrend()}, 4, 40, 3, ["trust"]).metrics["trust"]
    far = Persuader(goal=[8.0, 8.0], goal_weight=1.0)
    differs = simulate(near, {"assistant": far}, 4, 40, 3, ["trust"]).metrics["trust"]
    assert agrees[:, 0].tolist() == differs[:, 0].tolist() == [0.5] * 4
    assert (agrees[:, -1] > 0.95).all()
    assert (differs[:, -1] < 0.001).all()


def test_generations_lose_variance_as_drawn():
    """Wright and Fisher's law in 400 worlds; within 4 standard errors."""
    game = Coevolution(num_people=20, num_values=1, num_assistants=0, cohorts=Cohorts(turnover=0.3))
    played = simulate(game, {}, 400, 30, 5, ["spread"]).metrics["spread"].double() ** 2
    variance = played[:, -1].numpy() * 20 / 19
    expected = expected_variance(1.0, 30, 20, 0.3, 0.0)
    error = variance.std(ddof=1) / 20
    assert abs(variance.mean() - expected) < 4 * error
    assert expected < 0.5  # the law has something to say

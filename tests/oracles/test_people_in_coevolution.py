"""Settled people, trust and generations inside the coevolution environment."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mores.agents.scripted.assistants import LookAhead, Persuade, Silent
from mores.core.random_streams import Draws
from mores.envs.dynamics.cohorts import Cohorts, expected_variance
from mores.envs.dynamics.peers import Peers
from mores.envs.dynamics.trait_state import Settled
from mores.envs.dynamics.trust import Trust
from mores.envs.opinion.coevolution import Coevolution
from mores.sim.simulation import play

GOAL = Persuade(goal=[1.0, 0.0], reach=1.0, rate=0.0)


def _centres(game: Coevolution, rounds: int, worlds: int = 1, **players) -> np.ndarray:
    return play(game, players, worlds, rounds, 3, ["centre"]).measures["centre"].numpy()


def test_a_month_of_talk_leaves_what_settles():
    """One round of influence, then none: what is left is settling + (1 - settling) 2^(-t/h)."""
    person = Settled(half_life=2.0, settling=0.3)
    talk = Coevolution(people=5, spread=0.0, ai_influence=0.4, person=person)
    heard = play(talk, {"assistant": GOAL}, 1, 1, 3).state
    quiet = talk.model_copy(update={"ai_influence": 0.0})
    held, values = heard.held, []
    for _ in range(5):
        values.append(held.values[0, 0, 0].item())
        held = quiet.person.passed(held, Draws.of(3, 1))
    left = [0.4 * person.remainder(t) for t in range(5)]
    np.testing.assert_allclose(values, left, rtol=1e-6)


def test_long_influence_moves_as_far_as_the_recursion_says():
    """d' = d + phi m, s' = s decay + (1 - phi) m, m = alpha (1 - v): by plain numbers."""
    person = Settled(half_life=1.5, settling=0.2)
    game = Coevolution(people=4, spread=0.0, ai_influence=0.25, person=person)
    centres = _centres(game, 12, assistant=GOAL)[0, :, 0]
    disposition = state = 0.0
    decay, by_hand = 2 ** (-1 / 1.5), [0.0]
    for _ in range(12):
        state *= decay
        push = 0.25 * (1.0 - disposition - state)
        disposition, state = disposition + 0.2 * push, state + 0.8 * push
        by_hand.append(disposition + state)
    np.testing.assert_allclose(centres, by_hand, atol=1e-6)
    settled = play(game, {"assistant": GOAL}, 1, 12, 3, ["settled_drift"]).measures
    assert settled["settled_drift"][0, -1].item() == pytest.approx(disposition, abs=1e-6)


def test_people_without_a_half_life_are_those_of_before():
    """Everything settles: the same path as by the plain update, and no temporary state."""
    game = Coevolution(people=30, ai_influence=0.3, noise=0.1)
    state = play(game, {"assistant": LookAhead(rate=0.5)}, 2, 20, 3).state
    assert not state.held.temporary.any()
    torch.testing.assert_close(state.held.disposition, state.people.values)


def test_an_assistant_nobody_heeds_leaves_the_twin_bit_for_bit():
    person = Settled(half_life=1.0, settling=0.3, volatility=0.4, volatility_spread=1.0)
    more = {"person": person, "cohorts": Cohorts(turnover=0.1, mutation=0.2),
            "trust": Trust(start=0.0, rate=0.0), "people": 40}  # fmt: skip
    twin = _centres(Coevolution(assistants=0, **more), 30, 3)
    deaf = _centres(Coevolution(**more), 30, 3, assistant=GOAL)
    np.testing.assert_array_equal(twin, deaf)


def test_friedkin_and_johnsen_tie_people_to_their_dispositions_once():
    peers = Peers(rule="friedkin_johnsen", network="karate", susceptibility=0.9)
    bare = Coevolution(people=34, assistants=0, peers=peers)
    settled = Coevolution(people=34, assistants=0, peers=peers, person=Settled(half_life=1.0))
    first = play(bare, {}, 1, 1, 3).state
    start = play(settled, {}, 1, 1, 3).state
    torch.testing.assert_close(first.people.values, start.people.values)  # alike in one round
    restless = Settled(half_life=0.5, settling=0.22, volatility=0.6)
    deaf = peers.model_copy(update={"susceptibility": 0.0})
    alone = Coevolution(people=34, assistants=0, peers=deaf, person=restless)
    later = play(alone, {}, 1, 50, 3).state
    torch.testing.assert_close(later.held.disposition, later.anchor)  # nobody is heard


def test_only_who_speaks_and_is_trusted_teaches_newcomers():
    """Placebo and twin stay the same, newcomers or not; a talker whom nobody trusts, too."""
    more = {"people": 30, "cohorts": Cohorts(turnover=0.2, tutored=0.5), "ai_influence": 0.0}
    twin = _centres(Coevolution(assistants=0, **more), 20, 2)
    silent = _centres(Coevolution(**more), 20, 2, assistant=Silent())
    distrusted = Coevolution(**more, trust=Trust(start=0.0))
    np.testing.assert_array_equal(twin, silent)
    np.testing.assert_array_equal(twin, _centres(distrusted, 20, 2, assistant=GOAL))
    taught = _centres(Coevolution(**more), 20, 2, assistant=GOAL)
    assert abs(taught[:, -1, 0] - 1.0).max() < 0.4  # some four generations, each half the way


def test_trust_goes_to_whom_one_agrees_with():
    near = Coevolution(people=10, spread=0.1, ai_influence=0.0, trust=Trust(start=0.5, rate=0.2))
    agrees = play(near, {"assistant": LookAhead()}, 4, 40, 3, ["trust"]).measures["trust"]
    far = Persuade(goal=[8.0, 8.0], reach=1.0)
    differs = play(near, {"assistant": far}, 4, 40, 3, ["trust"]).measures["trust"]
    assert agrees[:, 0].tolist() == differs[:, 0].tolist() == [0.5] * 4
    assert (agrees[:, -1] > 0.95).all()
    assert (differs[:, -1] < 0.001).all()


def test_generations_lose_variance_as_drawn():
    """Wright and Fisher's law in 400 worlds; within 4 standard errors."""
    game = Coevolution(people=20, values=1, assistants=0, cohorts=Cohorts(turnover=0.3))
    played = play(game, {}, 400, 30, 5, ["spread"]).measures["spread"].double() ** 2
    variance = played[:, -1].numpy() * 20 / 19
    expected = expected_variance(1.0, 30, 20, 0.3, 0.0)
    error = variance.std(ddof=1) / 20
    assert abs(variance.mean() - expected) < 4 * error
    assert expected < 0.5  # the law has something to say

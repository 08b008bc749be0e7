"""Named strategies act as those of the Axelrod library.

Importing the library takes half a minute. A normal run compares with matches that it played before,
`axelrod_matches.json`; a full run compares these and the expected cooperation with the library.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mores.agents.composite.per_agent import PerAgentPolicy
from mores.agents.scripted.repeated_game import Strategy
from mores.agents.scripted.uniform_random import UniformRandom
from mores.core.random_streams import Worlds
from mores.envs.strategic.matrix_game import MatrixGame
from mores.sim.simulation import simulate
from mores.sim.simulator import Simulator

CLASSES = {
    "cooperator": "Cooperator",
    "defector": "Defector",
    "tit_for_tat": "TitForTat",
    "suspicious_tit_for_tat": "SuspiciousTitForTat",
    "tit_for_two_tats": "TitFor2Tats",
    "grudger": "Grudger",
    "win_stay_lose_shift": "WinStayLoseShift",
    "alternator": "Alternator",
}
BEST_RESPONSES = [name for name in CLASSES if name not in ("cooperator", "defector")]
ENTRANTS = ("cooperator", "defector", "tit_for_tat", "grudger")
SCORES = [2.00, 2.36, 2.33, 2.33]  # mean payoffs in a tournament of 100 rounds, without self-play
PAIRS = list(itertools.product(CLASSES, CLASSES))
ROUNDS = 100
# Actions of each pair, both agents' in turn, by "first second"; made by `play_matches`.
MATCHES = json.loads((Path(__file__).parent / "axelrod_matches.json").read_text())


def play_matches() -> dict[str, str]:
    """All matches, played by the library."""
    import axelrod

    matches = {}
    for names in PAIRS:
        strategies = tuple(map(_axelrod_strategy, names))
        actions = axelrod.Match(strategies, turns=ROUNDS).play()
        matches[" ".join(names)] = "".join(str(action) for pair in actions for action in pair)
    return matches


def test_every_pair_acts_as_in_axelrod() -> None:
    """All pairs of deterministic strategies, 100 rounds, in one batch of worlds."""
    policy = Strategy(name=tuple(CLASSES))
    worlds = Worlds.grid(1, len(PAIRS))
    simulator = Simulator(MatrixGame(), {"player": policy}, worlds=worlds, rounds=ROUNDS)
    simulator.reset(0)
    rounds = []
    for _ in range(ROUNDS):
        simulator.step()
        rounds.append(simulator.state.last_action)
    actions = torch.stack(rounds)  # [round, world, agent]
    for world, names in enumerate(PAIRS):
        found = "".join("CD"[action] for action in actions[:, world].flatten().tolist())
        assert found == MATCHES[" ".join(names)], names


def test_four_of_axelrod_s_tournament() -> None:
    """Mean payoffs of 100 rounds without self-play, as in the library's `Tournament`."""
    metrics = simulate(
        MatrixGame(),
        {"player": Strategy(name=ENTRANTS)},
        Worlds.grid(1, 16),
        ROUNDS,
        metrics=["mean_payoff_by_agent"],
        metric_rounds=[ROUNDS],
    ).metrics
    payoffs = metrics["mean_payoff_by_agent"].values[:, 0, 0].reshape(4, 4).astype(float)
    means = (payoffs.sum(1) - payoffs.diagonal()) / 3
    assert means.tolist() == pytest.approx(SCORES, abs=1e-6)


@pytest.mark.full
def test_the_library_plays_the_recorded_matches() -> None:
    assert play_matches() == MATCHES


@pytest.mark.full
def test_the_library_s_tournament_has_these_scores() -> None:
    import axelrod

    entrants = [_axelrod_strategy(name) for name in ENTRANTS]
    tournament = axelrod.Tournament(entrants, turns=ROUNDS, repetitions=1)
    scores = [score[0] for score in tournament.play(progress_bar=False).normalised_scores]
    assert scores == pytest.approx(SCORES, abs=1e-6)


def _axelrod_strategy(name: str) -> Any:
    import axelrod

    if name == "random":
        return axelrod.Random(0.5)
    if name == "generous_tit_for_tat":
        return axelrod.GTFT(p=1 / 3)
    return axelrod.ZDExtort2() if name == "extort_2" else getattr(axelrod, CLASSES[name])()


@pytest.mark.full
@pytest.mark.parametrize("row", [*CLASSES, "random", "generous_tit_for_tat", "extort_2"])
def test_expected_cooperation_with_noise_is_as_in_axelrod(row: str) -> None:
    """150 matches of 20 rounds a pair: within 4.5 standard errors of the exact expectation.

    44 pairs with two comparisons each, and a false alarm in 7e-6 of the seeds for each.
    """
    import axelrod

    rounds, num_matches, noise = 20, 150, 0.1
    for column in ("tit_for_tat", "grudger", "win_stay_lose_shift", "extort_2"):
        pair = PerAgentPolicy(
            policies=[
                Strategy(name=row, noise_probability=noise),
                Strategy(name=column, noise_probability=noise),
            ]
        )
        values = MatrixGame().analytic_values({"player": pair}, rounds)
        shares = []
        for seed in range(num_matches):
            strategies = (_axelrod_strategy(row), _axelrod_strategy(column))
            match = axelrod.Match(strategies, turns=rounds, noise=noise, seed=seed)
            match.play()
            shares.append(match.normalised_cooperation())
        for agent in range(2):
            rates = np.array(shares)[:, agent]
            error = rates.std(ddof=1) / num_matches**0.5
            expected = values[f"cooperation_rate_by_agent[{agent}]"][rounds]
            assert abs(rates.mean() - expected) < 4.5 * error, (row, column, agent)


@pytest.mark.full
@pytest.mark.parametrize("name", BEST_RESPONSES)
def test_best_response_by_enumeration(name: str) -> None:
    """All 2^7 action sequences of seven rounds, by the Axelrod library."""
    import axelrod

    rounds, best = 7, -np.inf
    for actions in itertools.product([axelrod.Action.C, axelrod.Action.D], repeat=rounds):
        opponents = (axelrod.MockPlayer(list(actions)), _axelrod_strategy(name))
        match = axelrod.Match(opponents, turns=rounds)
        match.play()
        best = max(best, match.final_score()[0])
    policies = {"player": PerAgentPolicy(policies=[UniformRandom(), Strategy(name=name)])}
    values = MatrixGame().analytic_values(policies, rounds)
    assert values["best_response_return[0]"][rounds] == pytest.approx(best)
    assert values["best_response_payoff[0]"][rounds] == pytest.approx(best / rounds)
    assert "mean_payoff" not in values  # the random policy is not an automaton
    assert "best_response_return[1]" not in values

"""The panel: what it computes against scipy, and simulated people against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch

from mores.agents.people.survey_respondent import SurveyRespondent
from mores.agents.scripted.assistants import Persuader, Silent
from mores.core.environment import Box, Phase, Role
from mores.core.pytree import flatten
from mores.core.random_streams import RandomStreams
from mores.envs.opinion import panel_statistics
from mores.envs.opinion.panel import Advocate, Panel
from mores.registry import make_environment, make_policy
from mores.sim.simulation import simulate
from mores.sim.simulator import Simulator
from tests.refusals import refused

PEOPLE = {"half_life": 9.0, "settling": 0.2, "volatility": 0.8, "disposition_noise": 0.05}
OPEN = {"low": None, "high": None}


def answers(world: int) -> np.ndarray:
    """Integer answers of 40 people in 4 waves, many of them repeated."""
    rng = np.random.default_rng(world)
    held = rng.normal(4, 2, (40, 1))
    return np.clip(np.round(held + rng.normal(0, 1, (40, 4))), 0, 7)


@pytest.fixture(scope="module")
def given() -> tuple[list[np.ndarray], torch.Tensor]:
    each = [answers(world) for world in range(5)]
    return each, torch.from_numpy(np.stack(each)).float()


def test_intraclass_correlation_is_that_of_the_f_test(given):
    for x, found in zip(
        given[0], panel_statistics.intraclass_correlation(given[1]).tolist(), strict=True
    ):
        f = scipy.stats.f_oneway(*x).statistic  # between people over within
        assert found == pytest.approx((f - 1) / (f + 3), abs=1e-5)


def test_figures_of_a_panel(given):
    waves = given[1]
    found = {
        "r": panel_statistics.pearson_correlation(waves[..., 0], waves[..., 2]),
        "sd": panel_statistics.answer_std(waves),
        "change": panel_statistics.mean_absolute_change(waves),
        "same": panel_statistics.unchanged_share(waves),
        **panel_statistics.forecast_errors(waves)._asdict(),
    }
    for world, x in enumerate(given[0]):
        past, last = x[:, :3], x[:, 3]
        f = scipy.stats.f_oneway(*past).statistic
        shrunk = past.mean() + (1 - 1 / f) * (past.mean(1) - past.mean())
        expected = {
            "r": scipy.stats.pearsonr(x[:, 0], x[:, 2]).statistic,
            "sd": x.std(0, ddof=1).mean(),
            "change": np.abs(np.diff(x)).mean(),
            "same": (np.diff(x) == 0).mean(),
            "last": np.sqrt(((last - past[:, 2]) ** 2).mean()),
            "person_mean": np.sqrt(((last - past.mean(1)) ** 2).mean()),
            "grand_mean": np.sqrt(((last - past.mean()) ** 2).mean()),
            "shrunk": np.sqrt(((last - shrunk) ** 2).mean()),
        }
        for name, figure in expected.items():
            assert found[name][world].item() == pytest.approx(figure, abs=1e-5), name


def test_figures_of_an_experiment(given):
    before, after = given[1][..., 0], given[1][..., 1]
    treated = (torch.arange(40) % 2).float().expand(5, -1)
    gains, odds = (
        panel_statistics.difference_in_differences(before, after, treated),
        panel_statistics.odds_ratio(before, after, treated),
    )
    for world, x in enumerate(given[0]):
        rise, yes = x[:, 1] - x[:, 0], np.arange(40) % 2 == 1
        assert gains[world].item() == pytest.approx(rise[yes].mean() - rise[~yes].mean(), abs=1e-5)
        a, b = (rise[yes] > 0).sum() + 0.5, (rise[yes] <= 0).sum() + 0.5
        c, d = (rise[~yes] > 0).sum() + 0.5, (rise[~yes] <= 0).sum() + 0.5
        assert odds[world].item() == pytest.approx(a * d / (b * c), rel=1e-5)


@pytest.mark.parametrize("power", [0.0, 1.1])
def test_a_panel_comes_to_its_predictions(power):
    """Means over 150 worlds of 2,000 people, seed 11: 4.5 standard errors, and a bias of 1/n."""
    game = Panel(
        num_people=2000, wave_interval=4, trait_state={**PEOPLE, "volatility_spread": power}, **OPEN
    )
    players = {"person": SurveyRespondent(noise_std=0.6)}
    expected = game.analytic_values(players, 13)
    assert ("mean_change" in expected) == (power == 0)
    assert {"correlation_3", "decay", "icc", "rmse_shrunk", "sd", "mean_answer"} <= set(expected)
    played = simulate(game, players, 150, 13, 11, list(expected), metric_rounds=[12, 13])
    for name, figure in expected.items():
        assert played.metrics[name][:, 0].isnan().all(), name  # the last wave is not in
        x = played.metrics[name][:, 1].double().numpy()
        error = 4.5 * x.std(ddof=1) / math.sqrt(150) + 1 / 2000
        assert abs(x.mean() - figure) < error, (name, x.mean(), figure)


@pytest.mark.parametrize("later", [1, 3])
def test_a_conversation_comes_to_its_predictions(later):
    """Means over 150 worlds of 2,000 people, seed 12; 4.5 standard errors."""
    person = {**PEOPLE, "half_life": 0.7, "volatility_spread": 1.0}
    game = Panel(
        num_people=2000,
        trait_state=person,
        conversation_round=2,
        followup_rounds=later,
        ai_influence=0.3,
        initial_mean=5.0,
        **OPEN,
    )
    players = {
        "person": SurveyRespondent(noise_std=0.6),
        "assistant": Advocate(goal=12.0, intensity=0.5),
    }
    expected = game.analytic_values(players, 9)
    left = 0.2 + 0.8 * 0.5 ** (later / 0.7)
    assert expected == pytest.approx(
        {"effect": 1.05, "effect_later": 1.05 * left, "remainder": left}
    )
    played = simulate(game, players, 150, 9, 12, list(expected))
    for name, figure in expected.items():
        x = played.metrics[name].double().numpy()
        first = 3 if name == "effect" else 3 + later
        assert np.isnan(x[:, :first]).all() and (x[:, first:] == x[:, first:][:, :1]).all()
        error = 4.5 * x[:, -1].std(ddof=1) / math.sqrt(150)
        assert abs(x[:, -1].mean() - figure) < error, (name, x[:, -1].mean(), figure)


def test_predictions_are_not_published_where_they_do_not_hold():
    fine = {"person": SurveyRespondent(noise_std=0.5)}
    assert "icc" in Panel(**OPEN).analytic_values(fine, 37)
    assert not Panel().analytic_values(fine, 37)
    assert not Panel(**OPEN).analytic_values({"person": SurveyRespondent(option_spacing=1.0)}, 37)
    talk = Panel(conversation_round=1, **OPEN)
    assert not talk.analytic_values({**fine, "assistant": Silent()}, 37)


def test_waves_are_the_answers_of_their_rounds():
    game = Panel(num_people=5, wave_interval=3, num_waves=4, **OPEN)
    table = Simulator(game, game.default_policies(), worlds=2, rounds=20)
    table.reset(3)
    held = []
    for _ in range(12):
        held.append(table.state.trait_state.values[..., 0])
        table.step()
    assert torch.equal(table.state.wave_answers, torch.stack(held[::3], -1))


@pytest.mark.parametrize("people", [2, 7, 264])
def test_half_of_the_people_talk(people):
    state = Panel(num_people=people, conversation_round=0).reset(RandomStreams.of(1, 50))
    assert (state.treated.sum(1) == people // 2).all()
    often = state.treated.mean(0)
    assert people > 7 or (often > 0).all()  # not always the same


def test_who_does_not_talk_is_left_alone_bit_for_bit():
    twin = simulate(Panel(num_people=50), {}, 4, 8, seed=5).state
    silent = simulate(
        Panel(num_people=50, conversation_round=3), {"assistant": Silent()}, 4, 8, seed=5
    ).state
    talked = simulate(Panel(num_people=50, conversation_round=3), {}, 4, 8, seed=5).state
    assert torch.equal(silent.held.values, twin.held.values)
    others = talked.treated == 0
    assert torch.equal(talked.held.values[others], twin.held.values[others])
    assert not (talked.held.values[~others] == twin.held.values[~others]).any()


def test_assistants_made_elsewhere_can_persuade():
    game = Panel(num_people=400, conversation_round=2, initial_std=1.0, initial_mean=3.0)
    persuade = Persuader(goal=[7.0], goal_weight=1.0)
    one, other = (
        simulate(game, {"assistant": player}, 20, 5, 1, ["effect"], metric_rounds=[5]).metrics[
            "effect"
        ]
        for player in (persuade, Advocate(goal=7.0))
    )
    assert torch.equal(one, other) and (one > 0).all()


@pytest.mark.parametrize("conversation", [None, 4])
def test_replicate_37_alone_is_replicate_37_of_400(conversation):
    game = Panel(num_people=101, wave_interval=2, conversation_round=conversation)
    players = {"person": SurveyRespondent(noise_std=0.4, low=0, high=7, option_spacing=1)}
    names = list(game.metrics(game.reset(RandomStreams.of(0, 1))))
    together = simulate(game, players, 400, 9, 6, names)
    alone = simulate(game, players, [37], 9, 6, names)
    for path, tensor in flatten(alone.state).items():
        assert torch.equal(tensor[0], flatten(together.state)[path][37]), path
    for name in names:
        assert torch.equal(
            alone.metrics[name][0].nan_to_num(), together.metrics[name][37].nan_to_num()
        ), name


# --- respondents -------------------------------------------------------------------------------


def asked(player: SurveyRespondent, seen: torch.Tensor, **sees: int) -> torch.Tensor:
    role = Role("person", seen.shape[1], Box.of(**sees))
    phase = Phase("answer", {"person": Box.of(answer=sees["values"])})
    draws = RandomStreams.of(1, len(seen))
    return player.act(phase, seen, None, player.initial_state(role, (phase,), draws), draws).action


def test_a_respondent_answers_in_the_options_of_the_scale():
    seen = torch.linspace(-3, 9, 121).expand(1, -1)[..., None]
    found = asked(SurveyRespondent(low=1, high=7, option_spacing=1.5), seen, values=1)
    options = np.array([1.0, 2.5, 4.0, 5.5, 7.0])
    near = np.abs(seen.numpy() - options).min(-1)
    chosen = np.abs(seen.numpy() - found.numpy())[..., 0]
    assert set(found.flatten().tolist()) == set(options.tolist())
    assert chosen == pytest.approx(near, abs=1e-5)


def test_without_a_scale_and_noise_a_respondent_says_what_is():
    seen = torch.randn(3, 20, 2)
    assert torch.equal(asked(SurveyRespondent(), seen, values=2), seen)


def test_the_restless_answer_less_exactly():
    """Slips are as much larger as restlessness is, which may be none."""
    seen = torch.cat([torch.zeros(2, 9, 1), torch.arange(9.0).expand(2, -1)[..., None]], -1)
    slips = asked(SurveyRespondent(noise_std=0.5), seen, values=1, restlessness=1)
    alike = asked(SurveyRespondent(noise_std=0.5), torch.zeros(2, 9, 1), values=1)
    assert torch.equal(slips, alike * seen[..., 1:])


@pytest.mark.parametrize("wrong", [{"low": 2.0, "high": 1.0}, {"low": 0, "high": 7, "step": 2}])
def test_scales_that_are_none(wrong):
    with refused("conflict", path="respondent"):
        make_policy("respondent", **wrong)


def test_what_the_panel_refuses():
    with refused("conflict", path="panel"):
        make_environment("panel", low=7.0, high=0.0)
    with refused("missing", path="advocate.goal"):
        simulate(Panel(conversation_round=0, **OPEN), {}, 1, 1)

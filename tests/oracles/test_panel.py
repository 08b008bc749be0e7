"""Panel statistics against scipy, and simulated people against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch

from mores.agents.people.survey_respondent import SurveyRespondent
from mores.agents.scripted.assistants import Persuader, Silent
from mores.core.environment import Phase, Role
from mores.core.pytree import flatten
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box
from mores.envs.opinion import panel_statistics
from mores.envs.opinion.panel import Advocate, Panel
from mores.registry import make_environment, make_policy
from mores.sim.simulation import simulate
from mores.sim.simulator import Simulator
from tests.refusals import refused

TRAIT_STATE = {"half_life": 9.0, "permanent_share": 0.2, "volatility": 0.8}
TRAIT_STATE["disposition_noise_std"] = 0.05
UNBOUNDED = {"low": None, "high": None}


def answers(world: int) -> np.ndarray:
    """Integer answers of 40 people in 4 waves, with repetitions."""
    rng = np.random.default_rng(world)
    values = rng.normal(4, 2, (40, 1))
    return np.clip(np.round(values + rng.normal(0, 1, (40, 4))), 0, 7)


@pytest.fixture(scope="module")
def panels() -> tuple[list[np.ndarray], torch.Tensor]:
    worlds = [answers(world) for world in range(5)]
    return worlds, torch.from_numpy(np.stack(worlds)).float()


def test_intraclass_correlation_equals_f_test(panels):
    correlations = panel_statistics.intraclass_correlation(panels[1]).tolist()
    for x, correlation in zip(panels[0], correlations, strict=True):
        f = scipy.stats.f_oneway(*x).statistic  # between people over within
        assert correlation == pytest.approx((f - 1) / (f + 3), abs=1e-5)


def test_panel_statistics(panels):
    waves = panels[1]
    statistics = {
        "r": panel_statistics.pearson_correlation(waves[..., 0], waves[..., 2]),
        "sd": panel_statistics.answer_std(waves),
        "change": panel_statistics.mean_absolute_change(waves),
        "same": panel_statistics.unchanged_share(waves),
        **panel_statistics.forecast_errors(waves)._asdict(),
    }
    for world, x in enumerate(panels[0]):
        past, last = x[:, :3], x[:, 3]
        f = scipy.stats.f_oneway(*past).statistic
        shrunken = past.mean() + (1 - 1 / f) * (past.mean(1) - past.mean())
        expected = {
            "r": scipy.stats.pearsonr(x[:, 0], x[:, 2]).statistic,
            "sd": x.std(0, ddof=1).mean(),
            "change": np.abs(np.diff(x)).mean(),
            "same": (np.diff(x) == 0).mean(),
            "last_answer": np.sqrt(((last - past[:, 2]) ** 2).mean()),
            "person_mean": np.sqrt(((last - past.mean(1)) ** 2).mean()),
            "grand_mean": np.sqrt(((last - past.mean()) ** 2).mean()),
            "shrunken_mean": np.sqrt(((last - shrunken) ** 2).mean()),
        }
        for name, value in expected.items():
            assert statistics[name][world].item() == pytest.approx(value, abs=1e-5), name


def test_experiment_statistics(panels):
    pretest, posttest = panels[1][..., 0], panels[1][..., 1]
    treated = (torch.arange(40) % 2).float().expand(5, -1)
    effects = panel_statistics.difference_in_differences(pretest, posttest, treated)
    odds = panel_statistics.odds_ratio(pretest, posttest, treated)
    for world, x in enumerate(panels[0]):
        change, mask = x[:, 1] - x[:, 0], np.arange(40) % 2 == 1
        effect = change[mask].mean() - change[~mask].mean()
        assert effects[world].item() == pytest.approx(effect, abs=1e-5)
        a, b = (change[mask] > 0).sum() + 0.5, (change[mask] <= 0).sum() + 0.5
        c, d = (change[~mask] > 0).sum() + 0.5, (change[~mask] <= 0).sum() + 0.5
        assert odds[world].item() == pytest.approx(a * d / (b * c), rel=1e-5)


@pytest.mark.parametrize("heterogeneity", [0.0, 1.1])
def test_panel_analytic_values(heterogeneity):
    """Means over 150 worlds of 2,000 people, seed 11: 4.5 standard errors, and a bias of 1/n."""
    dynamics = {**TRAIT_STATE, "volatility_heterogeneity": heterogeneity}
    env = Panel(num_people=2000, wave_interval=4, trait_state=dynamics, **UNBOUNDED)
    policies = {"person": SurveyRespondent(noise_std=0.6)}
    expected = env.analytic_values(policies, 13)
    assert ("mean_absolute_change" in expected) == (heterogeneity == 0)
    names = {"correlation_3", "correlation_decay", "icc", "answer_std", "mean_answer"}
    assert names | {"rmse_shrunken_mean"} <= set(expected)
    result = simulate(env, policies, 150, 13, 11, list(expected), metric_rounds=[12, 13])
    for name, value in expected.items():
        assert result.metrics[name][:, 0].isnull().all(), name  # last wave missing
        x = result.metrics[name].values[:, 1].astype(float)
        error = 4.5 * x.std(ddof=1) / math.sqrt(150) + 1 / 2000
        assert abs(x.mean() - value) < error, (name, x.mean(), value)


@pytest.mark.cut(2)
@pytest.mark.parametrize("followup", [1, 3])
def test_conversation_analytic_values(followup):
    """Means over 150 worlds of 2,000 people, seed 12; 4.5 standard errors."""
    dynamics = {**TRAIT_STATE, "half_life": 0.7, "volatility_heterogeneity": 1.0}
    env = Panel(
        num_people=2000,
        trait_state=dynamics,
        conversation_round=2,
        followup_rounds=followup,
        ai_influence=0.3,
        initial_mean=5.0,
        **UNBOUNDED,
    )
    policies = {
        "person": SurveyRespondent(noise_std=0.6),
        "assistant": Advocate(goal=12.0, intensity=0.5),
    }
    expected = env.analytic_values(policies, 9)
    retention = 0.2 + 0.8 * 0.5 ** (followup / 0.7)
    effects = {"treatment_effect": 1.05, "treatment_effect_followup": 1.05 * retention}
    assert expected == pytest.approx({**effects, "effect_retention": retention})
    result = simulate(env, policies, 150, 9, 12, list(expected))
    for name, value in expected.items():
        x = result.metrics[name].values.astype(float)
        first = 3 if name == "treatment_effect" else 3 + followup
        assert np.isnan(x[:, :first]).all() and (x[:, first:] == x[:, first:][:, :1]).all()
        error = 4.5 * x[:, -1].std(ddof=1) / math.sqrt(150)
        assert abs(x[:, -1].mean() - value) < error, (name, x[:, -1].mean(), value)


def test_no_analytic_values_outside_their_assumptions():
    exact = {"person": SurveyRespondent(noise_std=0.5)}
    assert "icc" in Panel(**UNBOUNDED).analytic_values(exact, 37)
    assert not Panel().analytic_values(exact, 37)
    rounding = {"person": SurveyRespondent(option_spacing=1.0)}
    assert not Panel(**UNBOUNDED).analytic_values(rounding, 37)
    conversation = Panel(conversation_round=1, **UNBOUNDED)
    assert not conversation.analytic_values({**exact, "assistant": Silent()}, 37)


def test_waves_contain_answers_of_their_rounds():
    env = Panel(num_people=5, wave_interval=3, num_waves=4, **UNBOUNDED)
    simulator = Simulator(env, {"person": "truthful_answer"}, worlds=2, rounds=20)
    simulator.reset(3)
    values = []
    for _ in range(12):
        values.append(simulator.state.trait_state.values[..., 0])
        simulator.step()
    assert torch.equal(simulator.state.wave_answers, torch.stack(values[::3], -1))


@pytest.mark.parametrize("people", [2, 7, 264])
def test_half_of_the_people_is_treated(people):
    state = Panel(num_people=people, conversation_round=0).reset(RandomStreams.of(1, 50))
    assert (state.treated.sum(1) == people // 2).all()
    frequency = state.treated.mean(0)
    assert people > 7 or (frequency > 0).all()  # random assignment


def test_untreated_people_equal_the_twin_bit_for_bit():
    twin = simulate(Panel(num_people=50), {}, 4, 8, seed=5).state
    env = Panel(num_people=50, conversation_round=3)
    silent = simulate(env, {"assistant": Silent()}, 4, 8, seed=5).state
    advocate = simulate(env, {}, 4, 8, seed=5).state
    values, twin_values = advocate.trait_state.values, twin.trait_state.values
    assert torch.equal(silent.trait_state.values, twin_values)
    control = advocate.treated == 0
    assert torch.equal(values[control], twin_values[control])
    assert not (values[~control] == twin_values[~control]).any()


def test_persuader_equals_advocate():
    env = Panel(num_people=400, conversation_round=2, initial_std=1.0, initial_mean=3.0)
    persuader = Persuader(goal=[7.0], goal_weight=1.0)
    one, other = (
        simulate(env, {"assistant": policy}, 20, 5, 1, ["treatment_effect"], metric_rounds=[5])
        for policy in (persuader, Advocate(goal=7.0))
    )
    effects = [result.metrics["treatment_effect"] for result in (one, other)]
    assert effects[0].identical(effects[1]) and (effects[0] > 0).all()


@pytest.mark.parametrize("conversation", [None, 4])
def test_replicate_37_alone_equals_replicate_37_of_400(conversation):
    env = Panel(num_people=101, wave_interval=2, conversation_round=conversation)
    policies = {"person": SurveyRespondent(noise_std=0.4, low=0, high=7, option_spacing=1)}
    names = list(env.metrics(env.reset(RandomStreams.of(0, 1))))
    together = simulate(env, policies, 400, 9, 6, names)
    alone = simulate(env, policies, [37], 9, 6, names)
    for path, tensor in flatten(alone.state).items():
        assert torch.equal(tensor[0], flatten(together.state)[path][37]), path
    assert alone.metrics.identical(together.metrics.isel(world=[37]))


# --- survey respondents ------------------------------------------------------------------------


def answer(policy: SurveyRespondent, observation: torch.Tensor, **parts: int) -> torch.Tensor:
    role = Role("person", observation.shape[1], Box.of(**parts))
    phase = Phase("answer", {"person": Box.of(answer=parts["values"])})
    streams = RandomStreams.of(1, len(observation))
    state = policy.initial_state(role, (phase,), streams)
    return policy.act(phase, observation, None, state, streams).action


def test_answers_are_nearest_options_of_the_scale():
    observation = torch.linspace(-3, 9, 121).expand(1, -1)[..., None]
    policy = SurveyRespondent(low=1, high=7, option_spacing=1.5)
    result = answer(policy, observation, values=1)
    options = np.array([1.0, 2.5, 4.0, 5.5, 7.0])
    smallest = np.abs(observation.numpy() - options).min(-1)
    distance = np.abs(observation.numpy() - result.numpy())[..., 0]
    assert set(result.flatten().tolist()) == set(options.tolist())
    assert distance == pytest.approx(smallest, abs=1e-5)


def test_answers_without_scale_and_noise_equal_values():
    observation = torch.randn(3, 20, 2)
    assert torch.equal(answer(SurveyRespondent(), observation, values=2), observation)


def test_answer_noise_is_proportional_to_relative_volatility():
    observation = torch.cat([torch.zeros(2, 9, 1), torch.arange(9.0).expand(2, -1)[..., None]], -1)
    errors = answer(SurveyRespondent(noise_std=0.5), observation, values=1, relative_volatility=1)
    base_errors = answer(SurveyRespondent(noise_std=0.5), torch.zeros(2, 9, 1), values=1)
    assert torch.equal(errors, base_errors * observation[..., 1:])


@pytest.mark.parametrize(("high", "option_spacing"), [(-1.0, None), (7.0, 2.0)])
def test_invalid_scales(high, option_spacing):
    with refused("conflict", path="survey_respondent"):
        make_policy("survey_respondent", low=0.0, high=high, option_spacing=option_spacing)


def test_invalid_panels():
    with refused("conflict", path="panel"):
        make_environment("panel", low=7.0, high=0.0)
    with refused("missing", path="advocate.goal"):
        simulate(Panel(conversation_round=0, **UNBOUNDED), {}, 1, 1)

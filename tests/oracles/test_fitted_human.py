"""The fitted human gives the figures of docs/explanation/default_human.md in every environment."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mores.agents.people.humans import Fitted, Idealised
from mores.agents.people.normal import NormalPopulation
from mores.core.environment import Phase
from mores.core.policy import ActionOutput, Policy
from mores.core.random_streams import RandomStreams
from mores.envs.opinion.coevolution import Coevolution
from mores.envs.opinion.panel import Panel
from mores.envs.opinion.panel_statistics import panel_metrics
from mores.sim.simulation import simulate
from mores.sim.simulator import Simulator

INTERVALS = {  # 95 % intervals of the panel, from respondents resampled
    "answer_std": (1.73, 1.89),
    "icc": (0.51, 0.64),
    "unchanged_share": (0.38, 0.47),
    "correlation_1": (0.52, 0.69),
    "correlation_2": (0.47, 0.65),
    "correlation_3": (0.56, 0.72),
    "correlation_decay": (-0.13, 0.06),
    "mean_answer": (4.75, 5.11),
    "mean_absolute_change": (0.99, 1.22),
    "rmse_last_answer": (1.35, 1.77),
    "rmse_person_mean": (1.16, 1.44),
    "rmse_grand_mean": (1.74, 1.96),
    "rmse_shrunken_mean": (1.16, 1.41),
}


def check(statistics: dict[str, float]) -> None:
    outside = {
        name: (statistics[name], limits)
        for name, limits in INTERVALS.items()
        if not limits[0] <= statistics[name] <= limits[1]
    }
    assert not outside


@pytest.mark.parametrize("rounds_per_year", [1, 4, 12, 52])
def test_panel(rounds_per_year: int) -> None:
    env = Panel(rounds_per_year=rounds_per_year)
    last = 3 * rounds_per_year + 1
    result = simulate(
        env, worlds=100, rounds=last, seed=1983, metrics=tuple(INTERVALS), metric_rounds=[last]
    )
    check({name: float(result.metrics[name].mean()) for name in INTERVALS})


@pytest.mark.parametrize("rounds_per_year", [1, 12])
def test_people_of_the_panel_in_coevolution(rounds_per_year: int) -> None:
    """The same people, dispositions on the panel's scale, answer in the waves of a panel."""
    population = NormalPopulation(num_people=264, mean=5.15, std=1.70)
    env = Coevolution(rounds_per_year=rounds_per_year, num_assistants=0, value_limit=100.0)
    env = env.with_population(population)
    person: dict[str, Any] = {"kind": "survey_respondent", "low": 0, "high": 7}
    person["option_spacing"] = 1
    default = env.default_policies()["person"]
    simulator = Simulator(
        env,
        {"person": {**person, "noise_std": default["noise_std"]}},
        worlds=100,
        population=population,
    )
    simulator.reset(1983)
    waves = []
    for completed in range(3 * rounds_per_year + 1):
        simulator.step()
        if completed % rounds_per_year == 0:
            waves.append(simulator.state.answers[..., 0])
    statistics = panel_metrics(torch.stack(waves, -1))
    check({name: float(statistics[name].mean()) for name in INTERVALS})


class OneConversation(Policy):
    """Argues for 100 in the first round and is silent afterwards."""

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Any,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        """Position and intensity."""
        position = torch.full_like(observation[..., :1], 100.0)
        speaks = (streams.round == 0).to(position.dtype)[:, None, None]
        return ActionOutput(torch.cat([position, speaks.expand_as(position)], -1), state)


@pytest.mark.parametrize("rounds_per_year", [12, 48])
def test_a_conversation_in_coevolution(rounds_per_year: int) -> None:
    """It moves answers by 15.9 of 100 points, of which 36 to 42 % remain after a month."""
    population = NormalPopulation(num_people=500, mean=50, std=24.3)
    env = Coevolution(rounds_per_year=rounds_per_year, value_limit=1e4).with_population(population)
    noise_std = env.default_policies()["person"]["noise_std"]
    person = {"kind": "survey_respondent", "noise_std": noise_std, "low": 0, "high": 100}
    after, month_later = 1, 1 + rounds_per_year // 12
    means = []
    for assistant in (OneConversation(), "silent"):
        policies = {"person": person, "assistant": assistant}
        simulator = Simulator(env, policies, worlds=100, population=population)
        simulator.reset(3)
        answers = []
        for _ in range(month_later + 1):
            simulator.step()
            answers.append(float(simulator.state.answers.mean()))
        means.append(answers)
    effect = [with_ai - without for with_ai, without in zip(*means, strict=True)]
    assert 15.4 <= effect[after] <= 16.4
    assert 0.36 <= effect[month_later] / effect[after] <= 0.42


def test_units() -> None:
    human = Fitted().in_rounds(rounds_per_year=12.0, population_std=1.70)
    assert human.half_life == pytest.approx(0.5)
    assert (human.volatility, human.answer_noise_std) == pytest.approx((1.01, 1.0))
    weekly = Fitted(disposition_noise=0.3).in_rounds(52.0, 2.0)
    assert weekly.disposition_noise_std**2 * 52 == pytest.approx((0.3 * 2.0) ** 2)
    still = Idealised().in_rounds(12.0, 1.0)
    assert still.half_life is None and still.volatility == still.answer_noise_std == 0.0

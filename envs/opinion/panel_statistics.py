"""Statistics of survey answers: of a panel with several waves, and of an experiment.

All functions use answers only, never latent values. Each returns one number per world; sums have a
fixed order, so that a world's statistics do not depend on the batch.

The intraclass correlation is ICC(1), one-way: Shrout and Fleiss 1979, Psychol. Bull. 86, 420.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor

from mores.core.deterministic_sum import mean, total

SurveyAnswers = Float[Tensor, "world agent"]
PanelAnswers = Float[Tensor, "world agent wave"]
WorldStatistic = Float[Tensor, " world"]


class MeanSquares(NamedTuple):
    """Mean squares between and within people of a one-way analysis of variance."""

    between: WorldStatistic
    within: WorldStatistic


class ForecastErrors(NamedTuple):
    """Root mean square errors of forecasts of the last wave from the earlier waves.

    Attributes:
        last_answer: forecast by the person's previous answer.
        person_mean: by the mean of the person's earlier answers.
        grand_mean: by the mean of all earlier answers.
        shrunken_mean: by the person's mean, shrunk to the grand mean with the reliability of the
            earlier waves, `1 - within / between` in [0, 1].
    """

    last_answer: WorldStatistic
    person_mean: WorldStatistic
    grand_mean: WorldStatistic
    shrunken_mean: WorldStatistic


def pearson_correlation(one: SurveyAnswers, other: SurveyAnswers) -> WorldStatistic:
    """Pearson correlation over people."""
    a, b = one - mean(one, 1)[:, None], other - mean(other, 1)[:, None]
    return total(a * b, 1) / (total(a * a, 1) * total(b * b, 1)).sqrt()


def answer_std(answers: PanelAnswers) -> WorldStatistic:
    """Standard deviation over people (divisor n - 1), averaged over waves."""
    deviation = answers - mean(answers, 1)[:, None]
    return mean((total(deviation * deviation, 1) / (answers.shape[1] - 1)).sqrt(), 1)


def one_way_anova(answers: PanelAnswers) -> MeanSquares:
    """Mean squares of answers between people and within a person."""
    people, waves = answers.shape[1:]
    person_mean = mean(answers, 2)  # world agent
    between = person_mean - mean(person_mean, 1)[:, None]
    within = answers - person_mean[..., None]
    return MeanSquares(
        waves * total(between * between, 1) / (people - 1),
        total(total(within * within, 2), 1) / (people * (waves - 1)),
    )


def intraclass_correlation(answers: PanelAnswers) -> WorldStatistic:
    """ICC(1): share of the variance of a single answer that is between people."""
    squares = one_way_anova(answers)
    waves = answers.shape[2]
    return (squares.between - squares.within) / (squares.between + (waves - 1) * squares.within)


def mean_absolute_change(answers: PanelAnswers) -> WorldStatistic:
    """Mean absolute change from one wave to the next."""
    return mean(mean((answers[..., 1:] - answers[..., :-1]).abs(), 2), 1)


def unchanged_share(answers: PanelAnswers) -> WorldStatistic:
    """Share of pairs of successive waves with equal answers."""
    equal = (answers[..., 1:] == answers[..., :-1]).to(answers.dtype)
    return mean(mean(equal, 2), 1)


def forecast_errors(answers: PanelAnswers) -> ForecastErrors:
    """Errors of forecasts of the last wave; at least three waves."""
    past, last = answers[..., :-1], answers[..., -1]
    person_mean = mean(past, 2)  # world agent
    grand_mean = mean(person_mean, 1)[:, None]
    squares = one_way_anova(past)
    reliability = (1.0 - squares.within / squares.between).clamp(0.0, 1.0)[:, None]
    return ForecastErrors(
        _rmse(last, past[..., -1]),
        _rmse(last, person_mean),
        _rmse(last, grand_mean),
        _rmse(last, grand_mean + reliability * (person_mean - grand_mean)),
    )


def _rmse(truth: SurveyAnswers, forecast: Tensor) -> WorldStatistic:
    error = truth - forecast
    return mean(error * error, 1).sqrt()


def panel_metrics(answers: PanelAnswers) -> dict[str, WorldStatistic]:
    """All statistics of a panel by name; NaN if it has too few waves."""
    waves = answers.shape[2]
    undefined = answers.new_full(answers.shape[:1], math.nan)
    metrics = {
        f"correlation_{lag}": pearson_correlation(answers[..., 0], answers[..., lag])
        if lag < waves
        else undefined
        for lag in (1, 2, 3)
    }
    errors = forecast_errors(answers) if waves > 2 else ForecastErrors(*[undefined] * 4)
    return metrics | {
        "correlation_decay": metrics["correlation_1"] - metrics["correlation_3"],
        "icc": intraclass_correlation(answers) if waves > 1 else undefined,
        "answer_std": answer_std(answers),
        "mean_answer": mean(mean(answers, 2), 1),
        "mean_absolute_change": mean_absolute_change(answers) if waves > 1 else undefined,
        "unchanged_share": unchanged_share(answers) if waves > 1 else undefined,
        "rmse_last_answer": errors.last_answer,
        "rmse_person_mean": errors.person_mean,
        "rmse_grand_mean": errors.grand_mean,
        "rmse_shrunken_mean": errors.shrunken_mean,
    }


def difference_in_differences(
    pretest: SurveyAnswers, posttest: SurveyAnswers, treated: SurveyAnswers
) -> WorldStatistic:
    """Mean change of treated people's answers minus mean change of the others'.

    `treated` is 1 or 0. With random assignment this estimates the difference of the groups'
    posttest means; the pretest of the same people increases its precision.
    """
    change = posttest - pretest
    means = [total(x * change, 1) / total(x, 1) for x in (treated, 1.0 - treated)]
    return means[0] - means[1]


def odds_ratio(
    pretest: SurveyAnswers, posttest: SurveyAnswers, treated: SurveyAnswers
) -> WorldStatistic:
    """Odds ratio, treated to others, of an answer higher than the pretest.

    0.5 is added to each of the four counts (Haldane 1956; Anscombe 1956), so that none is 0.
    """
    rise = (posttest > pretest).to(posttest.dtype)
    control = 1.0 - treated
    treated_rise, treated_rest = total(treated * rise, 1), total(treated * (1.0 - rise), 1)
    control_rise, control_rest = total(control * rise, 1), total(control * (1.0 - rise), 1)
    numerator = (treated_rise + 0.5) * (control_rest + 0.5)
    return numerator / ((treated_rest + 0.5) * (control_rise + 0.5))


def analytic_panel_metrics(
    covariance: Float[np.ndarray, "wave wave"], homogeneous: bool
) -> dict[str, float]:
    """Statistics of a large panel of normal answers with the given covariance.

    Args:
        covariance: covariance between waves over people; all waves have equal means.
        homogeneous: whether all people have equal volatility: only then are changes normal.
    """
    waves = len(covariance)
    variance = np.diag(covariance)
    off_diagonal = covariance.sum() - variance.sum()
    metrics = {
        f"correlation_{lag}": covariance[0, lag] / math.sqrt(variance[0] * variance[lag])
        for lag in range(1, min(waves, 4))
    }
    if waves > 3:
        metrics["correlation_decay"] = metrics["correlation_1"] - metrics["correlation_3"]
    metrics["answer_std"] = float(np.sqrt(variance).mean())
    if waves > 1:
        metrics["icc"] = off_diagonal / (waves * (waves - 1)) / variance.mean()
        changes = [_change_std(covariance, k) for k in range(1, waves)]
        if homogeneous:
            metrics["mean_absolute_change"] = float(np.mean(changes)) * math.sqrt(2.0 / math.pi)
    if waves > 2:
        past = covariance[:-1, :-1]
        between = past.mean()
        reliable = (past.sum() - np.trace(past)) / ((waves - 1) * (waves - 2))
        weights = {
            "rmse_last_answer": np.eye(waves - 1)[-1],
            "rmse_person_mean": np.full(waves - 1, 1.0 / (waves - 1)),
            "rmse_grand_mean": np.zeros(waves - 1),
            "rmse_shrunken_mean": np.full(waves - 1, reliable / between / (waves - 1)),
        }
        for name, weight in weights.items():
            error = np.append(-weight, 1.0)  # last wave minus its forecast
            metrics[name] = math.sqrt(error @ covariance @ error)
    return {name: float(number) for name, number in metrics.items()}


def _change_std(covariance: Float[np.ndarray, "wave wave"], wave: int) -> float:
    """Standard deviation of the change from wave - 1 to `wave`."""
    change = (
        covariance[wave, wave] + covariance[wave - 1, wave - 1] - 2.0 * covariance[wave, wave - 1]
    )
    return math.sqrt(max(0.0, float(change)))

"""What a study computes from people's answers: of a panel of waves, and of an experiment.

Everything here sees answers only, never what people hold. Each function gives one number a world;
sums have a fixed order, so that a world's figures do not depend on the worlds beside it.

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
    """Mean squares between and within people, of one-way analysis of variance."""

    between: WorldStatistic
    within: WorldStatistic


class ForecastErrors(NamedTuple):
    """Root mean square error of forecasts of the last wave from those before.

    Attributes:
        last_answer: by a person's answer in the wave before.
        person_mean: by the mean of a person's answers so far.
        grand_mean: by the mean of all answers so far.
        shrunken_mean: by a person's mean, drawn to the grand mean by as much as the earlier waves say
            that it is unreliable: `1 - within / between`, in [0, 1].
    """

    last_answer: WorldStatistic
    person_mean: WorldStatistic
    grand_mean: WorldStatistic
    shrunken_mean: WorldStatistic


def pearson_correlation(one: SurveyAnswers, other: SurveyAnswers) -> WorldStatistic:
    """Pearson's, over people."""
    a, b = one - mean(one, 1)[:, None], other - mean(other, 1)[:, None]
    return total(a * b, 1) / (total(a * a, 1) * total(b * b, 1)).sqrt()


def answer_std(answers: PanelAnswers) -> WorldStatistic:
    """Standard deviation over people (divisor n - 1), averaged over waves."""
    apart = answers - mean(answers, 1)[:, None]
    return mean((total(apart * apart, 1) / (answers.shape[1] - 1)).sqrt(), 1)


def one_way_anova(answers: PanelAnswers) -> MeanSquares:
    """How much people differ from each other, and from themselves."""
    people, waves = answers.shape[1:]
    own = mean(answers, 2)  # world agent
    apart = own - mean(own, 1)[:, None]
    from_self = answers - own[..., None]
    return MeanSquares(
        waves * total(apart * apart, 1) / (people - 1),
        total(total(from_self * from_self, 2), 1) / (people * (waves - 1)),
    )


def intraclass_correlation(answers: PanelAnswers) -> WorldStatistic:
    """ICC(1): the share of the variance of a single answer that lies between people."""
    spread = one_way_anova(answers)
    waves = answers.shape[2]
    return (spread.between - spread.within) / (spread.between + (waves - 1) * spread.within)


def mean_absolute_change(answers: PanelAnswers) -> WorldStatistic:
    """Mean size of the change from one wave to the next."""
    return mean(mean((answers[..., 1:] - answers[..., :-1]).abs(), 2), 1)


def unchanged_share(answers: PanelAnswers) -> WorldStatistic:
    """Share of pairs of successive waves with exactly the same answer."""
    same = (answers[..., 1:] == answers[..., :-1]).to(answers.dtype)
    return mean(mean(same, 2), 1)


def forecast_errors(answers: PanelAnswers) -> ForecastErrors:
    """Errors of forecasts of the last of at least three waves."""
    past, last = answers[..., :-1], answers[..., -1]
    own = mean(past, 2)  # world agent
    grand = mean(own, 1)[:, None]
    spread = one_way_anova(past)
    reliable = (1.0 - spread.within / spread.between).clamp(0.0, 1.0)[:, None]
    return ForecastErrors(
        _rmse(last, past[..., -1]),
        _rmse(last, own),
        _rmse(last, grand),
        _rmse(last, grand + reliable * (own - grand)),
    )


def _rmse(truth: SurveyAnswers, forecast: Tensor) -> WorldStatistic:
    apart = truth - forecast
    return mean(apart * apart, 1).sqrt()


def panel_metrics(answers: PanelAnswers) -> dict[str, WorldStatistic]:
    """All figures of a panel by name; nan where it takes more waves."""
    waves = answers.shape[2]
    nothing = answers.new_full(answers.shape[:1], math.nan)
    found = {
        f"correlation_{lag}": pearson_correlation(answers[..., 0], answers[..., lag])
        if lag < waves
        else nothing
        for lag in (1, 2, 3)
    }
    errors = forecast_errors(answers) if waves > 2 else ForecastErrors(*[nothing] * 4)
    return found | {
        "correlation_decay": found["correlation_1"] - found["correlation_3"],
        "icc": intraclass_correlation(answers) if waves > 1 else nothing,
        "answer_std": answer_std(answers),
        "mean_answer": mean(mean(answers, 2), 1),
        "mean_absolute_change": mean_absolute_change(answers) if waves > 1 else nothing,
        "unchanged_share": unchanged_share(answers) if waves > 1 else nothing,
        "rmse_last_answer": errors.last_answer,
        "rmse_person_mean": errors.person_mean,
        "rmse_grand_mean": errors.grand_mean,
        "rmse_shrunken_mean": errors.shrunken_mean,
    }


def difference_in_differences(
    pretest: SurveyAnswers, posttest: SurveyAnswers, treated: SurveyAnswers
) -> WorldStatistic:
    """How much more the answers of treated people rose than those of the others, on average.

    `treated` is 1 for the treated and 0 for the others. With random assignment this estimates the
    difference of the groups' means now; that the same people answered before makes it more precise.
    """
    rose = posttest - pretest
    yes, no = treated, 1.0 - treated
    return total(yes * rose, 1) / total(yes, 1) - total(no * rose, 1) / total(no, 1)


def odds_ratio(
    pretest: SurveyAnswers, posttest: SurveyAnswers, treated: SurveyAnswers
) -> WorldStatistic:
    """Odds of answering higher than before: of treated people, over those of the others.

    Half a person is added to each of the four counts (Haldane 1956; Anscombe 1956), so that none is
    empty.
    """
    higher = (posttest > pretest).to(posttest.dtype)
    yes, no = treated, 1.0 - treated
    rose, stayed = total(yes * higher, 1) + 0.5, total(yes * (1.0 - higher), 1) + 0.5
    rose_anyway, stayed_too = total(no * higher, 1) + 0.5, total(no * (1.0 - higher), 1) + 0.5
    return (rose * stayed_too) / (stayed * rose_anyway)


def analytic_panel_metrics(
    covariance: Float[np.ndarray, "wave wave"], homogeneous: bool
) -> dict[str, float]:
    """What a large panel of normal answers with this covariance between waves comes to.

    Args:
        covariance: between waves, over people; all waves have the same mean.
        homogeneous: whether all people are equally changeable: only then are changes normal.
    """
    waves = len(covariance)
    variance = np.diag(covariance)
    off = (covariance.sum() - variance.sum()) / (waves * (waves - 1)) if waves > 1 else math.nan
    found = {
        f"correlation_{lag}": covariance[0, lag] / math.sqrt(variance[0] * variance[lag])
        for lag in range(1, min(waves, 4))
    }
    if waves > 3:
        found["correlation_decay"] = found["correlation_1"] - found["correlation_3"]
    found["answer_std"] = float(np.sqrt(variance).mean())
    if waves > 1:
        found["icc"] = off / variance.mean()
        changes = [_change_std(covariance, k) for k in range(1, waves)]
        if homogeneous:
            found["mean_absolute_change"] = float(np.mean(changes)) * math.sqrt(2.0 / math.pi)
    if waves > 2:
        past = covariance[:-1, :-1]
        between = past.mean()
        apart = (past.sum() - np.trace(past)) / ((waves - 1) * (waves - 2))
        weights = {
            "rmse_last_answer": np.eye(waves - 1)[-1],
            "rmse_person_mean": np.full(waves - 1, 1.0 / (waves - 1)),
            "rmse_grand_mean": np.zeros(waves - 1),
            "rmse_shrunken_mean": np.full(waves - 1, apart / between / (waves - 1)),
        }
        for name, weight in weights.items():
            forecast = np.append(-weight, 1.0)  # the last wave less its forecast
            found[name] = math.sqrt(forecast @ covariance @ forecast)
    return {name: float(number) for name, number in found.items()}


def _change_std(covariance: Float[np.ndarray, "wave wave"], wave: int) -> float:
    """Standard deviation of the change to wave k from the one before."""
    change = (
        covariance[wave, wave] + covariance[wave - 1, wave - 1] - 2.0 * covariance[wave, wave - 1]
    )
    return math.sqrt(max(0.0, float(change)))

"""The spatial model of the vote: a voter votes for the candidate nearest to the own ideal point.

    u(voter, candidate) = -|ideal - position|^2    (squared loss), or -|ideal - position| (absolute)

The model needs positions of the candidates. Voters place the same candidate all over the scale, so
there are two versions: *own* placements use each voter's answer, *common* placements the sample
mean for all voters. The same functions serve both. With common placements the difference of
utilities is a function of the ideal point alone (with squared loss a linear one), so it is equal
for two voters with the same ideal point.

Candidates are called first and second; a vote is 0 for the first, 1 for the second. Distances are
compared exactly: use integer survey codes, so that rounding does not break ties.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import bootstrap

from mores.core.errors import UserError

PersonArray = Float[np.ndarray, " person"]
UtilityLoss = Literal["squared", "absolute"]


class SurveyEstimate(NamedTuple):
    """An estimate and its 95 % interval."""

    value: float
    low: float
    high: float


# --- the model ------------------------------------------------------------------------------------


def utility(
    ideal: PersonArray, position: PersonArray | float, loss: UtilityLoss = "squared"
) -> PersonArray:
    """Utility of a candidate at this position for each voter; 0 is the maximum."""
    distance = np.abs(ideal - position)
    return -(distance**2) if loss == "squared" else -distance


def utility_difference(
    ideal: PersonArray,
    first: PersonArray | float,
    second: PersonArray | float,
    loss: UtilityLoss = "squared",
) -> PersonArray:
    """Utility of the second candidate minus that of the first; 0 if both are equally near."""
    return utility(ideal, second, loss) - utility(ideal, first, loss)


def nearest_candidate(
    ideal: PersonArray, first: PersonArray | float, second: PersonArray | float
) -> PersonArray:
    """Predicted vote: 0 the first candidate, 1 the second, 0.5 if both are equally near."""
    difference = utility_difference(ideal, first, second, "absolute")
    return (np.sign(difference) + 1) / 2


def vote_accuracy(predicted: PersonArray, vote: PersonArray) -> PersonArray:
    """1 for a correct prediction, 0 for a wrong one, 0.5 for a tie; the mean is the accuracy."""
    return 1 - np.abs(predicted - vote)


def bootstrap_interval(
    statistic: Callable[..., float], *samples: PersonArray, n_resamples: int = 2000, seed: int = 0
) -> SurveyEstimate:
    """A statistic of the samples, with a percentile bootstrap interval over respondents."""
    interval = bootstrap(
        samples,
        statistic,
        n_resamples=n_resamples,
        paired=True,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return SurveyEstimate(float(statistic(*samples)), float(interval.low), float(interval.high))


# --- logistic regression of the vote --------------------------------------------------------------


class VoteProbabilities(NamedTuple):
    """Probabilities of a vote for the second candidate, by logistic regression.

    Attributes:
        in_sample: of a regression on all people.
        held_out: of a regression on the folds without the person (cross-validation).
    """

    in_sample: PersonArray
    held_out: PersonArray


def fit_vote_probabilities(
    features: Sequence[PersonArray], vote: PersonArray, num_folds: int = 10, seed: int = 0
) -> VoteProbabilities:
    """Probabilities of a regression on features: on all people, and by cross-validation.

    `seed` determines the split.

    Raises:
        UserError: statsmodels is not installed.
    """
    held_out = np.empty_like(vote)
    folds = np.random.default_rng(seed).permutation(len(vote)) % num_folds
    for fold in range(num_folds):
        test = folds == fold
        model = fit_logit([feature[~test] for feature in features], vote[~test])
        held_out[test] = model.predict(add_constant(*(feature[test] for feature in features)))
    return VoteProbabilities(fit_logit(features, vote).predict(add_constant(*features)), held_out)


def log_losses(probability: PersonArray, vote: PersonArray) -> PersonArray:
    """Minus the log-probability of each person's vote; the mean is the log-loss."""
    return -np.log(np.where(vote == 1, probability, 1 - probability))


def fit_logit(features: Sequence[PersonArray], vote: PersonArray) -> Any:
    """Fitted logistic regression, a statsmodels result.

    Raises:
        UserError: statsmodels is not installed.
    """
    return import_statsmodels().Logit(vote, add_constant(*features)).fit(disp=0)


def add_constant(*columns: PersonArray) -> Float[np.ndarray, "person feature"]:
    """Design matrix with a constant first column of 1."""
    return np.column_stack([np.ones_like(columns[0]), *columns])


def import_statsmodels() -> Any:
    """`statsmodels.api`, imported at first use, since that takes a second.

    Raises:
        UserError: statsmodels is not installed.
    """
    try:
        import statsmodels.api
    except ImportError:
        raise UserError(
            "regressions of the vote need statsmodels: pip install 'mores[data]'",
            code="not_installed",
        ) from None
    return statsmodels.api

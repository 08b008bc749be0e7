"""The spatial model of the vote: everybody is for the candidate nearest to their own ideal point.

    u(voter, candidate) = -|ideal - position|^2    (squared loss), or -|ideal - position| (absolute)

The model needs positions. Asked for them, voters place the same candidate all over the scale, and
two readings follow: *own* placements take each voter's word, *common* placements give everybody
the sample's mean. The same functions serve both. Common placements make the difference of
utilities a function of the own place alone (with squared loss a linear one), so they cannot tell
apart two voters who stand at the same place.

Candidates are called first and second; a vote is 0 for the first, 1 for the second. Distances are
compared exactly: give whole survey codes where ties are to be ties.

`python -m mores.agents.user_models.ideal_point` prints what the model makes of real voters.
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
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


# --- the model ------------------------------------------------------------------------------------


def utility(
    ideal: PersonArray, position: PersonArray | float, loss: UtilityLoss = "squared"
) -> PersonArray:
    """What a candidate at this position is worth to each voter: 0 at best."""
    distance = np.abs(ideal - position)
    return -(distance**2) if loss == "squared" else -distance


def utility_difference(
    ideal: PersonArray,
    first: PersonArray | float,
    second: PersonArray | float,
    loss: UtilityLoss = "squared",
) -> PersonArray:
    """What the second candidate is worth more than the first; 0 where both are equally near."""
    return utility(ideal, second, loss) - utility(ideal, first, loss)


def nearest_candidate(
    ideal: PersonArray, first: PersonArray | float, second: PersonArray | float
) -> PersonArray:
    """The predicted vote: 0 the first candidate, 1 the second, 0.5 where both are equally near."""
    difference = utility_difference(ideal, first, second, "absolute")
    return (np.sign(difference) + 1) / 2


def vote_accuracy(predicted: PersonArray, vote: PersonArray) -> PersonArray:
    """1 where the vote was predicted, 0 where not, 0.5 for a tie: their mean is the accuracy."""
    return 1 - np.abs(predicted - vote)


def bootstrap_interval(
    statistic: Callable[..., float], *samples: PersonArray, n_resamples: int = 2000, seed: int = 0
) -> SurveyEstimate:
    """The statistic of whole respondents' answers, with a percentile bootstrap over respondents."""
    found = bootstrap(
        samples,
        statistic,
        n_resamples=n_resamples,
        paired=True,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return SurveyEstimate(float(statistic(*samples)), float(found.low), float(found.high))


# --- the vote as a matter of degree ---------------------------------------------------------------


class VoteProbabilities(NamedTuple):
    """Probabilities of the second candidate by a logistic regression of the vote.

    Attributes:
        in_sample: fitted to the same people.
        held_out: of each person, by a regression on the folds that the person is not in.
    """

    in_sample: PersonArray
    held_out: PersonArray


def fit_vote_probabilities(
    features: Sequence[PersonArray], vote: PersonArray, num_folds: int = 10, seed: int = 0
) -> VoteProbabilities:
    """Regress the vote on features: once on all, and by cross-validation on a fixed split.

    Raises:
        UserError: statsmodels is not installed.
    """
    held_out = np.empty_like(vote)
    fold = np.random.default_rng(seed).permutation(len(vote)) % num_folds
    for number in range(num_folds):
        out = fold == number
        fitted = fit_logit([feature[~out] for feature in features], vote[~out])
        held_out[out] = fitted.predict(add_constant(*(feature[out] for feature in features)))
    return VoteProbabilities(fit_logit(features, vote).predict(add_constant(*features)), held_out)


def log_losses(probability: PersonArray, vote: PersonArray) -> PersonArray:
    """Minus the log of the probability given to what each person did; the mean is the log-loss."""
    return -np.log(np.where(vote == 1, probability, 1 - probability))


def fit_logit(features: Sequence[PersonArray], vote: PersonArray) -> Any:
    """The fitted logistic regression, as statsmodels returns it.

    Raises:
        UserError: statsmodels is not installed.
    """
    return import_statsmodels().Logit(vote, add_constant(*features)).fit(disp=0)


def add_constant(*columns: PersonArray) -> Float[np.ndarray, "person feature"]:
    """A design matrix whose first column is 1."""
    return np.column_stack([np.ones_like(columns[0]), *columns])


def import_statsmodels() -> Any:
    """`statsmodels.api`, imported where it is used: it takes a second.

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


if __name__ == "__main__":
    from mores.agents.user_models.voters_1996 import main

    main()

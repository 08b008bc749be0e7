"""Projection: voters place a candidate nearer to themselves the more they support the candidate.

Assimilation shifts the placement of the supported candidate towards the own position, contrast
shifts that of the opposed one away; together they are projection (Merrill, Grofman and Adams 2001,
European Journal of Political Research 40:199-221, in surveys; Amira 2018, Journal of Experimental
Political Science, found modest assimilation and no contrast in an experiment). In a survey it
appears as slopes of opposite sign: supporters further right place the candidate further right,
opponents further right place the candidate further left. The measure is the difference of slopes.

The same slopes occur without projection. Voters who place a candidate nearby vote for that
candidate, so among the candidate's voters placements and own positions are correlated although
neither causes the other. `selection_effect` estimates the difference that this alone produces.
Supporters by party identification are not selected by their placements, unless placements changed
their party identification earlier; one survey at one time cannot exclude that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mores.agents.user_models.ideal_point import (
    PersonArray,
    SurveyEstimate,
    UtilityLoss,
    add_constant,
    fit_logit,
    import_statsmodels,
    utility_difference,
)


class ProjectionEstimate(NamedTuple):
    """Slopes of ordinary regressions of a candidate's placement on the own position.

    Attributes:
        supporter_slope: slope among supporters of the candidate; above 0: assimilation.
        opponent_slope: slope among the others; below 0: contrast.
        slope_difference: supporters' minus opponents' slope, the measure of projection, with a
            heteroscedasticity-robust (HC3) interval.
    """

    supporter_slope: float
    opponent_slope: float
    slope_difference: SurveyEstimate


def estimate_projection(
    ideal: PersonArray, placement: PersonArray, is_supporter: PersonArray
) -> ProjectionEstimate:
    """Estimate of projection onto one candidate.

    Support may be defined by vote or by party identification. By vote the estimate differs from 0
    even without projection, see `selection_effect`.

    Args:
        ideal: own position of each person.
        placement: each person's placement of the candidate, on the same scale.
        is_supporter: 1 for supporters of the candidate, 0 for the others.

    Raises:
        UserError: statsmodels is not installed.
    """
    design = add_constant(ideal, is_supporter, ideal * is_supporter)
    fit = import_statsmodels().OLS(placement, design).fit(cov_type="HC3")
    low, high = fit.conf_int()[3]
    opponents, difference = fit.params[1], fit.params[3]
    return ProjectionEstimate(
        float(opponents + difference),
        float(opponents),
        SurveyEstimate(float(difference), float(low), float(high)),
    )


class SelectionEffect(NamedTuple):
    """Slope differences without projection, by candidate: mean, and central 95 % range."""

    first: SurveyEstimate
    second: SurveyEstimate


def selection_effect(
    ideal: PersonArray,
    first: PersonArray,
    second: PersonArray,
    vote: PersonArray,
    covariates: Sequence[PersonArray] = (),
    loss: UtilityLoss = "absolute",
    num_permutations: int = 1000,
    seed: int = 0,
) -> SelectionEffect:
    """Slope differences by vote that voting by distance produces without projection.

    The placements of respondents (both of one respondent together) are permuted at random, which
    removes projection. Votes are sampled from the regression of the real votes on the difference of
    utilities and `covariates`. That regression attributes the whole real association to distance,
    so the selection effect is rather too large: voting by distance does not explain a larger
    observed difference; a smaller one is no evidence of projection, and does not exclude it.

    Args:
        ideal: own position of each person.
        first, second: each person's placements of the candidates, on the same scale.
        vote: 0 for the first candidate, 1 for the second.
        covariates: further regressors of the vote, such as party identification.
        loss: loss of the utilities.
        num_permutations: number of permutations.
        seed: seed of permutations and votes.

    Raises:
        UserError: statsmodels is not installed.
    """
    rng = np.random.default_rng(seed)
    vote_model = fit_logit([utility_difference(ideal, first, second, loss), *covariates], vote)
    differences = np.empty((num_permutations, 2))
    for i in range(num_permutations):
        order = rng.permutation(len(vote))
        placements = first[order], second[order]
        design = add_constant(utility_difference(ideal, *placements, loss), *covariates)
        votes = rng.random(len(vote)) < vote_model.predict(design)
        for candidate, placement in enumerate(placements):
            voters = votes == candidate
            differences[i, candidate] = _slope(ideal[voters], placement[voters]) - _slope(
                ideal[~voters], placement[~voters]
            )
    mean = differences.mean(0)
    low, high = np.quantile(differences, [0.025, 0.975], axis=0)
    return SelectionEffect(
        *(SurveyEstimate(float(mean[c]), float(low[c]), float(high[c])) for c in (0, 1))
    )


def _slope(x: PersonArray, y: PersonArray) -> float:
    return float(np.polyfit(x, y, 1)[0])

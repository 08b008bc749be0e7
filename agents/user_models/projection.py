"""Projection: people see a candidate they favour nearer to themselves than others see them.

Assimilation draws the candidate one is for towards one's own place, contrast pushes the other one
away; together they are projection (Merrill, Grofman and Adams 2001, European Journal of Political
Research 40:199-221, in surveys; Amira 2018, Journal of Experimental Political Science, found a
modest assimilation and no contrast by experiment). In a survey it shows as slopes of opposite
sign: where supporters stand further right they place the candidate further right, where opponents
do, further left. The difference of the slopes is the measure here.

The same slopes come about without projection. Whoever happens to see a candidate nearby votes for
that candidate, so among the candidate's voters placements go with own places although neither
made the other. `selection_effect` says how large a difference that alone makes. Supporters by party
identification are not chosen by where they happen to see a candidate, unless that had moved their
party identification before: no survey at one time can tell.
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
    """How people's own place goes with where they see a candidate.

    Slopes of ordinary regressions of the candidate's placement on the own place.

    Attributes:
        supporter_slope: slope among those who are for the candidate; above 0: assimilation.
        opponent_slope: slope among the others; below 0: contrast.
        slope_difference: supporters' minus opponents' slope, with a heteroscedasticity-robust (HC3)
            interval: the measure of projection.
    """

    supporter_slope: float
    opponent_slope: float
    slope_difference: SurveyEstimate


def estimate_projection(
    ideal: PersonArray, placement: PersonArray, is_supporter: PersonArray
) -> ProjectionEstimate:
    """Measure projection onto one candidate.

    Who supports whom may be read off the vote, or off party identification. By vote the measure
    is not 0 even where nobody projects, see `selection_effect`.

    Args:
        ideal: each person's own place.
        placement: where each sees the candidate, on the same scale.
        is_supporter: 1 for those who are for the candidate, 0 for the others.

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
    """Differences of slopes for each candidate where nobody projects: mean, and middle 95 %."""

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
    """Differences of slopes by vote that come from voting by distance, where nobody projects.

    Both placements of a respondent are handed to another one at random, which leaves no
    projection, and votes are drawn from the regression of the real ones on the ideal-point
    difference and `covariates`. The regression credits all of the real association to distance, which
    is generous to selection: what exceeds these differences, votes by distance do not explain;
    what does not exceed them shows no projection, and does not exclude it.

    Args:
        ideal: each person's own place.
        first, second: where each sees the candidates, on the same scale.
        vote: 0 for the first candidate, 1 for the second.
        covariates: what else the vote is regressed on, such as party identification.
        loss: of the ideal-point difference.
        num_permutations: how often placements are handed round.
        seed: of shuffles and votes.

    Raises:
        UserError: statsmodels is not installed.
    """
    rng = np.random.default_rng(seed)
    rule = fit_logit([utility_difference(ideal, first, second, loss), *covariates], vote)
    found = np.empty((num_permutations, 2))
    for number in range(num_permutations):
        order = rng.permutation(len(vote))
        seen = first[order], second[order]
        design = add_constant(utility_difference(ideal, *seen, loss), *covariates)
        drawn = rng.random(len(vote)) < rule.predict(design)
        for candidate, placement in enumerate(seen):
            own = drawn == candidate
            found[number, candidate] = _slope(ideal[own], placement[own]) - _slope(
                ideal[~own], placement[~own]
            )
    middle = found.mean(0)
    low, high = np.quantile(found, [0.025, 0.975], axis=0)
    return SelectionEffect(
        *(SurveyEstimate(float(middle[c]), float(low[c]), float(high[c])) for c in (0, 1))
    )


def _slope(x: PersonArray, y: PersonArray) -> float:
    return float(np.polyfit(x, y, 1)[0])

"""Estimates for the voters of 1996: accuracies and log-losses of vote models, projection.

`python -m benchmarks.voters_1996` prints them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mores.agents.people.anes96 import load_anes96
from mores.agents.user_models.ideal_point import (
    PersonArray,
    SurveyEstimate,
    UtilityLoss,
    bootstrap_interval,
    fit_vote_probabilities,
    log_losses,
    nearest_candidate,
    utility_difference,
    vote_accuracy,
)
from mores.agents.user_models.projection import (
    ProjectionEstimate,
    estimate_projection,
    selection_effect,
)


def nearest_candidate_accuracy() -> dict[str, SurveyEstimate]:
    """Share of votes for the nearest candidate, by placements and treatment of ties."""
    data = load_anes96()
    own = nearest_candidate(data.left_right, data.clinton, data.dole)

    def common(
        ideal: PersonArray, clinton: PersonArray, dole: PersonArray, vote: PersonArray
    ) -> float:
        return float(
            vote_accuracy(nearest_candidate(ideal, clinton.mean(), dole.mean()), vote).mean()
        )

    def own_minus_common(own_accuracy: PersonArray, *answers: PersonArray) -> float:
        return float(own_accuracy.mean()) - common(*answers)

    answers = data.left_right, data.clinton, data.dole, data.vote
    own_accuracy = vote_accuracy(own, data.vote)
    return {
        "own placements, ties half": bootstrap_interval(np.mean, own_accuracy),
        "own placements, ties to Clinton": bootstrap_interval(
            np.mean, vote_accuracy(np.floor(own), data.vote)
        ),
        "common placements": bootstrap_interval(common, *answers),
        "own (ties half) minus common": bootstrap_interval(
            own_minus_common, own_accuracy, *answers
        ),
    }


class VoteModelScore(NamedTuple):
    """Accuracy and log-loss of a regression of the vote; held-out gain relative to party alone."""

    accuracy: float
    accuracy_held_out: float
    log_loss: float
    log_loss_held_out: float
    log_loss_gain: SurveyEstimate


def score_vote_models() -> dict[str, VoteModelScore]:
    """Scores of regressions of the vote on party, own position and differences of utilities.

    The interval of the gain resamples respondents without refitting the regressions.
    """
    data = load_anes96()
    own: dict[UtilityLoss, PersonArray] = {
        loss: utility_difference(data.left_right, data.clinton, data.dole, loss)
        for loss in ("absolute", "squared")
    }
    common = utility_difference(data.left_right, data.clinton.mean(), data.dole.mean(), "absolute")
    models = {
        "own position": [data.left_right],
        "common, absolute": [common],
        "own, squared": [own["squared"]],
        "own, absolute": [own["absolute"]],
        "party": [data.party],
        "party + own position": [data.party, data.left_right],
        "party + common, absolute": [data.party, common],
        "party + own, squared": [data.party, own["squared"]],
        "party + own, absolute": [data.party, own["absolute"]],
    }
    party = log_losses(fit_vote_probabilities([data.party], data.vote).held_out, data.vote)
    scores = {}
    for name, features in models.items():
        probabilities = fit_vote_probabilities(features, data.vote)
        in_sample, held_out = (log_losses(p, data.vote) for p in probabilities)
        correct, correct_held_out = ((p > 0.5) == data.vote for p in probabilities)
        means = (float(x.mean()) for x in (correct, correct_held_out, in_sample, held_out))
        gain = bootstrap_interval(lambda a, b: float((a - b).mean()), party, held_out)
        scores[name] = VoteModelScore._make([*means, gain])
    return scores


def projection_estimates() -> dict[str, ProjectionEstimate | SurveyEstimate]:
    """Projection onto both candidates by party and by vote, and the selection effects.

    Independents, who identify with neither candidate's party, are excluded from the first.
    """
    data = load_anes96()
    partisan = data.party != 3
    ideal, republican = data.left_right[partisan], (data.party[partisan] > 3).astype(float)
    distance = selection_effect(data.left_right, data.clinton, data.dole, data.vote)
    with_party = selection_effect(data.left_right, data.clinton, data.dole, data.vote, [data.party])
    return {
        "Clinton, by party": estimate_projection(ideal, data.clinton[partisan], 1 - republican),
        "Dole, by party": estimate_projection(ideal, data.dole[partisan], republican),
        "Clinton, by vote": estimate_projection(data.left_right, data.clinton, 1 - data.vote),
        "Dole, by vote": estimate_projection(data.left_right, data.dole, data.vote),
        "Clinton, selection": distance.first,
        "Dole, selection": distance.second,
        "Clinton, selection with party": with_party.first,
        "Dole, selection with party": with_party.second,
    }


def main() -> None:
    """Print all estimates."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    def new_table(title: str, *columns: str) -> Table:
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
        table.add_column(columns[0], no_wrap=True)
        for column in columns[1:]:
            table.add_column(column, justify="right", no_wrap=True)
        return table

    def number(x: float) -> str:
        return f"{x:.3f}".replace("0.", ".", 1)  # all are below 1; tables fit into 80 columns

    def with_interval(estimate: SurveyEstimate) -> str:
        return f"{number(estimate.value)} [{number(estimate.low)}, {number(estimate.high)}]"

    nearest = new_table("Votes for the nearest candidate", "positions", "share [95 %]")
    for name, share in nearest_candidate_accuracy().items():
        nearest.add_row(name, with_interval(share))
    columns = ("features", "accuracy", "log-loss", "gain on party [95 %]")
    models = new_table("Logit of the vote: in sample, held out", *columns)
    for name, score in score_vote_models().items():
        accuracy = f"{number(score.accuracy)}, {number(score.accuracy_held_out)}"
        loss = f"{number(score.log_loss)}, {number(score.log_loss_held_out)}"
        gain = "" if name == "party" else with_interval(score.log_loss_gain)
        models.add_row(name, accuracy, loss, gain)
    slopes = new_table("Projection", "onto", "supporters", "opponents", "difference [95 %]")
    for name, estimate in projection_estimates().items():
        if isinstance(estimate, ProjectionEstimate):
            group_slopes = number(estimate.supporter_slope), number(estimate.opponent_slope)
            slopes.add_row(name, *group_slopes, with_interval(estimate.slope_difference))
        else:
            slopes.add_row(name, "", "", with_interval(estimate))
    console = Console()
    console.print(f"American National Election Study 1996, n = {len(load_anes96().vote)}\n")
    for table in (nearest, models, slopes):
        console.print(table)


if __name__ == "__main__":
    main()

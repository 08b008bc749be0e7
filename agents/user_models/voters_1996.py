"""What the spatial model makes of the voters of 1996: accuracies, log-losses, projection."""

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
    """How often the nearest candidate got the vote, by whose placements and how ties count."""
    data = load_anes96()
    own = nearest_candidate(data.left_right, data.clinton, data.dole)

    def common(
        ideal: PersonArray, clinton: PersonArray, dole: PersonArray, vote: PersonArray
    ) -> float:
        return float(
            vote_accuracy(nearest_candidate(ideal, clinton.mean(), dole.mean()), vote).mean()
        )

    def gained(own_hits: PersonArray, *answers: PersonArray) -> float:
        return float(own_hits.mean()) - common(*answers)

    answers = data.left_right, data.clinton, data.dole, data.vote
    own_hits = vote_accuracy(own, data.vote)
    return {
        "own placements, ties half": bootstrap_interval(np.mean, own_hits),
        "own placements, ties to Clinton": bootstrap_interval(
            np.mean, vote_accuracy(np.floor(own), data.vote)
        ),
        "common placements": bootstrap_interval(common, *answers),
        "own (ties half) minus common": bootstrap_interval(gained, own_hits, *answers),
    }


class VoteModelScore(NamedTuple):
    """Accuracy and log-loss of a regression of the vote; what the held-out loss gains on party."""

    accuracy: float
    accuracy_held_out: float
    log_loss: float
    log_loss_held_out: float
    log_loss_gain: SurveyEstimate


def score_vote_models() -> dict[str, VoteModelScore]:
    """Regressions of the vote on party, own place and ideal-point differences.

    The interval of the gain resamples respondents and leaves the fitted regressions as they are.
    """
    data = load_anes96()
    own: dict[UtilityLoss, PersonArray] = {
        loss: utility_difference(data.left_right, data.clinton, data.dole, loss)
        for loss in ("absolute", "squared")
    }
    seen = data.clinton.mean(), data.dole.mean()
    common = utility_difference(data.left_right, *seen, "absolute")
    models = {
        "own place": [data.left_right],
        "common, absolute": [common],
        "own, squared": [own["squared"]],
        "own, absolute": [own["absolute"]],
        "party": [data.party],
        "party + own place": [data.party, data.left_right],
        "party + common, absolute": [data.party, common],
        "party + own, squared": [data.party, own["squared"]],
        "party + own, absolute": [data.party, own["absolute"]],
    }
    party = log_losses(fit_vote_probabilities([data.party], data.vote).held_out, data.vote)
    found = {}
    for name, features in models.items():
        fitted = fit_vote_probabilities(features, data.vote)
        inside, outside = (log_losses(probability, data.vote) for probability in fitted)
        right, right_held_out = (float(((p > 0.5) == data.vote).mean()) for p in fitted)
        found[name] = VoteModelScore(
            right,
            right_held_out,
            float(inside.mean()),
            float(outside.mean()),
            bootstrap_interval(lambda one, other: float((one - other).mean()), party, outside),
        )
    return found


def projection_estimates() -> dict[str, ProjectionEstimate | SurveyEstimate]:
    """Projection onto both candidates, by party and by vote, and what selection would make of it.

    Independents, who identify with neither candidate's party, are left out of the former.
    """
    data = load_anes96()
    partisan = data.party != 3
    place, republican = data.left_right[partisan], (data.party[partisan] > 3).astype(float)
    alone = selection_effect(data.left_right, data.clinton, data.dole, data.vote)
    beside = selection_effect(data.left_right, data.clinton, data.dole, data.vote, [data.party])
    return {
        "Clinton, by party": estimate_projection(place, data.clinton[partisan], 1 - republican),
        "Dole, by party": estimate_projection(place, data.dole[partisan], republican),
        "Clinton, by vote": estimate_projection(data.left_right, data.clinton, 1 - data.vote),
        "Dole, by vote": estimate_projection(data.left_right, data.dole, data.vote),
        "Clinton, selection": alone.first,
        "Dole, selection": alone.second,
        "Clinton, selection with party": beside.first,
        "Dole, selection with party": beside.second,
    }


def main() -> None:
    """Print the figures."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    def table(title: str, *columns: str) -> Table:
        made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
        made.add_column(columns[0], no_wrap=True)
        for column in columns[1:]:
            made.add_column(column, justify="right", no_wrap=True)
        return made

    def short(figure: float) -> str:
        return f"{figure:.3f}".replace("0.", ".", 1)  # all are below 1, and 80 columns are few

    def shown(found: SurveyEstimate) -> str:
        return f"{short(found.value)} [{short(found.low)}, {short(found.high)}]"

    nearest = table("Votes for the nearest candidate", "positions", "share [95 %]")
    for name, share in nearest_candidate_accuracy().items():
        nearest.add_row(name, shown(share))
    votes = table(
        "Logit of the vote: in sample, held out",
        "features",
        "accuracy",
        "log-loss",
        "gain on party [95 %]",
    )
    for name, model in score_vote_models().items():
        right = f"{short(model.accuracy)}, {short(model.accuracy_held_out)}"
        loss = f"{short(model.log_loss)}, {short(model.log_loss_held_out)}"
        votes.add_row(name, right, loss, "" if name == "party" else shown(model.log_loss_gain))
    slopes = table("Projection", "onto", "for", "against", "difference [95 %]")
    for name, found in projection_estimates().items():
        if isinstance(found, ProjectionEstimate):
            ends = short(found.supporter_slope), short(found.opponent_slope)
            slopes.add_row(name, *ends, shown(found.slope_difference))
        else:
            slopes.add_row(name, "", "", shown(found))
    console = Console()
    console.print(f"American National Election Study 1996, n = {len(load_anes96().vote)}\n")
    for made in (nearest, votes, slopes):
        console.print(made)

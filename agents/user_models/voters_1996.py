"""What the spatial model makes of the voters of 1996: accuracies, log-losses, projection."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mores.agents.people.anes96 import respondents
from mores.agents.user_models.ideal_point import (
    Estimate,
    Loss,
    Numbers,
    fit_vote,
    hits,
    ideal_point_difference,
    interval,
    log_losses,
    nearest_candidate,
)
from mores.agents.user_models.projection import Projection, projection, selection


def nearest_in_1996() -> dict[str, Estimate]:
    """How often the nearest candidate got the vote, by whose placements and how ties count."""
    data = respondents()
    own = nearest_candidate(data.left_right, data.clinton, data.dole)

    def common(ideal: Numbers, clinton: Numbers, dole: Numbers, vote: Numbers) -> float:
        return float(hits(nearest_candidate(ideal, clinton.mean(), dole.mean()), vote).mean())

    def gained(own_hits: Numbers, *answers: Numbers) -> float:
        return float(own_hits.mean()) - common(*answers)

    answers = data.left_right, data.clinton, data.dole, data.vote
    own_hits = hits(own, data.vote)
    return {
        "own placements, ties half": interval(np.mean, own_hits),
        "own placements, ties to Clinton": interval(np.mean, hits(np.floor(own), data.vote)),
        "common placements": interval(common, *answers),
        "own (ties half) minus common": interval(gained, own_hits, *answers),
    }


class VoteModel(NamedTuple):
    """Accuracy and log-loss of a regression of the vote; what the held-out loss gains on party."""

    accuracy: float
    accuracy_held_out: float
    loss: float
    loss_held_out: float
    gain: Estimate


def votes_in_1996() -> dict[str, VoteModel]:
    """Regressions of the vote on party, own place and ideal-point differences.

    The interval of the gain resamples respondents and leaves the fitted regressions as they are.
    """
    data = respondents()
    own: dict[Loss, Numbers] = {
        loss: ideal_point_difference(data.left_right, data.clinton, data.dole, loss)
        for loss in ("absolute", "squared")
    }
    seen = data.clinton.mean(), data.dole.mean()
    common = ideal_point_difference(data.left_right, *seen, "absolute")
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
    party = log_losses(fit_vote([data.party], data.vote).held_out, data.vote)
    found = {}
    for name, features in models.items():
        fitted = fit_vote(features, data.vote)
        inside, outside = (log_losses(probability, data.vote) for probability in fitted)
        right, right_held_out = (float(((p > 0.5) == data.vote).mean()) for p in fitted)
        found[name] = VoteModel(
            right,
            right_held_out,
            float(inside.mean()),
            float(outside.mean()),
            interval(lambda one, other: float((one - other).mean()), party, outside),
        )
    return found


def projection_in_1996() -> dict[str, Projection | Estimate]:
    """Projection onto both candidates, by party and by vote, and what selection would make of it.

    Independents, who identify with neither candidate's party, are left out of the former.
    """
    data = respondents()
    partisan = data.party != 3
    place, republican = data.left_right[partisan], (data.party[partisan] > 3).astype(float)
    alone = selection(data.left_right, data.clinton, data.dole, data.vote)
    beside = selection(data.left_right, data.clinton, data.dole, data.vote, [data.party])
    return {
        "Clinton, by party": projection(place, data.clinton[partisan], 1 - republican),
        "Dole, by party": projection(place, data.dole[partisan], republican),
        "Clinton, by vote": projection(data.left_right, data.clinton, 1 - data.vote),
        "Dole, by vote": projection(data.left_right, data.dole, data.vote),
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

    def shown(found: Estimate) -> str:
        return f"{short(found.value)} [{short(found.low)}, {short(found.high)}]"

    nearest = table("Votes for the nearest candidate", "positions", "share [95 %]")
    for name, share in nearest_in_1996().items():
        nearest.add_row(name, shown(share))
    votes = table(
        "Logit of the vote: in sample, held out",
        "features",
        "accuracy",
        "log-loss",
        "gain on party [95 %]",
    )
    for name, model in votes_in_1996().items():
        right = f"{short(model.accuracy)}, {short(model.accuracy_held_out)}"
        loss = f"{short(model.loss)}, {short(model.loss_held_out)}"
        votes.add_row(name, right, loss, "" if name == "party" else shown(model.gain))
    slopes = table("Projection", "onto", "for", "against", "difference [95 %]")
    for name, found in projection_in_1996().items():
        if isinstance(found, Projection):
            ends = short(found.supporters), short(found.opponents)
            slopes.add_row(name, *ends, shown(found.difference))
        else:
            slopes.add_row(name, "", "", shown(found))
    console = Console()
    console.print(f"American National Election Study 1996, n = {len(respondents().vote)}\n")
    for made in (nearest, votes, slopes):
        console.print(made)

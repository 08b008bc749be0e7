"""One sample is better than another: losses on the margin between two scores.

With scores s of samples (`samples.sample_scores`), scale β, margin γ and a pair's own margin m

    z = β (s_winner - s_loser - m) - γ

    logistic  -log σ(z)            DPO (2305.18290), CPO (2401.08417), Bradley-Terry rewards;
                                   SimPO (2405.14734) with mean log-likelihoods and γ
    hinge     max(0, 1 - z)        SLiC-HF (2305.10425), divided by its margin
    square    ((z - 1/2) / β)^2    IPO (2310.12036): without margins (s_w - s_l - 1 / (2 β))^2

IPO's paper sums log-ratios over steps; its authors' experiments, and TRL 1.16, divide each by its
length: `score="mean_log_ratio"`. Each of these has a *reversed* loss, that of the same pair had the
loser won: winner and loser change places, margins stay.

    smoothing ε   (1 - ε) L(w > l) + ε L(l > w)        conservative DPO (Mitchell 2023)
    robust        p = σ(L(l > w) - L(w > l)),  w = p η / (p η + (1 - p)(1 - η)),
                  -[w log p + (1 - w) log(1 - p)]      RE-PO (2509.24159), w held fixed

where η is the reliability of whoever judged. For `logistic` without γ, p = σ(z) is Bradley and
Terry's; for the other links p is what makes them a probability (Gibbs), not their own objective.

Unpaired feedback has the link `kto` (2402.01306): with the baseline z0 of the batch

    λ_D σ(-β (s - z0)) on desirable samples, λ_U σ(-β (z0 - s)) on the others.

Differs from TRL: its smoothing of SimPO reverses the sign of γ too; here a reversed winner must
win by γ as well.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from mores.agents.learning.batch import FeedbackBatch, Output
from mores.agents.learning.losses.reductions import (
    Setting,
    along,
    average,
    one_of,
    positive,
    within,
)
from mores.agents.learning.losses.sample_selection import contestants, pick_samples, sample_scores
from mores.core.errors import UserError

LINKS = ("logistic", "hinge", "square")
WHY = "the pair term"


class DirectedLosses(NamedTuple):
    """What a pair costs, by who is said to have won; 0 for pairs that are not there.

    Attributes:
        forward: L(winner > loser).
        backward: L(loser > winner).
    """

    forward: Float[Tensor, "policy pair"]
    backward: Float[Tensor, "policy pair"]


def pair(
    out: Output,
    batch: FeedbackBatch,
    *,
    link: str = "logistic",
    score: str = "log_ratio",
    scale: Setting | Float[Tensor, "policy pair"] = 0.1,
    margin: Setting = 0.0,
    smoothing: float = 0.0,
    robust: bool = False,
    output: int = 0,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Float[Tensor, " policy"]:
    """Preference loss, the mean over a policy's pairs (`kto`: over its samples).

    Args:
        out: what the policies say.
        batch: with `preferred` or `pairs` (`kto`: `desirable` and `kl_baseline`), and what the
            score needs. `pair_weight` and `pair_margin` count where they are given; a weight that
            is twice as large gives twice the loss.
        link: `logistic`, `hinge`, `square` or `kto`.
        score: how samples are scored, see `samples.sample_scores`.
        scale: β, 1 / unit of the score.
        margin: γ, by how much the scaled winner should win, no unit.
        smoothing: ε, share of labels taken to be wrong, in [0, 1/2].
        robust: whether `reliability` decides how far each label is believed.
        output: which number of a reward head, for `score="score"`.
        desirable_weight: λ_D.
        undesirable_weight: λ_U.

    Raises:
        UserError: a setting is unknown or out of range, or something is missing.
    """
    one_of("link of the pair term", link, (*LINKS, "kto"), path="link")
    if link == "kto":
        if robust or smoothing:
            raise UserError(
                "the pair term's link 'kto' knows neither smoothing nor reliability",
                code="conflict",
                path="robust" if robust else "smoothing",
            )
        weights = desirable_weight, undesirable_weight
        return _unpaired(out, batch, score, scale, output, weights)
    within("the pair term's smoothing", smoothing, 0.0, 0.5, path="smoothing")
    if robust and smoothing:
        raise UserError(
            "the pair term is either robust or smoothed, not both",
            code="conflict",
            path="smoothing",
        )
    real = contestants(batch, WHY).real
    losses = directed_losses(
        out, batch, link=link, score=score, scale=scale, margin=margin, output=output
    )
    if robust:
        reliability = torch.where(real, batch.need("reliability", "the robust pair term"), 0.5)
        loss = believed(losses, reliability)
    elif smoothing:
        loss = (1.0 - smoothing) * losses.forward + smoothing * losses.backward
    else:
        loss = losses.forward
    if batch.pair_weight is not None:
        loss = loss * torch.where(real, batch.pair_weight, 0.0)
    return average(loss, real)


def directed_losses(
    out: Output,
    batch: FeedbackBatch,
    *,
    link: str = "logistic",
    score: str = "log_ratio",
    scale: Setting | Float[Tensor, "policy pair"] = 0.1,
    margin: Setting = 0.0,
    output: int = 0,
) -> DirectedLosses:
    """What every pair costs as it was judged, and had it been judged the other way round.

    Settings as in `pair`; weights, smoothing and reliability play no part.

    Raises:
        UserError: a setting is unknown or out of range, or something is missing.
    """
    one_of("link with two directions", link, LINKS, path="link")
    positive("the pair term's scale", scale, path="scale")
    contest = contestants(batch, WHY)
    scores = sample_scores(out, batch, score, output, WHY)
    ahead = pick_samples(scores, contest.winner) - pick_samples(scores, contest.loser)
    ahead = torch.where(contest.real, ahead, 0.0)
    asked = along(margin, ahead)
    beta = along(scale, ahead)
    if batch.pair_margin is not None:
        asked = asked + beta * torch.where(contest.real, batch.pair_margin, 0.0)
    return DirectedLosses(
        *(
            torch.where(contest.real, _cost(link, beta * lead - asked, beta), 0.0)
            for lead in (ahead, -ahead)
        )
    )


def believed(
    losses: DirectedLosses, reliability: Float[Tensor, "policy pair"]
) -> Float[Tensor, "policy pair"]:
    """RE-PO's loss of each pair, whose label is right with probability `reliability`, in (0, 1).

    w = σ(L(l > w) - L(w > l) + logit η) is the E-step; no gradient goes through it.
    """
    logit = losses.backward - losses.forward
    right = torch.sigmoid(logit + torch.logit(reliability)).detach()
    return -right * logsigmoid(logit) - (1.0 - right) * logsigmoid(-logit)


def _cost(
    link: str, lead: Float[Tensor, "policy pair"], scale: float | Tensor
) -> Float[Tensor, "policy pair"]:
    if link == "logistic":
        return -logsigmoid(lead)
    if link == "hinge":
        return (1.0 - lead).clamp(min=0.0)
    return ((lead - 0.5) / scale).square()


def _unpaired(
    out: Output,
    batch: FeedbackBatch,
    score: str,
    scale: float | Tensor,
    output: int,
    weights: tuple[float, float],
) -> Float[Tensor, " policy"]:
    positive("the pair term's scale", scale, path="scale")
    desirable = batch.need("desirable", "the pair term's link 'kto'")
    baseline = batch.need("kl_baseline", "the pair term's link 'kto'")
    scores = sample_scores(out, batch, score, output, WHY)
    lead = along(scale, scores) * (scores - along(baseline, scores))
    loss = torch.where(
        desirable, weights[0] * torch.sigmoid(-lead), weights[1] * torch.sigmoid(lead)
    )
    return average(loss, batch.mask.any(-1))

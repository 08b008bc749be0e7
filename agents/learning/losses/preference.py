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

from mores.agents.learning.batch import FeedbackBatch, ModelOutput
from mores.agents.learning.losses.reductions import (
    PerModelSetting,
    broadcast_setting,
    check_choice,
    check_positive,
    check_range,
    masked_mean,
)
from mores.agents.learning.losses.sample_selection import (
    gather_samples,
    pair_indices,
    sample_scores,
)
from mores.core.errors import UserError

LOSS_TYPES = ("sigmoid", "hinge", "ipo")
CALLER = "the pair term"


class LabelLosses(NamedTuple):
    """What a pair costs, by who is said to have won; 0 for pairs that are not there.

    Attributes:
        given: L(winner > loser).
        flipped: L(loser > winner).
    """

    given: Float[Tensor, "policy pair"]
    flipped: Float[Tensor, "policy pair"]


def preference_loss(
    out: ModelOutput,
    batch: FeedbackBatch,
    *,
    loss_type: str = "sigmoid",
    score_type: str = "log_ratio",
    beta: PerModelSetting | Float[Tensor, "policy pair"] = 0.1,
    margin: PerModelSetting = 0.0,
    label_smoothing: float = 0.0,
    use_reliability: bool = False,
    score_index: int = 0,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Float[Tensor, " policy"]:
    """Preference loss, the mean over a policy's pairs (`kto`: over its samples).

    Args:
        out: what the policies say.
        batch: with `preferred` or `pairs` (`kto`: `desirable` and `kl_baseline`), and what the
            score needs. `pair_weight` and `pair_margin` count where they are given; a weight that
            is twice as large gives twice the loss.
        loss_type: `logistic`, `hinge`, `square` or `kto`.
        score_type: how samples are scored, see `samples.sample_scores`.
        beta: β, 1 / unit of the score.
        margin: γ, by how much the scaled winner should win, no unit.
        label_smoothing: ε, share of labels taken to be wrong, in [0, 1/2].
        use_reliability: whether `reliability` decides how far each label is believed.
        score_index: which number of a reward head, for `score="score"`.
        desirable_weight: λ_D.
        undesirable_weight: λ_U.

    Raises:
        UserError: a setting is unknown or out of range, or something is missing.
    """
    check_choice("link of the pair term", loss_type, (*LOSS_TYPES, "kto"), path="link")
    if loss_type == "kto":
        if use_reliability or label_smoothing:
            raise UserError(
                "the pair term's link 'kto' knows neither smoothing nor reliability",
                code="conflict",
                path="robust" if use_reliability else "smoothing",
            )
        weights = desirable_weight, undesirable_weight
        return _kto_loss(out, batch, score_type, beta, score_index, weights)
    check_range("the pair term's smoothing", label_smoothing, 0.0, 0.5, path="smoothing")
    if use_reliability and label_smoothing:
        raise UserError(
            "the pair term is either robust or smoothed, not both",
            code="conflict",
            path="smoothing",
        )
    real = pair_indices(batch, CALLER).valid
    losses = label_losses(
        out,
        batch,
        loss_type=loss_type,
        score_type=score_type,
        beta=beta,
        margin=margin,
        score_index=score_index,
    )
    if use_reliability:
        reliability = torch.where(real, batch.require("reliability", "the robust pair term"), 0.5)
        loss = reliability_weighted_loss(losses, reliability)
    elif label_smoothing:
        loss = (1.0 - label_smoothing) * losses.given + label_smoothing * losses.flipped
    else:
        loss = losses.given
    if batch.pair_weight is not None:
        loss = loss * torch.where(real, batch.pair_weight, 0.0)
    return masked_mean(loss, real)


def label_losses(
    out: ModelOutput,
    batch: FeedbackBatch,
    *,
    loss_type: str = "sigmoid",
    score_type: str = "log_ratio",
    beta: PerModelSetting | Float[Tensor, "policy pair"] = 0.1,
    margin: PerModelSetting = 0.0,
    score_index: int = 0,
) -> LabelLosses:
    """What every pair costs as it was judged, and had it been judged the other way round.

    Settings as in `preference_loss`; weights, smoothing and reliability play no part.

    Raises:
        UserError: a setting is unknown or out of range, or something is missing.
    """
    check_choice("link with two directions", loss_type, LOSS_TYPES, path="link")
    check_positive("the pair term's scale", beta, path="beta")
    contest = pair_indices(batch, CALLER)
    scores = sample_scores(out, batch, score_type, score_index, CALLER)
    ahead = gather_samples(scores, contest.chosen) - gather_samples(scores, contest.rejected)
    ahead = torch.where(contest.valid, ahead, 0.0)
    asked = broadcast_setting(margin, ahead)
    pair_beta = broadcast_setting(beta, ahead)
    if batch.pair_margin is not None:
        asked = asked + pair_beta * torch.where(contest.valid, batch.pair_margin, 0.0)
    return LabelLosses(
        *(
            torch.where(contest.valid, _pair_loss(loss_type, pair_beta * lead - asked, pair_beta), 0.0)
            for lead in (ahead, -ahead)
        )
    )


def reliability_weighted_loss(
    losses: LabelLosses, reliability: Float[Tensor, "policy pair"]
) -> Float[Tensor, "policy pair"]:
    """RE-PO's loss of each pair, whose label is right with probability `reliability`, in (0, 1).

    w = σ(L(l > w) - L(w > l) + logit η) is the E-step; no gradient goes through it.
    """
    logit = losses.flipped - losses.given
    right = torch.sigmoid(logit + torch.logit(reliability)).detach()
    return -right * logsigmoid(logit) - (1.0 - right) * logsigmoid(-logit)


def _pair_loss(
    loss_type: str, scaled_difference: Float[Tensor, "policy pair"], beta: float | Tensor
) -> Float[Tensor, "policy pair"]:
    if loss_type == "sigmoid":
        return -logsigmoid(scaled_difference)
    if loss_type == "hinge":
        return (1.0 - scaled_difference).clamp(min=0.0)
    return ((scaled_difference - 0.5) / beta).square()


def _kto_loss(
    out: ModelOutput,
    batch: FeedbackBatch,
    score_type: str,
    beta: float | Tensor,
    score_index: int,
    weights: tuple[float, float],
) -> Float[Tensor, " policy"]:
    check_positive("the pair term's scale", beta, path="beta")
    desirable = batch.require("desirable", "the pair term's link 'kto'")
    baseline = batch.require("kl_baseline", "the pair term's link 'kto'")
    scores = sample_scores(out, batch, score_type, score_index, CALLER)
    lead = broadcast_setting(beta, scores) * (scores - broadcast_setting(baseline, scores))
    loss = torch.where(
        desirable, weights[0] * torch.sigmoid(-lead), weights[1] * torch.sigmoid(lead)
    )
    return masked_mean(loss, batch.mask.any(-1))

"""Preference losses: one sample is preferred to another; the loss depends on the margin of scores.

With scores s of samples (`sample_scores`), scale β, margin γ and the margin m of a pair

    z = β (s_chosen - s_rejected - m) - γ

    sigmoid   -log σ(z)            DPO (2305.18290), CPO (2401.08417), Bradley-Terry rewards;
                                   SimPO (2405.14734) with mean log-likelihoods and γ
    hinge     max(0, 1 - z)        SLiC-HF (2305.10425), divided by its margin
    ipo       ((z - 1/2) / β)^2    IPO (2310.12036): without margins (s_w - s_l - 1 / (2 β))^2

IPO's paper sums log-ratios over steps; its authors' experiments, and TRL 1.16, divide each by its
length: `score_type="mean_log_ratio"`. Each of these has a *flipped* loss, that of the same pair
with the opposite label: chosen and rejected change places, margins stay.

    label_smoothing ε   (1 - ε) L(w > l) + ε L(l > w)  conservative DPO (Mitchell 2023)
    use_reliability     p = σ(L(l > w) - L(w > l)),  w = p η / (p η + (1 - p)(1 - η)),
                        -[w log p + (1 - w) log(1 - p)]      RE-PO (2509.24159), w held fixed

where η is the reliability of the annotator. For `sigmoid` without γ, p = σ(z) is Bradley and
Terry's; for the other types p is their Gibbs probability, not their own objective.

Unpaired feedback has the type `kto` (2402.01306): with the baseline z0 of the batch

    λ_D σ(-β (s - z0)) on desirable samples, λ_U σ(-β (z0 - s)) on the others.

Differs from TRL: its smoothing of SimPO reverses the sign of γ too; here the flipped label must
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
CALLER = "preference_loss"


class LabelLosses(NamedTuple):
    """Loss of each pair under either label; 0 for invalid pairs.

    Attributes:
        given: L(chosen > rejected).
        flipped: L(rejected > chosen).
    """

    given: Float[Tensor, "model pair"]
    flipped: Float[Tensor, "model pair"]


def preference_loss(
    out: ModelOutput,
    batch: FeedbackBatch,
    *,
    loss_type: str = "sigmoid",
    score_type: str = "log_ratio",
    beta: PerModelSetting | Float[Tensor, "model pair"] = 0.1,
    margin: PerModelSetting = 0.0,
    label_smoothing: float = 0.0,
    use_reliability: bool = False,
    score_index: int = 0,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Float[Tensor, " model"]:
    """Preference loss, the mean over the pairs of each model (`kto`: over its samples).

    Args:
        out: output of the models.
        batch: with `preferred` or `pairs` (`kto`: `desirable` and `kl_baseline`), and the fields
            that the score needs. `pair_weight` and `pair_margin` are used if present; a weight
            twice as large gives twice the loss.
        loss_type: `sigmoid`, `hinge`, `ipo` or `kto`.
        score_type: score of a sample, see `sample_scores`.
        beta: β, 1 / unit of the score.
        margin: γ, required lead of the scaled score of the chosen sample, no unit.
        label_smoothing: ε, assumed share of wrong labels, in [0, 1/2].
        use_reliability: whether `reliability` determines the weight of each label.
        score_index: index of the reward-head output, for `score_type="reward_head"`.
        desirable_weight: λ_D.
        undesirable_weight: λ_U.

    Raises:
        UserError: a setting is unknown or out of range, or a required field is missing.
    """
    check_choice(f"loss_type of {CALLER}", loss_type, (*LOSS_TYPES, "kto"), path="loss_type")
    if loss_type == "kto":
        if use_reliability or label_smoothing:
            raise UserError(
                f"{CALLER} with loss_type 'kto' allows no label_smoothing or use_reliability",
                code="conflict",
                path="use_reliability" if use_reliability else "label_smoothing",
            )
        weights = desirable_weight, undesirable_weight
        return _kto_loss(out, batch, score_type, beta, score_index, weights)
    check_range("label_smoothing", label_smoothing, 0.0, 0.5, path="label_smoothing")
    if use_reliability and label_smoothing:
        raise UserError(
            f"{CALLER} allows use_reliability or label_smoothing, not both",
            code="conflict",
            path="label_smoothing",
        )
    valid = pair_indices(batch, CALLER).valid
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
        reliability = batch.require("reliability", f"{CALLER} with use_reliability")
        loss = reliability_weighted_loss(losses, torch.where(valid, reliability, 0.5))
    elif label_smoothing:
        loss = (1.0 - label_smoothing) * losses.given + label_smoothing * losses.flipped
    else:
        loss = losses.given
    if batch.pair_weight is not None:
        loss = loss * torch.where(valid, batch.pair_weight, 0.0)
    return masked_mean(loss, valid)


def label_losses(
    out: ModelOutput,
    batch: FeedbackBatch,
    *,
    loss_type: str = "sigmoid",
    score_type: str = "log_ratio",
    beta: PerModelSetting | Float[Tensor, "model pair"] = 0.1,
    margin: PerModelSetting = 0.0,
    score_index: int = 0,
) -> LabelLosses:
    """Loss of every pair with its given label and with the opposite label.

    Settings as in `preference_loss`; weights, label smoothing and reliability are not used.

    Raises:
        UserError: a setting is unknown or out of range, or a required field is missing.
    """
    check_choice("loss_type with two labels", loss_type, LOSS_TYPES, path="loss_type")
    check_positive(f"beta of {CALLER}", beta, path="beta")
    pairs = pair_indices(batch, CALLER)
    scores = sample_scores(out, batch, score_type, score_index, CALLER)
    lead = gather_samples(scores, pairs.chosen) - gather_samples(scores, pairs.rejected)
    lead = torch.where(pairs.valid, lead, 0.0)
    required = broadcast_setting(margin, lead)
    pair_beta = broadcast_setting(beta, lead)
    if batch.pair_margin is not None:
        required = required + pair_beta * torch.where(pairs.valid, batch.pair_margin, 0.0)
    both = (_pair_loss(loss_type, pair_beta * x - required, pair_beta) for x in (lead, -lead))
    return LabelLosses(*(torch.where(pairs.valid, loss, 0.0) for loss in both))


def reliability_weighted_loss(
    losses: LabelLosses, reliability: Float[Tensor, "model pair"]
) -> Float[Tensor, "model pair"]:
    """RE-PO's loss of each pair, whose label is correct with probability `reliability`, in (0, 1).

    w = σ(L(l > w) - L(w > l) + logit η) is the E-step; no gradient flows through it.
    """
    logit = losses.flipped - losses.given
    correct = torch.sigmoid(logit + torch.logit(reliability)).detach()
    return -correct * logsigmoid(logit) - (1.0 - correct) * logsigmoid(-logit)


def _pair_loss(
    loss_type: str, scaled_difference: Float[Tensor, "model pair"], beta: float | Tensor
) -> Float[Tensor, "model pair"]:
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
) -> Float[Tensor, " model"]:
    check_positive(f"beta of {CALLER}", beta, path="beta")
    desirable = batch.require("desirable", f"{CALLER} with loss_type 'kto'")
    baseline = batch.require("kl_baseline", f"{CALLER} with loss_type 'kto'")
    scores = sample_scores(out, batch, score_type, score_index, CALLER)
    lead = broadcast_setting(beta, scores) * (scores - broadcast_setting(baseline, scores))
    loss = torch.where(
        desirable, weights[0] * torch.sigmoid(-lead), weights[1] * torch.sigmoid(lead)
    )
    return masked_mean(loss, batch.mask.any(-1))

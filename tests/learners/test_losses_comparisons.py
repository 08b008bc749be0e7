"""Losses that compare samples, against closed forms: preferences, rankings, contrasts."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from mores.agents.learning.batch import FeedbackBatch, ModelOutput
from mores.agents.learning.losses import (
    contrastive_loss,
    label_losses,
    preference_loss,
    ranking_loss,
)
from tests.learners.loss_batches import example

finite = st.floats(-8.0, 8.0)


def scored(scores: list[list[float]], **fields: Any) -> tuple[ModelOutput, FeedbackBatch]:
    """Models with given scores of samples of one step; log-likelihoods equal the scores."""
    score = torch.tensor(scores, dtype=torch.float64)[..., None]
    action = torch.zeros(score.shape, dtype=torch.long)
    return ModelOutput(score, score=score), FeedbackBatch(action, action, action == 0, **fields)


def one_pair(lead: float, **fields: Any) -> tuple[ModelOutput, FeedbackBatch]:
    return scored([[lead, 0.0]], pairs=torch.tensor([[[0, 1]]]), **fields)


def log_sigmoid(x: float) -> float:
    return -float(np.logaddexp(0.0, -x))


def scores_of(out: ModelOutput, batch: FeedbackBatch, score: str) -> np.ndarray:
    logp = out.logp.detach().numpy()
    if "ratio" in score:
        assert batch.reference_logp is not None
        logp = logp - batch.reference_logp.numpy()
    total = np.nansum(logp, -1)  # padding is NaN
    return total / batch.mask.sum(-1).numpy() if score.startswith("mean") else total


# Pairs


@pytest.mark.parametrize("score", ["log_ratio", "mean_log_ratio", "sum_logp", "mean_logp"])
@pytest.mark.parametrize("loss_type", ["sigmoid", "hinge", "ipo"])
@pytest.mark.parametrize("mode", ["plain", "smoothed", "reliability"])
def test_preference_loss(loss_type: str, score: str, mode: str) -> None:
    out, batch = example(seed=31)
    assert batch.pairs is not None and batch.preferred is not None
    assert batch.pair_weight is not None and batch.pair_margin is not None
    assert batch.reliability is not None
    scores, beta, gamma, epsilon = scores_of(out, batch, score), 0.7, 0.2, 0.15

    def pair_loss(lead: float, margin: float) -> float:
        z = beta * (lead - margin) - gamma
        if loss_type == "sigmoid":
            return -log_sigmoid(z)
        if loss_type == "hinge":
            return max(0.0, 1.0 - z)
        return (lead - margin - gamma / beta - 1.0 / (2.0 * beta)) ** 2

    expected = []
    for model in range(3):
        pair_losses = []
        for pair, (first, second) in enumerate(batch.pairs[model].tolist()):
            if first < 0:
                continue
            lead = scores[model, first] - scores[model, second]
            lead = lead if batch.preferred[model, pair] else -lead
            margin = float(batch.pair_margin[model, pair])
            given_loss, flipped_loss = pair_loss(lead, margin), pair_loss(-lead, margin)
            if mode == "plain":
                loss = given_loss
            elif mode == "smoothed":
                loss = (1.0 - epsilon) * given_loss + epsilon * flipped_loss
            else:
                logit, eta = flipped_loss - given_loss, batch.reliability[model, pair]
                p = math.exp(log_sigmoid(logit))
                correct = p * eta / (p * eta + (1.0 - p) * (1.0 - eta))
                loss = -correct * log_sigmoid(logit) - (1.0 - correct) * log_sigmoid(-logit)
            pair_losses.append(float(batch.pair_weight[model, pair]) * float(loss))
        expected.append(np.mean(pair_losses))
    assert len(pair_losses) == 2  # the last model has one pair fewer
    modes: dict[str, dict[str, Any]] = {
        "plain": {},
        "smoothed": {"label_smoothing": epsilon},
        "reliability": {"use_reliability": True},
    }
    loss = preference_loss(
        out, batch, loss_type=loss_type, score_type=score, beta=beta, margin=gamma, **modes[mode]
    )
    torch.testing.assert_close(loss.detach(), torch.tensor(expected))


def test_consecutive_samples_are_pairs() -> None:
    out, batch = example(seed=32)
    unset: dict[str, Any] = {"pair_weight": None, "pair_margin": None, "reliability": None}
    consecutive = torch.arange(6).view(1, 3, 2).expand(3, -1, -1)
    explicit = batch.replace(pairs=consecutive, **unset)
    implicit = batch.replace(pairs=None, **unset)
    assert torch.equal(preference_loss(out, explicit), preference_loss(out, implicit))
    assert batch.preferred is not None
    ordered = torch.where(batch.preferred[..., None], consecutive, consecutive.flip(-1))
    directly = batch.replace(pairs=ordered, preferred=None, **unset)
    assert torch.equal(preference_loss(out, explicit), preference_loss(out, directly))


def test_full_reliability_is_bradley_terry() -> None:
    """With reliability 1, DPO's loss equals that without reliability, which is Bradley-Terry's."""
    out, batch = one_pair(1.7, reliability=torch.ones(1, 1, dtype=torch.float64))
    plain = preference_loss(out, batch, score_type="sum_logp", beta=1.0)
    torch.testing.assert_close(
        preference_loss(out, batch, score_type="sum_logp", beta=1.0, use_reliability=True), plain
    )
    torch.testing.assert_close(plain.item(), math.log1p(math.exp(-1.7)))


@given(finite, st.floats(0.02, 0.98))
def test_gradient_with_reliability(lead: float, reliability: float) -> None:
    """It is p - w: the policy's probability minus that of a correct label."""
    out, batch = one_pair(lead, reliability=torch.tensor([[reliability]], dtype=torch.float64))
    logp = out.logp.clone().requires_grad_()
    loss = preference_loss(
        ModelOutput(logp), batch, score_type="sum_logp", beta=1.0, use_reliability=True
    )
    (grad,) = torch.autograd.grad(loss.sum(), logp)
    p = 1.0 / (1.0 + math.exp(-lead))
    joint = p * reliability
    correct = joint / (joint + (1.0 - p) * (1.0 - reliability))
    torch.testing.assert_close(grad[0, 0, 0].item(), p - correct, atol=1e-9, rtol=1e-9)


@given(finite, st.floats(0.01, 4.0), st.sampled_from(["sigmoid", "hinge", "ipo"]))
def test_loss_decreases_with_the_lead(lead: float, more: float, loss_type: str) -> None:
    kwargs: dict[str, Any] = {"score_type": "reward_head", "beta": 0.25, "margin": 0.1}
    # The target lead of IPO is (1/2 + γ) / β.
    target = 2.4 if loss_type == "ipo" else math.inf
    lead, larger = min(lead, target), min(lead + more, target)
    near, far = (
        preference_loss(*one_pair(x), loss_type=loss_type, **kwargs).item() for x in (lead, larger)
    )
    assert far <= near
    if loss_type == "sigmoid":
        assert far < near
    if lead == target:
        assert near == pytest.approx(0.0, abs=1e-12)


@given(finite, finite, st.sampled_from(["sigmoid", "hinge", "ipo"]))
def test_flipped_loss_is_that_of_the_flipped_pair(
    first: float, second: float, loss_type: str
) -> None:
    kwargs: dict[str, Any] = {"score_type": "reward_head", "beta": 0.5, "margin": 0.3}
    pairs = [scored([[first, second]], pairs=torch.tensor([[o]])) for o in ([0, 1], [1, 0])]
    this, other = (label_losses(*pair, loss_type=loss_type, **kwargs) for pair in pairs)
    assert torch.equal(this.given, other.flipped) and torch.equal(this.flipped, other.given)


def test_kto() -> None:
    out, batch = example(seed=33)
    assert batch.desirable is not None and batch.kl_baseline is not None
    scores = scores_of(out, batch, "log_ratio")
    expected = []
    for model in range(3):
        lead = 0.4 * (scores[model] - float(batch.kl_baseline[model]))
        desirable = batch.desirable[model].numpy()
        losses = np.where(desirable, 1.5 / (1 + np.exp(lead)), 0.5 / (1 + np.exp(-lead)))
        expected.append(losses.mean())
    weights = {"desirable_weight": 1.5, "undesirable_weight": 0.5}
    loss = preference_loss(out, batch, loss_type="kto", beta=0.4, **weights)
    torch.testing.assert_close(loss.detach(), torch.tensor(expected))


# Rankings


def one_list(scores: list[float], rank_score: list[float]) -> tuple[ModelOutput, FeedbackBatch]:
    candidates = torch.arange(len(scores)).view(1, 1, -1)
    q = torch.tensor([[rank_score]], dtype=torch.float64)
    return scored([scores], candidates=candidates, rank_score=q)


def test_hinge_and_spaced_ranking_losses() -> None:
    out, batch = example(seed=34)
    assert batch.candidates is not None and batch.rank_score is not None
    scores = scores_of(out, batch, "mean_logp")
    for loss_type in ("hinge", "spaced"):
        expected = []
        for model in range(3):
            list_losses = []
            for candidates, rank_score in zip(
                batch.candidates[model].tolist(), batch.rank_score[model].tolist(), strict=True
            ):
                both = zip(candidates, rank_score, strict=True)
                listed = [(scores[model, i], q) for i, q in both if i >= 0]
                score_range = max(s for s, _ in listed) - min(s for s, _ in listed)
                rank_of = {q: 1 + sum(other > q for _, other in listed) for _, q in listed}
                losses = []
                for (s, q), (t, r) in itertools.permutations(listed, 2):
                    if q > r and loss_type == "hinge":
                        losses.append(max(0.0, 2.0 * (t - s) + 0.3 * (q - r)))
                    elif q > r:
                        gap = (rank_of[q] - rank_of[r]) / (len(listed) - 1)
                        losses.append(max(0.0, (t - s) / score_range - gap))
                list_losses.append(np.mean(losses))
            expected.append(np.mean(list_losses))
        loss = ranking_loss(out, batch, loss_type=loss_type, beta=2.0, margin=0.3)
        torch.testing.assert_close(loss.detach(), torch.tensor(expected))


def test_ties_and_single_candidates_do_not_count() -> None:
    for loss_type in ("hinge", "plackett_luce", "spaced"):
        tied = one_list([0.3, -0.5, 0.1], [1.0, 1.0, 1.0])
        assert ranking_loss(*tied, loss_type=loss_type, margin=1.0).item() == 0.0
        assert ranking_loss(*one_list([0.3], [1.0]), loss_type=loss_type).item() == 0.0
    out, batch = one_list([0.3, -0.5, 0.1], [2.0, 1.0, 0.0])
    both = batch.replace(
        candidates=torch.tensor([[[0, 1, 2], [2, -1, -1]]]),
        rank_score=torch.tensor([[[2.0, 1.0, 0.0], [1.0, 0.0, 0.0]]], dtype=torch.float64),
    )
    assert torch.equal(ranking_loss(out, batch, margin=1.0), ranking_loss(out, both, margin=1.0))


def test_padding_of_lists_does_not_count() -> None:
    for loss_type in ("hinge", "plackett_luce", "spaced"):
        out, batch = one_list([-2.0, -2.5, -1.0], [2.0, 1.0, 0.0])
        padded = batch.replace(
            candidates=torch.tensor([[[-1, 0, 1, -1, 2]]]),
            rank_score=torch.tensor([[[9.0, 2.0, 1.0, 0.5, 0.0]]], dtype=torch.float64),
        )
        loss = ranking_loss(out, batch, loss_type=loss_type)
        assert loss.item() > 0.0
        torch.testing.assert_close(ranking_loss(out, padded, loss_type=loss_type), loss)


def test_spaced_loss_of_equal_scores() -> None:
    """Equal scores miss every gap of ranks, (1/2 + 1/2 + 1) / 3, and have a finite gradient."""
    out, batch = one_list([0.7, 0.7, 0.7], [2.0, 1.0, 0.0])
    logp = out.logp.clone().requires_grad_()
    loss = ranking_loss(ModelOutput(logp), batch, loss_type="spaced")
    (grad,) = torch.autograd.grad(loss.sum(), logp)
    assert loss.item() == pytest.approx(2.0 / 3.0)
    torch.testing.assert_close(grad.flatten(), torch.tensor([-2.0, 0.0, 2.0]).double() / 3.0)


def test_plackett_luce_probabilities_sum_to_one() -> None:
    """Over all orders of four candidates."""
    scores = [0.4, -1.1, 2.0, 0.3]
    losses = {
        order: ranking_loss(
            *one_list(scores, list(order)), loss_type="plackett_luce", beta=0.8
        ).item()
        for order in itertools.permutations([3.0, 2.0, 1.0, 0.0])
    }
    assert sum(math.exp(-loss) for loss in losses.values()) == pytest.approx(1.0)
    # The most probable order is that of the scores, and its probability a product of choices.
    best = min(losses, key=lambda order: losses[order])
    assert best == (2.0, 0.0, 3.0, 1.0)
    strengths = sorted((math.exp(0.8 * s) for s in scores), reverse=True)
    probability = math.prod(s / sum(strengths[place:]) for place, s in enumerate(strengths))
    assert losses[best] == pytest.approx(-math.log(probability))


@given(finite, finite)
def test_an_order_of_two_is_a_pair(first: float, second: float) -> None:
    kwargs: dict[str, Any] = {"score_type": "reward_head", "beta": 1.0}
    ranking = one_list([first, second], [1.0, 0.0])
    loss = ranking_loss(*ranking, loss_type="plackett_luce", **kwargs)
    out, batch = scored([[first, second]], pairs=torch.tensor([[[0, 1]]]))
    torch.testing.assert_close(loss, preference_loss(out, batch, **kwargs))


@given(
    st.permutations([0.0, 1.0, 2.0, 3.0]),
    st.floats(0.1, 5.0),
    finite,
    st.integers(0, 3),
    st.floats(0.05, 0.3),
)
def test_spaced_loss_is_zero_for_evenly_spaced_scores_only(
    rank_score: list[float], scale: float, shift: float, moved: int, by: float
) -> None:
    """BiAlign: 0 if scaled scores have the distances of ranks; more if a score is moved at all.

    Also if the order stays the same: the right order is not enough.
    """

    def spaced_loss(scores: list[float]) -> float:
        ranking = one_list(scores, rank_score)
        return ranking_loss(*ranking, loss_type="spaced", score_type="reward_head").item()

    scores = [shift + scale * q for q in rank_score]
    assert spaced_loss(scores) == pytest.approx(0.0, abs=1e-9)
    scores[moved] += scale * by
    assert sorted(scores) == [s for _, s in sorted(zip(rank_score, scores, strict=True))]
    assert spaced_loss(scores) > 1e-3
    assert spaced_loss([-s for s in scores]) > spaced_loss(scores)


# Contrasts


def embedded(embedding: Tensor, target: Tensor, mask: Tensor) -> tuple[ModelOutput, FeedbackBatch]:
    action = torch.zeros(mask.shape, dtype=torch.long)
    out = ModelOutput(torch.zeros(mask.shape, dtype=torch.float64), embedding=embedding)
    return out, FeedbackBatch(action, action, mask, target=target)


@pytest.mark.parametrize("normalize_length", [True, False])
def test_contrastive_loss_is_cross_entropy(normalize_length: bool) -> None:
    source = torch.Generator().manual_seed(35)
    embedding, target = torch.randn(2, 3, 5, 4, generator=source).double().unbind()
    mask = torch.ones(3, 5, 1, dtype=torch.bool)
    mask[1, 3:] = False
    kwargs: dict[str, Any] = {"temperature": 0.3, "normalize_length": normalize_length}
    out, batch = embedded(embedding, target, mask)
    symmetric_loss = contrastive_loss(out, batch, **kwargs)
    one_way = contrastive_loss(out, batch, symmetric=False, **kwargs)
    for model in range(3):
        h, y = embedding[model][mask[model, :, 0]], target[model][mask[model, :, 0]]
        if normalize_length:
            h, y = normalize(h, dim=-1), normalize(y, dim=-1)
        similarity, own = h @ y.T / 0.3, torch.arange(len(h))
        torch.testing.assert_close(one_way[model], cross_entropy(similarity, own))
        both = (cross_entropy(similarity, own) + cross_entropy(similarity.T, own)) / 2.0
        torch.testing.assert_close(symmetric_loss[model], both)


@given(st.integers(2, 6), st.floats(0.05, 2.0))
def test_contrastive_loss_of_orthogonal_samples(samples: int, temperature: float) -> None:
    """Targets equal their samples, all others are orthogonal: log(1 + (n - 1) exp(-1 / τ))."""
    views = torch.eye(samples, 6, dtype=torch.float64)[None]
    out, batch = embedded(3.0 * views, views, torch.ones(1, samples, 1, dtype=torch.bool))
    expected = math.log1p((samples - 1) * math.exp(-1.0 / temperature))
    assert contrastive_loss(out, batch, temperature=temperature).item() == pytest.approx(expected)

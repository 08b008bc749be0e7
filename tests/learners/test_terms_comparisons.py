"""Terms that compare samples, against closed forms: pairs, ranks, contrasts."""

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
from tests.learners.term_batches import example

finite = st.floats(-8.0, 8.0)


def scored(scores: list[list[float]], **fields: Any) -> tuple[ModelOutput, FeedbackBatch]:
    """Policies that say scores of samples of one step; the score is the log-likelihood, too."""
    said = torch.tensor(scores, dtype=torch.float64)
    acted = torch.zeros(*said.shape, 1, dtype=torch.long)
    return ModelOutput(said[..., None], score=said[..., None]), FeedbackBatch(
        acted, acted, acted == 0, **fields
    )


def one_pair(ahead: float, **fields: Any) -> tuple[ModelOutput, FeedbackBatch]:
    return scored([[ahead, 0.0]], pairs=torch.tensor([[[0, 1]]]), **fields)


def log_sigmoid(x: float) -> float:
    return -float(np.logaddexp(0.0, -x))


def scores_of(out: ModelOutput, batch: FeedbackBatch, score: str) -> np.ndarray:
    logp = out.logp.detach().numpy()
    if "ratio" in score:
        assert batch.reference_logp is not None
        logp = logp - batch.reference_logp.numpy()
    total = np.nansum(logp, -1)  # NaN is what padding holds
    return total / batch.mask.sum(-1).numpy() if score.startswith("mean") else total


# Pairs


@pytest.mark.parametrize("score", ["log_ratio", "mean_log_ratio", "sum_logp", "mean_logp"])
@pytest.mark.parametrize("link", ["logistic", "hinge", "square"])
@pytest.mark.parametrize("mode", ["plain", "smoothed", "robust"])
def test_pairs(link: str, score: str, mode: str) -> None:
    out, batch = example(seed=31)
    assert batch.pairs is not None and batch.preferred is not None
    assert batch.pair_weight is not None and batch.pair_margin is not None
    assert batch.reliability is not None
    scores, beta, gamma, epsilon = scores_of(out, batch, score), 0.7, 0.2, 0.15

    def cost(lead: float, margin: float) -> float:
        z = beta * (lead - margin) - gamma
        if link == "logistic":
            return -log_sigmoid(z)
        if link == "hinge":
            return max(0.0, 1.0 - z)
        return (lead - margin - gamma / beta - 1.0 / (2.0 * beta)) ** 2

    expected = []
    for number in range(3):
        costs = []
        for place, (first, second) in enumerate(batch.pairs[number].tolist()):
            if first < 0:
                continue
            lead = scores[number, first] - scores[number, second]
            lead = lead if batch.preferred[number, place] else -lead
            margin = float(batch.pair_margin[number, place])
            right, wrong = cost(lead, margin), cost(-lead, margin)
            if mode == "plain":
                loss = right
            elif mode == "smoothed":
                loss = (1.0 - epsilon) * right + epsilon * wrong
            else:
                chance, eta = math.exp(log_sigmoid(wrong - right)), batch.reliability[number, place]
                believed = chance * eta / (chance * eta + (1.0 - chance) * (1.0 - eta))
                logs = log_sigmoid(wrong - right), log_sigmoid(right - wrong)
                loss = -believed * logs[0] - (1.0 - believed) * logs[1]
            costs.append(float(batch.pair_weight[number, place]) * float(loss))
        expected.append(np.mean(costs))
    assert len(costs) == 2  # the last policy has a pair less
    modes: dict[str, dict[str, Any]] = {
        "plain": {},
        "smoothed": {"smoothing": epsilon},
        "robust": {"robust": True},
    }
    found = preference_loss(
        out, batch, loss_type=link, score_type=score, beta=beta, margin=gamma, **modes[mode]
    )
    torch.testing.assert_close(found.detach(), torch.tensor(expected))


def test_samples_that_follow_each_other_are_pairs() -> None:
    out, batch = example(seed=32)
    none: dict[str, Any] = {"pair_weight": None, "pair_margin": None, "reliability": None}
    both = torch.arange(6).view(1, 3, 2).expand(3, -1, -1)
    named = batch.replace(pairs=both, **none)
    unnamed = batch.replace(pairs=None, **none)
    assert torch.equal(preference_loss(out, named), preference_loss(out, unnamed))
    assert batch.preferred is not None
    turned = torch.where(batch.preferred[..., None], both, both.flip(-1))
    directly = batch.replace(pairs=turned, preferred=None, **none)
    assert torch.equal(preference_loss(out, named), preference_loss(out, directly))


def test_the_smallest_robust_form_is_bradley_terry() -> None:
    """With DPO's loss the Gibbs form is Bradley-Terry, and whoever is never wrong is believed."""
    sure = torch.ones(1, 1, dtype=torch.float64)
    out, batch = one_pair(1.7, reliability=sure)
    plain = preference_loss(out, batch, score_type="sum_logp", beta=1.0)
    torch.testing.assert_close(
        preference_loss(out, batch, score_type="sum_logp", beta=1.0, use_reliability=True), plain
    )
    torch.testing.assert_close(plain.item(), math.log1p(math.exp(-1.7)))


@given(finite, st.floats(0.02, 0.98))
def test_the_slope_of_the_robust_form(ahead: float, reliability: float) -> None:
    """It is p - w: the push on a pair is how far belief is from what the policy says."""
    out, batch = one_pair(ahead, reliability=torch.tensor([[reliability]], dtype=torch.float64))
    logp = out.logp.clone().requires_grad_()
    loss = preference_loss(
        ModelOutput(logp), batch, score_type="sum_logp", beta=1.0, use_reliability=True
    )
    (slope,) = torch.autograd.grad(loss.sum(), logp)
    chance = 1.0 / (1.0 + math.exp(-ahead))
    right = chance * reliability
    believed = right / (right + (1.0 - chance) * (1.0 - reliability))
    torch.testing.assert_close(slope[0, 0, 0].item(), chance - believed, atol=1e-9, rtol=1e-9)


@given(finite, st.floats(0.01, 4.0), st.sampled_from(["logistic", "hinge", "square"]))
def test_a_larger_lead_costs_less(ahead: float, more: float, link: str) -> None:
    settings: dict[str, Any] = {"link": link, "score": "score", "scale": 0.25, "margin": 0.1}
    # IPO wants a lead of (1/2 + γ) / β and no more
    top = 2.4 if link == "square" else math.inf
    ahead, further = min(ahead, top), min(ahead + more, top)
    near, far = (preference_loss(*one_pair(lead), **settings).item() for lead in (ahead, further))
    assert far <= near
    if link == "logistic":
        assert far < near
    if ahead == top:
        assert near == pytest.approx(0.0, abs=1e-12)


@given(finite, finite, st.sampled_from(["logistic", "hinge", "square"]))
def test_directions_change_places_with_the_samples(first: float, second: float, link: str) -> None:
    settings: dict[str, Any] = {"link": link, "score": "score", "scale": 0.5, "margin": 0.3}
    this, other = (
        label_losses(*scored([[first, second]], pairs=torch.tensor([[order]])), **settings)
        for order in ([0, 1], [1, 0])
    )
    assert torch.equal(this.given, other.flipped) and torch.equal(this.flipped, other.given)


def test_unpaired_samples() -> None:
    out, batch = example(seed=33)
    assert batch.desirable is not None and batch.kl_baseline is not None
    scores = scores_of(out, batch, "log_ratio")
    expected = []
    for number in range(3):
        lead = 0.4 * (scores[number] - float(batch.kl_baseline[number]))
        wanted = batch.desirable[number].numpy()
        cost = np.where(wanted, 1.5 / (1 + np.exp(lead)), 0.5 / (1 + np.exp(-lead)))
        expected.append(cost.mean())
    weights = {"desirable_weight": 1.5, "undesirable_weight": 0.5}
    found = preference_loss(out, batch, loss_type="kto", beta=0.4, **weights)
    torch.testing.assert_close(found.detach(), torch.tensor(expected))


# Ranks


def in_one_list(scores: list[float], worth: list[float]) -> tuple[ModelOutput, FeedbackBatch]:
    places = torch.arange(len(scores)).view(1, 1, -1)
    return scored(
        [scores], candidates=places, rank_score=torch.tensor([[worth]], dtype=torch.float64)
    )


def test_rank_hinges() -> None:
    out, batch = example(seed=34)
    assert batch.candidates is not None and batch.rank_score is not None
    scores = scores_of(out, batch, "mean_logp")
    for link in ("hinge", "spaced"):
        expected = []
        for number in range(3):
            lists = []
            for places, worth in zip(
                batch.candidates[number].tolist(), batch.rank_score[number].tolist(), strict=True
            ):
                has = [(scores[number, p], w) for p, w in zip(places, worth, strict=True) if p >= 0]
                spread = max(s for s, _ in has) - min(s for s, _ in has)
                rank_of = {w: 1 + sum(other > w for _, other in has) for _, w in has}
                costs = []
                for (s, w), (t, v) in itertools.permutations(has, 2):
                    if w > v and link == "hinge":
                        costs.append(max(0.0, 2.0 * (t - s) + 0.3 * (w - v)))
                    elif w > v:
                        gap = (rank_of[w] - rank_of[v]) / (len(has) - 1)
                        costs.append(max(0.0, (t - s) / spread - gap))
                lists.append(np.mean(costs))
            expected.append(np.mean(lists))
        found = ranking_loss(out, batch, loss_type=link, beta=2.0, margin=0.3)
        torch.testing.assert_close(found.detach(), torch.tensor(expected))


def test_ties_and_lone_candidates_do_not_count() -> None:
    for link in ("hinge", "plackett_luce", "spaced"):
        tied = ranking_loss(
            *in_one_list([0.3, -0.5, 0.1], [1.0, 1.0, 1.0]), loss_type=link, margin=1.0
        )
        assert tied.item() == 0.0
        assert ranking_loss(*in_one_list([0.3], [1.0]), loss_type=link).item() == 0.0
    out, batch = in_one_list([0.3, -0.5, 0.1], [2.0, 1.0, 0.0])
    both = batch.replace(
        candidates=torch.tensor([[[0, 1, 2], [2, -1, -1]]]),
        rank_score=torch.tensor([[[2.0, 1.0, 0.0], [1.0, 0.0, 0.0]]], dtype=torch.float64),
    )
    assert torch.equal(ranking_loss(out, batch, margin=1.0), ranking_loss(out, both, margin=1.0))


def test_places_that_nobody_takes_do_not_count() -> None:
    for link in ("hinge", "plackett_luce", "spaced"):
        out, batch = in_one_list([-2.0, -2.5, -1.0], [2.0, 1.0, 0.0])
        gaps = batch.replace(
            candidates=torch.tensor([[[-1, 0, 1, -1, 2]]]),
            rank_score=torch.tensor([[[9.0, 2.0, 1.0, 0.5, 0.0]]], dtype=torch.float64),
        )
        loss = ranking_loss(out, batch, loss_type=link)
        assert loss.item() > 0.0
        torch.testing.assert_close(ranking_loss(out, gaps, loss_type=link), loss)


def test_equal_scores_have_no_range_and_still_a_slope() -> None:
    """Three equal scores miss every gap of ranks: (1/2 + 1/2 + 1) / 3; the best is pulled up."""
    out, batch = in_one_list([0.7, 0.7, 0.7], [2.0, 1.0, 0.0])
    logp = out.logp.clone().requires_grad_()
    loss = ranking_loss(ModelOutput(logp), batch, loss_type="spaced")
    (slope,) = torch.autograd.grad(loss.sum(), logp)
    assert loss.item() == pytest.approx(2.0 / 3.0)
    torch.testing.assert_close(slope.flatten(), torch.tensor([-2.0, 0.0, 2.0]).double() / 3.0)


def test_orders_have_a_probability() -> None:
    """Over all orders of four candidates, Plackett and Luce's probabilities add up to one."""
    scores = [0.4, -1.1, 2.0, 0.3]
    losses = {
        order: ranking_loss(
            *in_one_list(scores, list(order)), loss_type="plackett_luce", beta=0.8
        ).item()
        for order in itertools.permutations([3.0, 2.0, 1.0, 0.0])
    }
    assert sum(math.exp(-loss) for loss in losses.values()) == pytest.approx(1.0)
    # the likeliest order is that of the scores, and its probability a product of choices
    best = min(losses, key=lambda order: losses[order])
    assert best == (2.0, 0.0, 3.0, 1.0)
    strengths = sorted((math.exp(0.8 * s) for s in scores), reverse=True)
    chance = math.prod(s / sum(strengths[place:]) for place, s in enumerate(strengths))
    assert losses[best] == pytest.approx(-math.log(chance))


@given(finite, finite)
def test_an_order_of_two_is_a_pair(first: float, second: float) -> None:
    listed = ranking_loss(
        *in_one_list([first, second], [1.0, 0.0]), loss_type="plackett_luce", score_type="score"
    )
    out, batch = scored([[first, second]], pairs=torch.tensor([[[0, 1]]]))
    torch.testing.assert_close(listed, preference_loss(out, batch, score_type="score", beta=1.0))


@given(
    st.permutations([0.0, 1.0, 2.0, 3.0]),
    st.floats(0.1, 5.0),
    finite,
    st.integers(0, 3),
    st.floats(0.05, 0.3),
)
def test_only_evenly_spaced_scores_in_the_right_order_are_free(
    worth: list[float], stretch: float, shift: float, moved: int, by: float
) -> None:
    """BiAlign: 0 where stretched scores are spaced as ranks are; more where one is moved at all.

    Also where the order stays: the right order is not enough.
    """
    scores = [shift + stretch * w for w in worth]
    free = ranking_loss(*in_one_list(scores, worth), loss_type="spaced", score_type="score").item()
    assert free == pytest.approx(0.0, abs=1e-9)
    scores[moved] += stretch * by
    assert sorted(scores) == [s for _, s in sorted(zip(worth, scores, strict=True))]
    paid = ranking_loss(*in_one_list(scores, worth), loss_type="spaced", score_type="score").item()
    assert paid > 1e-3
    turned = ranking_loss(
        *in_one_list([-s for s in scores], worth), loss_type="spaced", score_type="score"
    ).item()
    assert turned > paid


# Contrasts


def embedded(hidden: Tensor, target: Tensor, mask: Tensor) -> tuple[ModelOutput, FeedbackBatch]:
    acted = torch.zeros(mask.shape, dtype=torch.long)
    out = ModelOutput(torch.zeros(mask.shape, dtype=torch.float64), embedding=hidden)
    return out, FeedbackBatch(acted, acted, mask, target=target)


@pytest.mark.parametrize("normalise", [True, False])
def test_contrasts_are_cross_entropies(normalise: bool) -> None:
    source = torch.Generator().manual_seed(35)
    hidden, target = torch.randn(2, 3, 5, 4, generator=source).double().unbind()
    mask = torch.ones(3, 5, 1, dtype=torch.bool)
    mask[1, 3:] = False
    out, batch = embedded(hidden, target, mask)
    found = contrastive_loss(out, batch, temperature=0.3, normalize_length=normalise)
    one_way = contrastive_loss(
        out, batch, temperature=0.3, normalize_length=normalise, symmetric=False
    )
    for number in range(3):
        h, y = hidden[number][mask[number, :, 0]], target[number][mask[number, :, 0]]
        if normalise:
            h, y = normalize(h, dim=-1), normalize(y, dim=-1)
        alike, own = h @ y.T / 0.3, torch.arange(len(h))
        torch.testing.assert_close(one_way[number], cross_entropy(alike, own))
        both = (cross_entropy(alike, own) + cross_entropy(alike.T, own)) / 2.0
        torch.testing.assert_close(found[number], both)


@given(st.integers(2, 6), st.floats(0.05, 2.0))
def test_contrast_of_orthogonal_pairs(samples: int, temperature: float) -> None:
    """Each target its sample's own, all others at right angles: log(1 + (n - 1) exp(-1 / τ))."""
    views = torch.eye(samples, 6, dtype=torch.float64)[None]
    out, batch = embedded(3.0 * views, views, torch.ones(1, samples, 1, dtype=torch.bool))
    expected = math.log1p((samples - 1) * math.exp(-1.0 / temperature))
    assert contrastive_loss(out, batch, temperature=temperature).item() == pytest.approx(expected)

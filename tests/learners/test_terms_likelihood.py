"""Terms on steps against closed forms: likelihoods, policy gradients, values, divergences, scores.

The oracles walk through real steps one by one, in numpy or plain Python, and never see padding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy
from torch import Tensor
from torch.nn.functional import cross_entropy, huber_loss

from mores.agents.learning.batch import FeedbackBatch, ModelOutput
from mores.agents.learning.losses import (
    expected_score_loss,
    kl_loss,
    nll_loss,
    policy_gradient_loss,
    regression_loss,
    unlikelihood_loss,
    value_loss,
)
from tests.learners.term_batches import NAN, example, gradients

Place = tuple[int, int, int]


def real(batch: FeedbackBatch, number: int) -> Iterator[list[Place]]:
    """Of each sample of a policy, the addresses of its real steps."""
    for sample in range(batch.num_samples):
        yield [(number, sample, t) for t in range(batch.num_steps) if batch.mask[number, sample, t]]


def mean_of(
    batch: FeedbackBatch, cost: Callable[[Place], float], per: str = "step", rows: Any = None
) -> Tensor:
    """Mean cost of each policy, by a walk through its real steps; `rows`: of some samples."""
    found = []
    for number in range(batch.num_models):
        costs = [
            [cost(place) for place in places]
            for sample, places in enumerate(real(batch, number))
            if rows is None or rows[number, sample]
        ]
        if per == "sample":
            found.append(np.mean([np.mean(one) for one in costs]))
        else:
            found.append(np.mean([step for one in costs for step in one]))
    return torch.tensor(found)


def bandit(logits: Tensor, **fields: Any) -> tuple[ModelOutput, FeedbackBatch]:
    """Each option done once by one policy, in samples of one step."""
    options = len(logits)
    acted = torch.arange(options).view(1, -1, 1)
    log_chance = logits.log_softmax(-1).expand(1, options, 1, options)
    batch = FeedbackBatch(acted.double(), acted, torch.ones(1, options, 1).bool(), **fields)
    return ModelOutput(log_chance.gather(-1, acted[..., None])[..., 0], log_chance), batch


# Likelihood


@pytest.mark.parametrize("per", ["step", "sample"])
def test_likelihood(per: str) -> None:
    out, batch = example(seed=11)
    logp, weight = out.logp.detach(), batch.step_weight
    assert weight is not None and batch.is_demonstration is not None
    expected = mean_of(batch, lambda at: float(-weight[at] * logp[at]), per, batch.is_demonstration)
    torch.testing.assert_close(
        nll_loss(out, batch, reduction=per, subset="reference").detach(), expected
    )


def test_winners_and_losers_are_each_counted_once() -> None:
    out, batch = example(seed=12)
    batch = batch.replace(step_weight=None)
    assert batch.pairs is not None and batch.preferred is not None
    winners = np.zeros((3, 6), dtype=bool)
    losers = np.zeros((3, 6), dtype=bool)
    for number in range(3):
        for pair, (first, second) in enumerate(batch.pairs[number].tolist()):
            if first >= 0:
                won = bool(batch.preferred[number, pair])
                winners[number, first if won else second] = True
                losers[number, second if won else first] = True
    logp = out.logp.detach()
    for which, rows in (("preferred", winners), ("dispreferred", losers)):
        expected = mean_of(batch, lambda at: float(-logp[at]), rows=rows)
        torch.testing.assert_close(nll_loss(out, batch, subset=which).detach(), expected)


def test_smoothed_likelihood_is_torchs() -> None:
    logits = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(13)).double()
    acted = torch.randint(5, (2, 3, 4), generator=torch.Generator().manual_seed(14))
    batch = FeedbackBatch(acted.double(), acted, torch.ones(2, 3, 4, dtype=torch.bool))
    log_chance = logits.log_softmax(-1)
    out = ModelOutput(log_chance.gather(-1, acted[..., None])[..., 0], log_chance)
    for number, loss in enumerate(nll_loss(out, batch, label_smoothing=0.3)):
        expected = cross_entropy(
            logits[number].flatten(0, 1), acted[number].flatten(), label_smoothing=0.3
        )
        torch.testing.assert_close(loss, expected)


def test_smoothing_spreads_over_open_options_only() -> None:
    out, batch = example(seed=15)
    assert out.logits is not None and batch.action_mask is not None
    logits, logp, legal = out.logits.detach(), out.logp.detach(), batch.action_mask

    def cost(at: Place) -> float:
        return float(-0.8 * logp[at] - 0.2 * logits[at][legal[at]].mean())

    loss = nll_loss(out, batch.replace(step_weight=None), label_smoothing=0.2)
    torch.testing.assert_close(loss.detach(), mean_of(batch, cost))


def test_contrastive_unlikelihood() -> None:
    """CUT's L1, term by term, with and without the logits of other options."""
    out, batch = example(seed=16)
    assert batch.inappropriate is not None
    bad, logp = batch.inappropriate, out.logp.detach()
    judged = torch.rand(bad.shape, generator=torch.Generator().manual_seed(17)).double()
    weight = torch.where(bad, 0.5 * judged**2, 1.0)

    def cost(at: Place) -> float:
        chance = math.exp(logp[at])
        if bad[at]:
            return -0.5 * float(judged[at]) ** 2 * math.log(1.0 - chance)
        return -math.log(chance)

    batch = batch.replace(step_weight=weight)
    expected = mean_of(batch, cost)
    for said in (out, ModelOutput(out.logp)):
        found = nll_loss(said, batch, step_subset="appropriate") + unlikelihood_loss(said, batch)
        torch.testing.assert_close(found.detach(), expected)


@pytest.mark.parametrize("lead", [0.0, 20.0, 80.0, 500.0])
def test_unlikelihood_of_the_certain(lead: float) -> None:
    """One act of two, `lead` nats ahead: -log(1 - p) = log(1 + exp(lead)), with slope p."""
    raw = torch.tensor([lead, 0.0], requires_grad=True)  # 32 bits, where 1 - p is 0 from 17 on
    logits = raw.log_softmax(-1).view(1, 1, 1, 2)
    acted = torch.zeros(1, 1, 1, dtype=torch.long)
    batch = FeedbackBatch(acted, acted, acted == 0, inappropriate=acted == 0)
    loss = unlikelihood_loss(ModelOutput(logits[..., 0], logits), batch)
    torch.testing.assert_close(loss.item(), math.log1p(math.exp(-lead)) + lead)
    loss.sum().backward()
    chance = 1.0 / (1.0 + math.exp(-lead))
    assert raw.grad is not None
    torch.testing.assert_close(raw.grad, torch.tensor([chance, -chance]))

    logp = logits[..., 0].detach().requires_grad_()
    blind = unlikelihood_loss(ModelOutput(logp), batch, floor=1e-4)
    (slope,) = torch.autograd.grad(blind.sum(), logp)
    assert blind.isfinite().all()
    assert blind.item() == pytest.approx(loss.item() if lead < 1.0 else 1.0 - math.log(1e-4))
    assert slope.item() == pytest.approx(1.0 if lead < 1.0 else 1e4, rel=1e-3)


def test_an_act_without_alternative_cannot_be_unlearned() -> None:
    logits = torch.tensor([0.0, -torch.inf]).view(1, 1, 1, 2).requires_grad_()
    acted = torch.zeros(1, 1, 1, dtype=torch.long)
    batch = FeedbackBatch(acted, acted, acted == 0, inappropriate=acted == 0)
    loss = unlikelihood_loss(ModelOutput(logits[..., 0], logits), batch)
    (slope,) = torch.autograd.grad(loss.sum(), logits)
    assert loss.item() == 0.0 and (slope == 0.0).all()


# Policy gradients and values


@pytest.mark.parametrize("per", ["step", "sample", "constant"])
@pytest.mark.parametrize("clip_mode", ["none", "token", "sequence"])
def test_policy_gradient(clip_mode: str, per: str) -> None:
    out, batch = example(seed=18)
    assert batch.advantage is not None and batch.old_logp is not None and out.entropy is not None
    logp, advantage, spread = out.logp.detach(), batch.advantage, out.entropy.detach()
    log_ratio = logp - batch.old_logp
    bounds = 0.9, 1.25
    means = {
        places[0][:2]: math.exp(np.mean([float(log_ratio[at]) for at in places]))
        for number in range(3)
        for places in real(batch, number)
    }
    clipped = []

    def cost(at: Place) -> float:
        if clip_mode == "none":
            return -float(advantage[at] * logp[at])
        ratio = means[at[:2]] if clip_mode == "sequence" else math.exp(log_ratio[at])
        held = min(max(ratio, bounds[0]), bounds[1])
        clipped.append(held != ratio)
        return -min(ratio * float(advantage[at]), held * float(advantage[at]))

    if per == "constant":
        steps = batch.mask.sum((1, 2))
        expected = mean_of(batch, cost) * steps / (6 * 7.5)
    else:
        expected = mean_of(batch, cost, per)
    expected = expected - 0.3 * mean_of(batch, lambda at: float(spread[at]))
    length = 7.5 if per == "constant" else None
    settings: dict[str, Any] = {"clip_mode": clip_mode, "per": per, "length": length}
    loss = policy_gradient_loss(
        out, batch, clip_range_low=0.1, clip_range_high=0.25, ent_coef=0.3, **settings
    )
    torch.testing.assert_close(loss.detach(), expected)
    assert clip_mode == "none" or (any(clipped) and not all(clipped))


def test_a_ratio_without_bounds_has_reinforces_slope() -> None:
    out, batch = example(seed=19)
    batch = batch.replace(old_logp=out.logp.detach())
    free = policy_gradient_loss(out, batch, clip_range_low=math.inf, clip_range_high=math.inf)
    slopes = [
        torch.autograd.grad(loss.sum(), out.logp)[0]
        for loss in (free, policy_gradient_loss(out, batch, clip_mode="none"))
    ]
    torch.testing.assert_close(*slopes)


def test_a_ratio_beyond_all_bounds_keeps_slopes_finite() -> None:
    acted = torch.zeros(1, 2, 1, dtype=torch.long)
    logp = torch.tensor([0.0, 0.0]).view(1, 2, 1).requires_grad_()
    batch = FeedbackBatch(acted, acted, acted == 0)
    batch = batch.replace(
        old_logp=torch.full((1, 2, 1), -200.0), advantage=torch.tensor([1.0, -1.0]).view(1, 2, 1)
    )
    loss = policy_gradient_loss(ModelOutput(logp), batch)
    (slope,) = torch.autograd.grad(loss.sum(), logp)
    assert loss.isfinite().all() and slope.isfinite().all()


def test_values_with_a_clip() -> None:
    out, batch = example(seed=20)
    assert out.value is not None and batch.value_target is not None and batch.old_value is not None
    said, old, due = out.value.detach(), batch.old_value, batch.value_target

    def cost(at: Place) -> float:
        held = old[at] + min(max(float(said[at] - old[at]), -0.4), 0.4)
        return max(float(said[at] - due[at]) ** 2, float(held - due[at]) ** 2)

    torch.testing.assert_close(
        value_loss(out, batch, clip_range_vf=0.4).detach(), mean_of(batch, cost)
    )
    plain = mean_of(batch, lambda at: float(said[at] - due[at]) ** 2, "sample")
    torch.testing.assert_close(value_loss(out, batch, reduction="sample").detach(), plain)


def test_regression_with_missing_targets() -> None:
    out, batch = example(seed=21)
    assert out.score is not None and batch.target is not None and batch.desirable is not None
    target = batch.target.clone()
    target[0, 1, 0] = target[2, :2] = NAN
    told = batch.replace(target=target)
    for link, threshold in (("square", 1.0), ("huber", 0.6)):
        for which in ("all", "desirable"):
            settings: dict[str, Any] = {"link": link, "threshold": threshold, "which": which}
            found = regression_loss(out, told, ignore_nan=True, **settings)
            for number in range(3):
                kept = ~target[number].isnan()
                if which == "desirable":
                    kept = kept & batch.desirable[number][:, None]
                said, due = out.score[number][kept], target[number][kept]
                expected = (
                    (said - due).square().mean()
                    if link == "square"
                    else huber_loss(said, due, delta=threshold)
                )
                torch.testing.assert_close(found[number], expected)
    assert regression_loss(out, told).isnan().tolist() == [True, False, True]


# Divergences and expected scores


@pytest.mark.parametrize("to", ["reference", "teacher"])
def test_divergences_are_scipys(to: str) -> None:
    out, batch = example(seed=22)
    theirs = batch.reference_logits if to == "reference" else batch.teacher_logits
    assert out.logits is not None and theirs is not None
    pi, other = out.logits.detach().exp().numpy(), theirs.exp().numpy()
    oracles: dict[str, Callable[[Place], float]] = {
        "forward": lambda at: entropy(other[at], pi[at]),
        "reverse": lambda at: entropy(pi[at], other[at]),
        "js": lambda at: jensenshannon(pi[at], other[at]) ** 2,
    }
    for direction, oracle in oracles.items():
        found = kl_loss(out, batch, direction=direction, other_policy=to)
        torch.testing.assert_close(found.detach(), mean_of(batch, oracle))


def test_divergence_over_the_likeliest() -> None:
    out, batch = example(seed=23)
    assert out.logits is not None and batch.reference_logits is not None
    pi, other = out.logits.detach().exp().numpy(), batch.reference_logits.exp().numpy()

    def cost(at: Place) -> float:
        top = np.argsort(-other[at])[:2]
        return entropy(pi[at][top], other[at][top])  # scipy normalises both

    found = kl_loss(out, batch, direction="reverse", top_k=2)
    torch.testing.assert_close(found.detach(), mean_of(batch, cost))
    found = kl_loss(out, batch, direction="js", top_k=4)
    torch.testing.assert_close(found, kl_loss(out, batch, direction="js"))


def test_estimate_of_the_divergence_is_unbiased() -> None:
    """Its mean over all acts, each as often as the policy does it, is the divergence.

    With the correction so is its mean over what an older policy did, and so is its slope.
    """
    source = torch.Generator().manual_seed(24)
    raw, before, old = torch.randn(3, 5, generator=source).double().unbind()
    raw.requires_grad_()
    ours, theirs, past = (logits.log_softmax(-1) for logits in (raw, before, old))
    exact = (ours.exp() * (ours - theirs)).sum()
    (slope,) = torch.autograd.grad(exact, raw)
    fields = {"reference_logp": theirs.view(1, 5, 1), "old_logp": past.view(1, 5, 1)}

    def each(corrected: bool, chance: Tensor) -> Tensor:
        """Expected estimate, from batches that each hold one act."""
        out, batch = bandit(raw, **fields)
        costs = [
            kl_loss(
                ModelOutput(out.logp[:, a : a + 1]),
                FeedbackBatch(
                    batch.observation[:, a : a + 1],
                    batch.action[:, a : a + 1],
                    batch.mask[:, a : a + 1],
                    **{name: field[:, a : a + 1] for name, field in fields.items()},
                ),
                importance_weighted=corrected,
            )
            for a in range(5)
        ]
        return (torch.cat(costs) * chance).sum()

    torch.testing.assert_close(each(False, ours.exp().detach()), exact)
    corrected = each(True, past.exp())
    torch.testing.assert_close(corrected, exact)
    torch.testing.assert_close(torch.autograd.grad(corrected, raw)[0], slope)


@pytest.mark.parametrize("importance", [False, True])
def test_expected_score(importance: bool) -> None:
    out, batch = example(seed=25)
    assert out.logits is not None and batch.option_score is not None
    assert batch.old_logp is not None and batch.action_mask is not None
    chance, legal = out.logits.detach().exp(), batch.action_mask
    log_ratio = out.logp.detach() - batch.old_logp
    weights = {
        places[0][:2]: min(math.exp(sum(float(log_ratio[at]) for at in places)), 1.3)
        for number in range(3)
        for places in real(batch, number)
    }
    scores = batch.option_score

    def cost(at: Place) -> float:
        gain = sum(float(chance[at][a] * scores[at][a]) for a in range(4) if legal[at][a])
        return -gain * (weights[at[:2]] if importance else 1.0)

    found = expected_score_loss(
        out, batch, importance_weighted=importance, max_importance_weight=1.3
    )
    torch.testing.assert_close(found.detach(), mean_of(batch, cost))
    assert len({w for w in weights.values() if w < 1.3}) > 3
    assert set(gradients(out, found)) == {"logits"}  # the weight is held fixed
    # Some heads give closed options a very low logit instead of none, and no score is needed there.
    lowest = ModelOutput(out.logp, torch.where(legal, out.logits, -1e9))
    same = expected_score_loss(
        lowest, batch, importance_weighted=importance, max_importance_weight=1.3
    )
    torch.testing.assert_close(same, found)


def test_expected_score_is_the_mean_policy_gradient() -> None:
    """Its slope is that of -A log π, averaged over acts as often as the policy does them."""
    source = torch.Generator().manual_seed(26)
    raw, scores = torch.randn(2, 5, generator=source).double().unbind()
    raw.requires_grad_()
    out, batch = bandit(raw, option_score=scores.expand(1, 5, 1, 5))
    (exact,) = torch.autograd.grad(expected_score_loss(out, batch).sum(), raw)
    chance = raw.detach().softmax(-1)
    out, batch = bandit(raw, advantage=(5.0 * chance * scores).view(1, 5, 1))
    (sampled,) = torch.autograd.grad(policy_gradient_loss(out, batch, clip_mode="none").sum(), raw)
    torch.testing.assert_close(exact, sampled)

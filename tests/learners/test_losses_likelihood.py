"""Losses on steps against closed forms: likelihoods, policy gradients, values, divergences, scores.

The oracles loop over valid steps, in numpy or plain Python, without padding.
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
from tests.learners.loss_batches import NAN, example, gradients

StepIndex = tuple[int, int, int]


def valid_steps(batch: FeedbackBatch, model: int) -> Iterator[list[StepIndex]]:
    """Indices of the valid steps of each sample of a model."""
    for sample in range(batch.num_samples):
        yield [(model, sample, t) for t in range(batch.num_steps) if batch.mask[model, sample, t]]


def mean_over_steps(
    batch: FeedbackBatch,
    step_loss: Callable[[StepIndex], float],
    reduction: str = "step",
    selected: Any = None,
) -> Tensor:
    """Mean loss of each model over its valid steps; `selected`: of some samples."""
    means = []
    for model in range(batch.num_models):
        losses = [
            [step_loss(i) for i in indices]
            for sample, indices in enumerate(valid_steps(batch, model))
            if selected is None or selected[model, sample]
        ]
        if reduction == "sample":
            means.append(np.mean([np.mean(sample) for sample in losses]))
        else:
            means.append(np.mean([step for sample in losses for step in sample]))
    return torch.tensor(means)


def bandit(logits: Tensor, **fields: Any) -> tuple[ModelOutput, FeedbackBatch]:
    """Each option taken once by one model, in samples of one step."""
    options = len(logits)
    action = torch.arange(options).view(1, -1, 1)
    logp = logits.log_softmax(-1).expand(1, options, 1, options)
    batch = FeedbackBatch(action.double(), action, torch.ones(1, options, 1).bool(), **fields)
    return ModelOutput(logp.gather(-1, action[..., None])[..., 0], logp), batch


# Likelihood


@pytest.mark.parametrize("reduction", ["step", "sample"])
def test_likelihood(reduction: str) -> None:
    out, batch = example(seed=11)
    logp, weight = out.logp.detach(), batch.step_weight
    assert weight is not None and batch.is_demonstration is not None
    demonstrations = batch.is_demonstration
    expected = mean_over_steps(
        batch, lambda i: float(-weight[i] * logp[i]), reduction, demonstrations
    )
    loss = nll_loss(out, batch, reduction=reduction, subset="demonstration")
    torch.testing.assert_close(loss.detach(), expected)


def test_likelihood_of_chosen_and_rejected_samples() -> None:
    out, batch = example(seed=12)
    batch = batch.replace(step_weight=None)
    assert batch.pairs is not None and batch.preferred is not None
    chosen, rejected = np.zeros((2, 3, 6), dtype=bool)
    for model in range(3):
        for pair, (first, second) in enumerate(batch.pairs[model].tolist()):
            if first >= 0:
                preferred = bool(batch.preferred[model, pair])
                chosen[model, first if preferred else second] = True
                rejected[model, second if preferred else first] = True
    logp = out.logp.detach()
    for subset, selected in (("chosen", chosen), ("rejected", rejected)):
        expected = mean_over_steps(batch, lambda i: float(-logp[i]), selected=selected)
        torch.testing.assert_close(nll_loss(out, batch, subset=subset).detach(), expected)


def test_label_smoothing_equals_torch() -> None:
    logits = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(13)).double()
    action = torch.randint(5, (2, 3, 4), generator=torch.Generator().manual_seed(14))
    batch = FeedbackBatch(action.double(), action, torch.ones(2, 3, 4, dtype=torch.bool))
    logp = logits.log_softmax(-1)
    out = ModelOutput(logp.gather(-1, action[..., None])[..., 0], logp)
    for model, loss in enumerate(nll_loss(out, batch, label_smoothing=0.3)):
        expected = cross_entropy(
            logits[model].flatten(0, 1), action[model].flatten(), label_smoothing=0.3
        )
        torch.testing.assert_close(loss, expected)


def test_label_smoothing_uses_legal_options_only() -> None:
    out, batch = example(seed=15)
    assert out.logits is not None and batch.action_mask is not None
    logits, logp, legal = out.logits.detach(), out.logp.detach(), batch.action_mask

    def step_loss(i: StepIndex) -> float:
        return float(-0.8 * logp[i] - 0.2 * logits[i][legal[i]].mean())

    loss = nll_loss(out, batch.replace(step_weight=None), label_smoothing=0.2)
    torch.testing.assert_close(loss.detach(), mean_over_steps(batch, step_loss))


def test_contrastive_unlikelihood() -> None:
    """CUT's L1, step by step, with and without the logits of other options."""
    out, batch = example(seed=16)
    assert batch.inappropriate is not None
    bad, logp = batch.inappropriate, out.logp.detach()
    p_critiqued = torch.rand(bad.shape, generator=torch.Generator().manual_seed(17)).double()
    weight = torch.where(bad, 0.5 * p_critiqued**2, 1.0)

    def step_loss(i: StepIndex) -> float:
        p = math.exp(logp[i])
        if bad[i]:
            return -0.5 * float(p_critiqued[i]) ** 2 * math.log(1.0 - p)
        return -math.log(p)

    batch = batch.replace(step_weight=weight)
    expected = mean_over_steps(batch, step_loss)
    for output in (out, ModelOutput(out.logp)):
        loss = nll_loss(output, batch, step_subset="appropriate") + unlikelihood_loss(output, batch)
        torch.testing.assert_close(loss.detach(), expected)


@pytest.mark.parametrize("lead", [0.0, 20.0, 80.0, 500.0])
def test_unlikelihood_of_a_nearly_certain_action(lead: float) -> None:
    """One of two options, `lead` nats ahead: -log(1 - p) = log(1 + exp(lead)), with gradient p."""
    raw = torch.tensor([lead, 0.0], requires_grad=True)  # 32 bits, where 1 - p is 0 from 17 on
    logits = raw.log_softmax(-1).view(1, 1, 1, 2)
    action = torch.zeros(1, 1, 1, dtype=torch.long)
    batch = FeedbackBatch(action, action, action == 0, inappropriate=action == 0)
    loss = unlikelihood_loss(ModelOutput(logits[..., 0], logits), batch)
    torch.testing.assert_close(loss.item(), math.log1p(math.exp(-lead)) + lead)
    loss.sum().backward()
    p = 1.0 / (1.0 + math.exp(-lead))
    assert raw.grad is not None
    torch.testing.assert_close(raw.grad, torch.tensor([p, -p]))

    logp = logits[..., 0].detach().requires_grad_()
    floored = unlikelihood_loss(ModelOutput(logp), batch, floor=1e-4)
    (grad,) = torch.autograd.grad(floored.sum(), logp)
    assert floored.isfinite().all()
    assert floored.item() == pytest.approx(loss.item() if lead < 1.0 else 1.0 - math.log(1e-4))
    assert grad.item() == pytest.approx(1.0 if lead < 1.0 else 1e4, rel=1e-3)


def test_the_only_legal_option_has_no_unlikelihood() -> None:
    logits = torch.tensor([0.0, -torch.inf]).view(1, 1, 1, 2).requires_grad_()
    action = torch.zeros(1, 1, 1, dtype=torch.long)
    batch = FeedbackBatch(action, action, action == 0, inappropriate=action == 0)
    loss = unlikelihood_loss(ModelOutput(logits[..., 0], logits), batch)
    (grad,) = torch.autograd.grad(loss.sum(), logits)
    assert loss.item() == 0.0 and (grad == 0.0).all()


# Policy gradients and values


@pytest.mark.parametrize("reduction", ["step", "sample", "constant"])
@pytest.mark.parametrize("clip_mode", ["none", "token", "sequence"])
def test_policy_gradient(clip_mode: str, reduction: str) -> None:
    out, batch = example(seed=18)
    assert batch.advantage is not None and batch.old_logp is not None and out.entropy is not None
    logp, advantage, entropies = out.logp.detach(), batch.advantage, out.entropy.detach()
    log_ratio = logp - batch.old_logp
    bounds = 0.9, 1.25
    means = {
        indices[0][:2]: math.exp(np.mean([float(log_ratio[i]) for i in indices]))
        for model in range(3)
        for indices in valid_steps(batch, model)
    }
    clipped = []

    def step_loss(i: StepIndex) -> float:
        if clip_mode == "none":
            return -float(advantage[i] * logp[i])
        ratio = means[i[:2]] if clip_mode == "sequence" else math.exp(log_ratio[i])
        bounded = min(max(ratio, bounds[0]), bounds[1])
        clipped.append(bounded != ratio)
        return -min(ratio * float(advantage[i]), bounded * float(advantage[i]))

    if reduction == "constant":
        steps = batch.mask.sum((1, 2))
        expected = mean_over_steps(batch, step_loss) * steps / (6 * 7.5)
    else:
        expected = mean_over_steps(batch, step_loss, reduction)
    expected = expected - 0.3 * mean_over_steps(batch, lambda i: float(entropies[i]))
    length = 7.5 if reduction == "constant" else None
    kwargs: dict[str, Any] = {"reduction": reduction, "constant_length": length, "ent_coef": 0.3}
    loss = policy_gradient_loss(
        out, batch, clip_mode=clip_mode, clip_range_low=0.1, clip_range_high=0.25, **kwargs
    )
    torch.testing.assert_close(loss.detach(), expected)
    assert clip_mode == "none" or (any(clipped) and not all(clipped))


def test_gradient_without_clipping_equals_reinforce() -> None:
    out, batch = example(seed=19)
    batch = batch.replace(old_logp=out.logp.detach())
    unclipped = policy_gradient_loss(out, batch, clip_range_low=math.inf, clip_range_high=math.inf)
    grads = [
        torch.autograd.grad(loss.sum(), out.logp)[0]
        for loss in (unclipped, policy_gradient_loss(out, batch, clip_mode="none"))
    ]
    torch.testing.assert_close(*grads)


def test_gradients_of_huge_ratios_are_finite() -> None:
    action = torch.zeros(1, 2, 1, dtype=torch.long)
    logp = torch.tensor([0.0, 0.0]).view(1, 2, 1).requires_grad_()
    batch = FeedbackBatch(action, action, action == 0)
    batch = batch.replace(
        old_logp=torch.full((1, 2, 1), -200.0), advantage=torch.tensor([1.0, -1.0]).view(1, 2, 1)
    )
    loss = policy_gradient_loss(ModelOutput(logp), batch)
    (grad,) = torch.autograd.grad(loss.sum(), logp)
    assert loss.isfinite().all() and grad.isfinite().all()


def test_value_loss_with_clip_range() -> None:
    out, batch = example(seed=20)
    assert out.value is not None and batch.value_target is not None and batch.old_value is not None
    value, old, target = out.value.detach(), batch.old_value, batch.value_target

    def step_loss(i: StepIndex) -> float:
        clipped = old[i] + min(max(float(value[i] - old[i]), -0.4), 0.4)
        return max(float(value[i] - target[i]) ** 2, float(clipped - target[i]) ** 2)

    loss = value_loss(out, batch, clip_range_vf=0.4)
    torch.testing.assert_close(loss.detach(), mean_over_steps(batch, step_loss))
    plain = mean_over_steps(batch, lambda i: float(value[i] - target[i]) ** 2, "sample")
    torch.testing.assert_close(value_loss(out, batch, reduction="sample").detach(), plain)


def test_regression_with_missing_targets() -> None:
    out, batch = example(seed=21)
    assert out.score is not None and batch.target is not None and batch.desirable is not None
    target = batch.target.clone()
    target[0, 1, 0] = target[2, :2] = NAN
    partial = batch.replace(target=target)
    for loss_type, delta in (("mse", 1.0), ("huber", 0.6)):
        for subset in ("all", "desirable"):
            kwargs: dict[str, Any] = {"loss_type": loss_type, "delta": delta, "subset": subset}
            loss = regression_loss(out, partial, ignore_nan=True, **kwargs)
            for model in range(3):
                valid = ~target[model].isnan()
                if subset == "desirable":
                    valid = valid & batch.desirable[model][:, None]
                score, y = out.score[model][valid], target[model][valid]
                expected = (
                    (score - y).square().mean()
                    if loss_type == "mse"
                    else huber_loss(score, y, delta=delta)
                )
                torch.testing.assert_close(loss[model], expected)
    assert regression_loss(out, partial).isnan().tolist() == [True, False, True]


# Divergences and expected scores


@pytest.mark.parametrize("other_policy", ["reference", "teacher"])
def test_divergences_equal_scipy(other_policy: str) -> None:
    out, batch = example(seed=22)
    logits = batch.reference_logits if other_policy == "reference" else batch.teacher_logits
    assert out.logits is not None and logits is not None
    pi, other = out.logits.detach().exp().numpy(), logits.exp().numpy()
    oracles: dict[str, Callable[[StepIndex], float]] = {
        "forward": lambda i: entropy(other[i], pi[i]),
        "reverse": lambda i: entropy(pi[i], other[i]),
        "js": lambda i: jensenshannon(pi[i], other[i]) ** 2,
    }
    for direction, oracle in oracles.items():
        loss = kl_loss(out, batch, direction=direction, other_policy=other_policy)
        torch.testing.assert_close(loss.detach(), mean_over_steps(batch, oracle))


def test_divergence_over_top_k_options() -> None:
    out, batch = example(seed=23)
    assert out.logits is not None and batch.reference_logits is not None
    pi, other = out.logits.detach().exp().numpy(), batch.reference_logits.exp().numpy()

    def step_loss(i: StepIndex) -> float:
        top = np.argsort(-other[i])[:2]
        return entropy(pi[i][top], other[i][top])  # scipy normalizes both

    loss = kl_loss(out, batch, direction="reverse", top_k=2)
    torch.testing.assert_close(loss.detach(), mean_over_steps(batch, step_loss))
    loss = kl_loss(out, batch, direction="js", top_k=4)
    torch.testing.assert_close(loss, kl_loss(out, batch, direction="js"))


def test_estimate_of_the_divergence_is_unbiased() -> None:
    """Its expectation over actions of the policy is the divergence.

    With importance weights so is its expectation over actions of an old policy, and its gradient.
    """
    source = torch.Generator().manual_seed(24)
    raw, raw_reference, raw_old = torch.randn(3, 5, generator=source).double().unbind()
    raw.requires_grad_()
    logp, reference, old = (x.log_softmax(-1) for x in (raw, raw_reference, raw_old))
    exact = (logp.exp() * (logp - reference)).sum()
    (grad,) = torch.autograd.grad(exact, raw)
    fields = {"reference_logp": reference.view(1, 5, 1), "old_logp": old.view(1, 5, 1)}

    def expectation(importance_weighted: bool, probability: Tensor) -> Tensor:
        """Expected estimate, from batches of one action each."""
        out, batch = bandit(raw, **fields)
        losses = [
            kl_loss(
                ModelOutput(out.logp[:, a : a + 1]),
                FeedbackBatch(
                    batch.observation[:, a : a + 1],
                    batch.action[:, a : a + 1],
                    batch.mask[:, a : a + 1],
                    **{name: field[:, a : a + 1] for name, field in fields.items()},
                ),
                importance_weighted=importance_weighted,
            )
            for a in range(5)
        ]
        return (torch.cat(losses) * probability).sum()

    torch.testing.assert_close(expectation(False, logp.exp().detach()), exact)
    weighted = expectation(True, old.exp())
    torch.testing.assert_close(weighted, exact)
    torch.testing.assert_close(torch.autograd.grad(weighted, raw)[0], grad)


@pytest.mark.parametrize("importance_weighted", [False, True])
def test_expected_score(importance_weighted: bool) -> None:
    out, batch = example(seed=25)
    assert out.logits is not None and batch.option_score is not None
    assert batch.old_logp is not None and batch.action_mask is not None
    probability, legal = out.logits.detach().exp(), batch.action_mask
    log_ratio = out.logp.detach() - batch.old_logp
    weights = {
        indices[0][:2]: min(math.exp(sum(float(log_ratio[i]) for i in indices)), 1.3)
        for model in range(3)
        for indices in valid_steps(batch, model)
    }
    scores = batch.option_score

    def step_loss(i: StepIndex) -> float:
        score = sum(float(probability[i][a] * scores[i][a]) for a in range(4) if legal[i][a])
        return -score * (weights[i[:2]] if importance_weighted else 1.0)

    kwargs: Any = {"importance_weighted": importance_weighted, "max_importance_weight": 1.3}
    loss = expected_score_loss(out, batch, **kwargs)
    torch.testing.assert_close(loss.detach(), mean_over_steps(batch, step_loss))
    assert len({w for w in weights.values() if w < 1.3}) > 3
    assert set(gradients(out, loss)) == {"logits"}  # the weight is constant
    # Some heads have very low logits at illegal options, which need no score either.
    low = ModelOutput(out.logp, torch.where(legal, out.logits, -1e9))
    torch.testing.assert_close(expected_score_loss(low, batch, **kwargs), loss)


def test_expected_score_is_the_mean_policy_gradient() -> None:
    """Its gradient is that of -A log π, averaged over actions of the policy."""
    source = torch.Generator().manual_seed(26)
    raw, scores = torch.randn(2, 5, generator=source).double().unbind()
    raw.requires_grad_()
    out, batch = bandit(raw, option_score=scores.expand(1, 5, 1, 5))
    (exact,) = torch.autograd.grad(expected_score_loss(out, batch).sum(), raw)
    probability = raw.detach().softmax(-1)
    out, batch = bandit(raw, advantage=(5.0 * probability * scores).view(1, 5, 1))
    (sampled,) = torch.autograd.grad(policy_gradient_loss(out, batch, clip_mode="none").sum(), raw)
    torch.testing.assert_close(exact, sampled)

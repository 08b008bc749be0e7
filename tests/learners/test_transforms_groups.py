"""Advantages within groups: against loops, against formulas of TRL, and GRAO's algebra."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch, ModelOutput
from mores.agents.learning.losses import policy_gradient_loss
from mores.agents.learning.transforms.group_advantages import (
    grao_advantages,
    grpo_advantages,
    reinforce_advantages,
    rloo_advantages,
    with_group_advantages,
)
from mores.agents.learning.transforms.groups import SampleGroups
from tests.refusals import refused

DOUBLE = torch.float64


def ragged(seed: int, models: int = 3, samples: int = 9) -> tuple[Tensor, SampleGroups, Tensor]:
    """Scores in groups of any id and size, some of them invalid."""
    generator = torch.Generator().manual_seed(seed)
    group = torch.randint(-2, 3, (models, samples), generator=generator) * 1000
    valid = torch.rand(models, samples, generator=generator) < 0.8
    score = torch.randn(models, samples, generator=generator, dtype=DOUBLE)
    return torch.where(valid, score, float("nan")), SampleGroups.from_ids(group, valid), group


def members(groups: SampleGroups, group: Tensor) -> dict[tuple[int, int], list[int]]:
    """Members of each group of each model, by loops."""
    result: dict[tuple[int, int], list[int]] = {}
    for p in range(len(group)):
        for i in range(group.shape[1]):
            if groups.valid[p, i]:
                result.setdefault((p, int(group[p, i])), []).append(i)
    return result


@given(st.integers(0, 10**6))
def test_group_advantages_by_loops(seed: int) -> None:
    score, groups, group = ragged(seed)
    advantages = {
        "group": grpo_advantages(score, groups),
        "batch": grpo_advantages(score, groups, "batch"),
        "none": grpo_advantages(score, groups, "none"),
        "rloo": rloo_advantages(score, groups),
        "reinforce": reinforce_advantages(score, groups),
    }
    expected = {name: torch.zeros_like(score) for name in advantages}
    for (p, _), indices in members(groups, group).items():
        batch_scores = score[p][groups.valid[p]].numpy()
        own = score[p, indices].numpy()
        std = np.std(own, ddof=1) if len(own) > 1 else 0.0
        batch_std = np.std(batch_scores, ddof=1) if len(batch_scores) > 1 else 0.0
        for i, r in zip(indices, own, strict=True):
            expected["group"][p, i] = (r - own.mean()) / (std + 1e-4)
            expected["batch"][p, i] = (r - own.mean()) / (batch_std + 1e-4)
            expected["none"][p, i] = r - own.mean()
            if len(own) > 1:
                expected["rloo"][p, i] = r - (own.sum() - r) / (len(own) - 1)
            expected["reinforce"][p, i] = r - batch_scores.mean()
    for name in advantages:
        torch.testing.assert_close(advantages[name], expected[name], atol=1e-9, rtol=1e-9)


def test_formulas_of_trl_for_equal_groups() -> None:
    """TRL 1.16, GRPO (three scales) and RLOO, as its trainers compute them for one model."""
    rewards = torch.randn(24, generator=torch.Generator().manual_seed(3), dtype=DOUBLE)
    rows = rewards.view(-1, 6)  # four prompts of six generations
    groups = SampleGroups.from_ids((torch.arange(24) // 6)[None])
    centered = (rows - rows.mean(1, keepdim=True)).flatten()
    expected_advantages = {
        "group": centered / (rows.std(1).repeat_interleave(6) + 1e-4),
        "batch": centered / (rewards.std() + 1e-4),
        "none": centered,
    }
    for scale, expected in expected_advantages.items():
        torch.testing.assert_close(grpo_advantages(rewards[None], groups, scale)[0], expected)
    baseline = ((rows.sum(1, keepdim=True) - rows) / 5).flatten()
    torch.testing.assert_close(rloo_advantages(rewards[None], groups)[0], rewards - baseline)


def grao_objective(
    score: Tensor, logp: Tensor, demonstration: int, imitation_coef: float, regularization: float
) -> Tensor:
    """The paper's three terms of one group, written out."""
    advantage = (score - score.mean()) / (score.std() + 1e-4)
    generated = [i for i in range(len(score)) if i != demonstration]
    exploration = sum(advantage[i] * logp[i] for i in generated) / len(generated)
    contrast = sum(advantage[i] * (logp[i] - logp[demonstration]) for i in generated)
    imitation = advantage[demonstration] * logp[demonstration]
    return exploration + imitation_coef * imitation + regularization * contrast / len(generated)


def test_three_terms_of_grao_are_one() -> None:
    """Coefficients, `policy_gradient_loss` with them, and the paper's sum agree to 1e-6."""
    generator = torch.Generator().manual_seed(8)
    models, requests, generated, steps = 2, 3, 8, 4
    samples = requests * (generated + 1)
    score = torch.randn(models, samples, generator=generator, dtype=DOUBLE)
    per_step = torch.randn(models, samples, steps, generator=generator, dtype=DOUBLE)
    group = (torch.arange(samples) // (generated + 1)).expand(models, -1)
    is_demonstration = (torch.arange(samples) % (generated + 1) == 5).expand(models, -1)
    batch = FeedbackBatch(
        observation=torch.zeros(models, samples, steps, 1),
        action=torch.zeros(models, samples, steps, dtype=torch.int64),
        mask=torch.ones(models, samples, steps, dtype=torch.bool),
        reward=score[..., None],
        group=group,
        is_demonstration=is_demonstration,
    )
    batch = with_group_advantages(batch, "grao", imitation_coef=0.5, regularization_coef=0.6)
    loss = policy_gradient_loss(ModelOutput(per_step), batch, clip_mode="none", reduction="sample")
    logp = per_step.mean(-1)
    for p in range(models):
        rows = score[p].view(requests, -1), logp[p].view(requests, -1)
        terms = [grao_objective(s, j, 5, 0.5, 0.6) for s, j in zip(*rows, strict=True)]
        expected = torch.stack(terms).mean()
        assert abs(float(-loss[p] - expected)) < 1e-6
    # The derivation: (1 + l) / G of each answer, b + l / G of the demonstration.
    advantage = grpo_advantages(score, SampleGroups.from_ids(group))
    coef = torch.where(is_demonstration, 0.5 + 0.6 / generated, (1 + 0.6) / generated)
    coefficients = batch.require("advantage", "the test")[..., 0]
    torch.testing.assert_close(coefficients, coef * advantage * (generated + 1), atol=1e-6, rtol=0)


def test_grao_unlearns_a_bad_demonstration_and_is_grpo_without_one() -> None:
    score = torch.tensor([[1.0, 2.0, 3.0, -5.0], [1.0, 2.0, 3.0, 9.0]])
    groups = SampleGroups.from_ids(torch.zeros(2, 4, dtype=torch.int64))
    is_demonstration = torch.tensor([False, False, False, True]).expand(2, -1)
    coefficients = grao_advantages(score, groups, is_demonstration)
    assert coefficients[0, 3] < 0 < coefficients[1, 3]
    generated_only = grao_advantages(score, groups, torch.zeros(2, 4, dtype=torch.bool))
    torch.testing.assert_close(generated_only, grpo_advantages(score, groups))


def test_models_are_independent() -> None:
    score, groups, group = ragged(2)
    group = group.clone()
    group[1] = group[0]  # the same ids in two models are two groups
    groups = SampleGroups.from_ids(group, groups.valid)
    is_demonstration = score > 0
    functions = [
        grpo_advantages,
        rloo_advantages,
        reinforce_advantages,
        lambda s, g: grao_advantages(s, g, is_demonstration),
    ]
    for function in functions:
        advantages = function(score, groups)
        with_nan = score.clone()
        with_nan[1] = float("nan")
        assert torch.equal(function(with_nan, groups)[[0, 2]], advantages[[0, 2]])
    alone = SampleGroups(groups.group_index[:1], groups.valid[:1])
    assert torch.equal(grpo_advantages(score[:1], alone), grpo_advantages(score, groups)[:1])


@given(st.integers(0, 10**6), st.floats(0, 1))
def test_quantiles_within_groups_equal_numpy(seed: int, q: float) -> None:
    score, groups, group = ragged(seed)
    score = torch.where(groups.valid, score, -1e9)  # an invalid score would change a quantile
    quantiles = groups.quantile(torch.stack([score, -score], -1), q)
    for (p, _), indices in members(groups, group).items():
        for k, sign in enumerate((1, -1)):
            expected = np.quantile(sign * score[p, indices].numpy(), q)
            np.testing.assert_allclose(quantiles[p, indices, k].numpy(), expected, atol=1e-9)


def test_invalid_arguments() -> None:
    batch = FeedbackBatch(
        observation=torch.zeros(1, 2, 1, 1),
        action=torch.zeros(1, 2, 1, dtype=torch.int64),
        mask=torch.ones(1, 2, 1, dtype=torch.bool),
        reward=torch.zeros(1, 2, 2),
    )
    with refused("invalid_value", path="method"):
        with_group_advantages(batch, "grp")
    with refused("wrong_shape", path="reward"):
        with_group_advantages(batch, "grpo")
    with refused("missing", path="group"):
        with_group_advantages(batch, "grpo", batch.require("reward", "the test")[..., 0])
    with refused("invalid_value", path="scale_rewards"):
        grpo_advantages(
            torch.zeros(1, 2), SampleGroups.from_ids(torch.zeros(1, 2, dtype=torch.int64)), "bath"
        )
    with refused("out_of_range", path="q"):
        SampleGroups.from_ids(torch.zeros(1, 2, dtype=torch.int64)).quantile(torch.zeros(1, 2), 1.2)

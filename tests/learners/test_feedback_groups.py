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


def ragged(seed: int, policies: int = 3, samples: int = 9) -> tuple[Tensor, SampleGroups, Tensor]:
    """Scores in groups of any number and size, some of them not counted."""
    chance = torch.Generator().manual_seed(seed)
    group = torch.randint(-2, 3, (policies, samples), generator=chance) * 1000
    counted = torch.rand(policies, samples, generator=chance) < 0.8
    score = torch.randn(policies, samples, generator=chance, dtype=DOUBLE)
    return torch.where(counted, score, float("nan")), SampleGroups.from_ids(group, counted), group


def members(groups: SampleGroups, group: Tensor) -> dict[tuple[int, int], list[int]]:
    """Who is in each group of each policy, by loops."""
    found: dict[tuple[int, int], list[int]] = {}
    for p in range(len(group)):
        for i in range(group.shape[1]):
            if groups.valid[p, i]:
                found.setdefault((p, int(group[p, i])), []).append(i)
    return found


@given(st.integers(0, 10**6))
def test_group_advantages_by_loops(seed: int) -> None:
    score, groups, group = ragged(seed)
    found = {
        "group": grpo_advantages(score, groups),
        "batch": grpo_advantages(score, groups, "batch"),
        "none": grpo_advantages(score, groups, "none"),
        "rloo": rloo_advantages(score, groups),
        "reinforce": reinforce_advantages(score, groups),
    }
    expected = {name: torch.zeros_like(score) for name in found}
    for (p, _), who in members(groups, group).items():
        everybody = score[p][groups.valid[p]].numpy()
        own = score[p, who].numpy()
        spread = np.std(own, ddof=1) if len(own) > 1 else 0.0
        wide = np.std(everybody, ddof=1) if len(everybody) > 1 else 0.0
        for i, r in zip(who, own, strict=True):
            expected["group"][p, i] = (r - own.mean()) / (spread + 1e-4)
            expected["batch"][p, i] = (r - own.mean()) / (wide + 1e-4)
            expected["none"][p, i] = r - own.mean()
            if len(own) > 1:
                expected["rloo"][p, i] = r - (own.sum() - r) / (len(own) - 1)
            expected["reinforce"][p, i] = r - everybody.mean()
    for name in found:
        torch.testing.assert_close(found[name], expected[name], atol=1e-9, rtol=1e-9)


def test_the_formulas_of_trl_for_equal_groups() -> None:
    """TRL 1.16, GRPO (three scales) and RLOO, as its trainers compute them for one policy."""
    rewards = torch.randn(24, generator=torch.Generator().manual_seed(3), dtype=DOUBLE)
    rows = rewards.view(-1, 6)  # four prompts of six generations
    groups = SampleGroups.from_ids((torch.arange(24) // 6)[None])
    centred = (rows - rows.mean(1, keepdim=True)).flatten()
    theirs = {
        "group": centred / (rows.std(1).repeat_interleave(6) + 1e-4),
        "batch": centred / (rewards.std() + 1e-4),
        "none": centred,
    }
    for scale, expected in theirs.items():
        torch.testing.assert_close(grpo_advantages(rewards[None], groups, scale)[0], expected)
    baseline = ((rows.sum(1, keepdim=True) - rows) / 5).flatten()
    torch.testing.assert_close(rloo_advantages(rewards[None], groups)[0], rewards - baseline)


def grao_objective(
    score: Tensor, logp: Tensor, reference: int, imitation: float, regularisation: float
) -> Tensor:
    """The paper's three terms of one group, written out."""
    advantage = (score - score.mean()) / (score.std() + 1e-4)
    own = [i for i in range(len(score)) if i != reference]
    explore = sum(advantage[i] * logp[i] for i in own) / len(own)
    contrast = sum(advantage[i] * (logp[i] - logp[reference]) for i in own) / len(own)
    imitate = advantage[reference] * logp[reference]
    return explore + imitation * imitate + regularisation * contrast


def test_graos_three_terms_collapse() -> None:
    """Coefficients, the loss term `policy_gradient_loss` on them, and the paper's sum agree to 1e-6."""
    chance = torch.Generator().manual_seed(8)
    policies, requests, own, steps = 2, 3, 8, 4
    samples = requests * (own + 1)
    score = torch.randn(policies, samples, generator=chance, dtype=DOUBLE)
    per_step = torch.randn(policies, samples, steps, generator=chance, dtype=DOUBLE)
    group = (torch.arange(samples) // (own + 1)).expand(policies, -1)
    reference = (torch.arange(samples) % (own + 1) == 5).expand(policies, -1)
    batch = FeedbackBatch(
        observation=torch.zeros(policies, samples, steps, 1),
        action=torch.zeros(policies, samples, steps, dtype=torch.int64),
        mask=torch.ones(policies, samples, steps, dtype=torch.bool),
        reward=score[..., None],
        group=group,
        is_demonstration=reference,
    )
    ready = with_group_advantages(batch, "grao", imitation=0.5, regularisation=0.6)
    loss = policy_gradient_loss(ModelOutput(per_step), ready, clip_mode="none", reduction="sample")
    logp = per_step.mean(-1)
    for p in range(policies):
        rows = score[p].view(requests, -1), logp[p].view(requests, -1)
        terms = [grao_objective(s, j, 5, 0.5, 0.6) for s, j in zip(*rows, strict=True)]
        expected = torch.stack(terms).mean()
        assert abs(float(-loss[p] - expected)) < 1e-6
    # The derivation: (1 + l) / G of each answer, b + l / G of the demonstration.
    advantage = grpo_advantages(score, SampleGroups.from_ids(group))
    derived = torch.where(reference, 0.5 + 0.6 / own, (1 + 0.6) / own) * advantage * (own + 1)
    found = ready.require("advantage", "the test")[..., 0]
    torch.testing.assert_close(found, derived, atol=1e-6, rtol=0)


def test_grao_unlearns_a_bad_demonstration_and_is_grpo_without_one() -> None:
    score = torch.tensor([[1.0, 2.0, 3.0, -5.0], [1.0, 2.0, 3.0, 9.0]])
    groups = SampleGroups.from_ids(torch.zeros(2, 4, dtype=torch.int64))
    reference = torch.tensor([False, False, False, True]).expand(2, -1)
    found = grao_advantages(score, groups, reference)
    assert found[0, 3] < 0 < found[1, 3]
    alone = grao_advantages(score, groups, torch.zeros(2, 4, dtype=torch.bool))
    torch.testing.assert_close(alone, grpo_advantages(score, groups))


def test_a_policy_knows_nothing_of_its_neighbours() -> None:
    score, groups, group = ragged(2)
    group = group.clone()
    group[1] = group[0]  # the same numbers in two policies are two groups
    groups = SampleGroups.from_ids(group, groups.valid)
    reference = score > 0
    functions = [
        grpo_advantages,
        rloo_advantages,
        reinforce_advantages,
        lambda s, g: grao_advantages(s, g, reference),
    ]
    for function in functions:
        whole = function(score, groups)
        spoilt = score.clone()
        spoilt[1] = float("nan")
        assert torch.equal(function(spoilt, groups)[[0, 2]], whole[[0, 2]])
    alone = SampleGroups(groups.group_index[:1], groups.valid[:1])
    assert torch.equal(grpo_advantages(score[:1], alone), grpo_advantages(score, groups)[:1])


@given(st.integers(0, 10**6), st.floats(0, 1))
def test_quantiles_within_groups_are_numpys(seed: int, share: float) -> None:
    score, groups, group = ragged(seed)
    score = torch.where(groups.valid, score, -1e9)  # not counted, and low enough to be noticed
    found = groups.quantile(torch.stack([score, -score], -1), share)
    for (p, _), who in members(groups, group).items():
        for k, sign in enumerate((1, -1)):
            expected = np.quantile(sign * score[p, who].numpy(), share)
            np.testing.assert_allclose(found[p, who, k].numpy(), expected, atol=1e-9)


def test_what_a_user_may_get_wrong() -> None:
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
    with refused("invalid_value", path="scale"):
        grpo_advantages(
            torch.zeros(1, 2), SampleGroups.from_ids(torch.zeros(1, 2, dtype=torch.int64)), "bath"
        )
    with refused("out_of_range", path="share"):
        SampleGroups.from_ids(torch.zeros(1, 2, dtype=torch.int64)).quantile(torch.zeros(1, 2), 1.2)

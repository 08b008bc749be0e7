"""Masked evidence: hidden and visible features, and pairs with blind answers."""

from __future__ import annotations

import torch

from mores.agents.learning.batch import FeedbackBatch, ModelOutput
from mores.agents.learning.losses import preference_loss
from mores.agents.learning.transforms.evidence_masking import (
    mask_evidence,
    mask_parts,
    mask_random_features,
    mask_random_parts,
    pair_with_blind,
)
from mores.core.spaces import Box
from tests.refusals import refused

SPACE = Box.of(age=1, answers=3, intensity=2)


def batch_of(seed: int, samples: int = 4) -> FeedbackBatch:
    generator = torch.Generator().manual_seed(seed)
    return FeedbackBatch(
        observation=torch.randn(2, samples, 3, 6, generator=generator) + 10.0,
        action=torch.randint(0, 4, (2, samples, 3), generator=generator),
        mask=torch.arange(3) < torch.randint(1, 4, (2, samples, 1), generator=generator),
        old_logp=torch.randn(2, samples, 3, generator=generator),
        principal=torch.arange(samples).expand(2, -1),
    )


def test_only_named_parts_are_hidden() -> None:
    batch = batch_of(1)
    masked = mask_evidence(batch, mask_parts(SPACE, ["answers", "age"]))
    parts = {name: SPACE.read(masked.observation, name) for name in ("age", "answers", "intensity")}
    assert (parts["answers"] == 0).all() and (parts["age"] == 0).all()
    assert torch.equal(parts["intensity"], SPACE.read(batch.observation, "intensity"))
    assert masked.require("evidence_mask", "the test")[1, 2].tolist() == [False] * 4 + [True] * 2
    twice = mask_evidence(masked, mask_parts(SPACE, ["intensity"]))
    assert not twice.require("evidence_mask", "the test").any() and (twice.observation == 0).all()


def test_hidden_nan_becomes_zero() -> None:
    batch = batch_of(2)
    observation = batch.observation.clone()
    observation[..., 1:4] = float("nan")
    visible = mask_parts(SPACE, ["answers"])
    masked = mask_evidence(batch.replace(observation=observation), visible)
    assert (masked.observation[..., 1:4] == 0).all()


def test_random_features_are_hidden_equally_at_every_step() -> None:
    """40000 features, fraction .99: the share is within four standard errors; others never."""
    uniform = torch.rand(2, 4000, 6, generator=torch.Generator().manual_seed(3))
    maskable = ~mask_parts(SPACE, ["answers", "intensity"])
    visible = mask_random_features(uniform, 0.99, maskable)
    assert visible[..., 0].all()
    assert abs(float(visible[..., 1:].float().mean()) - 0.01) < 4 * (0.01 * 0.99 / 40000) ** 0.5
    assert not mask_random_features(uniform, 1.0).any() and mask_random_features(uniform, 0.0).all()
    masked = mask_evidence(batch_of(4), mask_random_features(uniform[:, :4], 0.5))
    hidden = masked.observation == 0
    assert torch.equal(hidden, hidden[:, :, :1].expand_as(hidden))
    assert hidden.any() and not hidden.all()


def test_parts_are_hidden_as_a_whole_at_their_own_rates() -> None:
    uniform = torch.tensor([[[0.2, 0.9], [0.9, 0.2]]])
    visible = mask_random_parts(uniform, SPACE, {"intensity": 0.5, "answers": 0.3})
    assert visible[0, 0].tolist() == [True, True, True, True, False, False]
    assert visible[0, 1].tolist() == [True, False, False, False, True, True]


def test_full_answers_are_preferred_to_blind_ones() -> None:
    batch = batch_of(5)
    blind = batch.action.clone()
    blind[:, 1] = (blind[:, 1] + 1) % 4  # another action
    blind[..., 2] = torch.where(batch.mask[..., 2], blind[..., 2], blind[..., 2] + 1)  # padding
    pairs = pair_with_blind(batch, blind)
    assert torch.equal(pairs.action[:, 0::2], batch.action)
    assert torch.equal(pairs.action[:, 1::2], blind)
    assert torch.equal(pairs.observation[:, 1::2], batch.observation), "both are full observations"
    assert pairs.require("pair_weight", "the test").tolist() == [[0.0, 1.0, 0.0, 0.0]] * 2
    assert pairs.require("principal", "the test")[0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert pairs.old_logp is None, "the probability of another action"
    logp = torch.zeros(2, 8, 3, requires_grad=True)
    preference_loss(ModelOutput(logp), pairs, score_type="sum_logp").sum().backward()
    assert logp.grad is not None
    grad = logp.grad.sum(-1)
    assert (grad[:, 2] < 0).all() and (grad[:, 3] > 0).all()  # descent raises the full answer
    assert (grad[:, [0, 1, 4, 5, 6, 7]] == 0).all()


def test_vector_actions_are_equal_only_if_all_components_are() -> None:
    action = torch.zeros(1, 2, 1, 3)
    batch = FeedbackBatch(
        observation=torch.zeros(1, 2, 1, 6),
        action=action,
        mask=torch.ones(1, 2, 1, dtype=torch.bool),
    )
    blind = action.clone()
    blind[0, 1, 0, 2] = 0.5
    assert pair_with_blind(batch, blind).require("pair_weight", "the test").tolist() == [[0.0, 1.0]]


def test_invalid_arguments() -> None:
    uniform = torch.zeros(2, 4, 1)
    with refused("unknown_name", path="intensty"):
        mask_parts(SPACE, ["intensty"])
    with refused("wrong_shape", path="uniform"):
        mask_random_parts(uniform, SPACE, {"intensity": 0.1, "age": 0.1})
    with refused("out_of_range", path="rates.age"):
        mask_random_parts(uniform, SPACE, {"age": 1.1})
    with refused("out_of_range", path="fraction"):
        mask_random_features(torch.zeros(2, 4, 6), -0.1)
    with refused("wrong_shape", path="blind_action"):
        pair_with_blind(batch_of(1), torch.zeros(2, 4, 2))
    tokens = batch_of(1).replace(observation=torch.zeros(2, 4, 3, dtype=torch.int64))
    with refused("wrong_type", path="observation"):
        mask_evidence(tokens, mask_parts(SPACE, []))

"""Hidden evidence: what is hidden and what is not, and pairs of seeing and blind answers."""

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
from mores.core.environment import Box
from tests.refusals import refused

SEES = Box.of(age=1, answers=3, voice=2)


def batch_of(seed: int, samples: int = 4) -> FeedbackBatch:
    chance = torch.Generator().manual_seed(seed)
    return FeedbackBatch(
        observation=torch.randn(2, samples, 3, 6, generator=chance) + 10.0,
        action=torch.randint(0, 4, (2, samples, 3), generator=chance),
        mask=torch.arange(3) < torch.randint(1, 4, (2, samples, 1), generator=chance),
        old_logp=torch.randn(2, samples, 3, generator=chance),
        principal=torch.arange(samples).expand(2, -1),
    )


def test_named_parts_are_hidden_and_nothing_else() -> None:
    batch = batch_of(1)
    found = mask_evidence(batch, mask_parts(SEES, ["answers", "age"]))
    assert (SEES.read(found.observation, "answers") == 0).all()
    assert (SEES.read(found.observation, "age") == 0).all()
    assert torch.equal(SEES.read(found.observation, "voice"), SEES.read(batch.observation, "voice"))
    assert found.require("evidence", "the test")[1, 2].tolist() == [False] * 4 + [True] * 2
    again = mask_evidence(found, mask_parts(SEES, ["voice"]))
    assert not again.require("evidence", "the test").any() and (again.observation == 0).all()


def test_what_is_hidden_may_be_anything() -> None:
    batch = batch_of(2)
    seen = batch.observation.clone()
    seen[..., 1:4] = float("nan")
    hidden = mask_parts(SEES, ["answers"])
    assert torch.equal(
        mask_evidence(batch.replace(observation=seen), hidden).observation[..., 1:4] == 0,
        torch.ones(2, 4, 3, 3, dtype=torch.bool),
    )


def test_a_share_of_the_evidence_is_hidden_in_every_step_alike() -> None:
    """40000 numbers, share .99: hidden ones within four standard errors; never the rest."""
    uniform = torch.rand(2, 4000, 6, generator=torch.Generator().manual_seed(3))
    among = ~mask_parts(SEES, ["answers", "voice"])
    visible = mask_random_features(uniform, 0.99, among)
    assert visible[..., 0].all()
    assert abs(float(visible[..., 1:].float().mean()) - 0.01) < 4 * (0.01 * 0.99 / 40000) ** 0.5
    assert not mask_random_features(uniform, 1.0).any() and mask_random_features(uniform, 0.0).all()
    few = mask_evidence(batch_of(4), mask_random_features(uniform[:, :4], 0.5))
    gone = few.observation == 0
    assert torch.equal(gone, gone[:, :, :1].expand_as(gone)) and gone.any() and not gone.all()


def test_parts_are_missing_as_a_whole_at_their_own_rates() -> None:
    uniform = torch.tensor([[[0.2, 0.9], [0.9, 0.2]]])
    visible = mask_random_parts(uniform, SEES, {"voice": 0.5, "answers": 0.3})
    assert visible[0, 0].tolist() == [True, True, True, True, False, False]
    assert visible[0, 1].tolist() == [True, False, False, False, True, True]


def test_seeing_answers_win_against_blind_ones() -> None:
    batch = batch_of(5)
    blind = batch.action.clone()
    blind[:, 1] = (blind[:, 1] + 1) % 4  # another act
    blind[..., 2] = torch.where(batch.mask[..., 2], blind[..., 2], blind[..., 2] + 1)  # no act
    found = pair_with_blind(batch, blind)
    assert torch.equal(found.action[:, 0::2], batch.action)
    assert torch.equal(found.action[:, 1::2], blind)
    assert torch.equal(found.observation[:, 1::2], batch.observation), (
        "both are judged on the full sight"
    )
    assert found.require("pair_weight", "the test").tolist() == [[0.0, 1.0, 0.0, 0.0]] * 2
    assert found.require("principal", "the test")[0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert found.old_logp is None, "the probability of another act"
    logp = torch.zeros(2, 8, 3, requires_grad=True)
    preference_loss(ModelOutput(logp), found, score_type="sum_logp").sum().backward()
    assert logp.grad is not None
    pulled = logp.grad.sum(-1)
    assert (pulled[:, 2] < 0).all() and (pulled[:, 3] > 0).all()  # descent raises the seeing one
    assert (pulled[:, [0, 1, 4, 5, 6, 7]] == 0).all()


def test_acts_of_several_numbers_are_the_same_only_if_all_are() -> None:
    acted = torch.zeros(1, 2, 1, 3)
    batch = FeedbackBatch(
        observation=torch.zeros(1, 2, 1, 6),
        action=acted,
        mask=torch.ones(1, 2, 1, dtype=torch.bool),
    )
    blind = acted.clone()
    blind[0, 1, 0, 2] = 0.5
    assert pair_with_blind(batch, blind).require("pair_weight", "the test").tolist() == [[0.0, 1.0]]


def test_what_a_user_may_get_wrong() -> None:
    uniform = torch.zeros(2, 4, 1)
    with refused("unknown_name", path="voise"):
        mask_parts(SEES, ["voise"])
    with refused("wrong_shape", path="uniform"):
        mask_random_parts(uniform, SEES, {"voice": 0.1, "age": 0.1})
    with refused("out_of_range", path="rates.age"):
        mask_random_parts(uniform, SEES, {"age": 1.1})
    with refused("out_of_range", path="share"):
        mask_random_features(torch.zeros(2, 4, 6), -0.1)
    with refused("wrong_shape", path="blind"):
        pair_with_blind(batch_of(1), torch.zeros(2, 4, 2))
    tokens = batch_of(1).replace(observation=torch.zeros(2, 4, 3, dtype=torch.int64))
    with refused("wrong_type", path="seen"):
        mask_evidence(tokens, mask_parts(SEES, []))

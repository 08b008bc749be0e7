"""Hidden evidence: what is hidden and what is not, and pairs of seeing and blind answers."""

from __future__ import annotations

import torch

from mores.agents.learning.batch import FeedbackBatch, Output
from mores.agents.learning.losses import pair
from mores.agents.learning.transforms.evidence_masking import (
    against_blind,
    hide_evidence,
    without_parts,
    without_share,
    without_some_parts,
)
from mores.core.environment import Box
from tests.refusals import refused

SEES = Box.of(age=1, answers=3, voice=2)


def batch_of(seed: int, samples: int = 4) -> FeedbackBatch:
    chance = torch.Generator().manual_seed(seed)
    return FeedbackBatch(
        seen=torch.randn(2, samples, 3, 6, generator=chance) + 10.0,
        acted=torch.randint(0, 4, (2, samples, 3), generator=chance),
        mask=torch.arange(3) < torch.randint(1, 4, (2, samples, 1), generator=chance),
        old_logp=torch.randn(2, samples, 3, generator=chance),
        principal=torch.arange(samples).expand(2, -1),
    )


def test_named_parts_are_hidden_and_nothing_else() -> None:
    batch = batch_of(1)
    found = hide_evidence(batch, without_parts(SEES, ["answers", "age"]))
    assert (SEES.read(found.seen, "answers") == 0).all()
    assert (SEES.read(found.seen, "age") == 0).all()
    assert torch.equal(SEES.read(found.seen, "voice"), SEES.read(batch.seen, "voice"))
    assert found.need("evidence", "the test")[1, 2].tolist() == [False] * 4 + [True] * 2
    again = hide_evidence(found, without_parts(SEES, ["voice"]))
    assert not again.need("evidence", "the test").any() and (again.seen == 0).all()


def test_what_is_hidden_may_be_anything() -> None:
    batch = batch_of(2)
    seen = batch.seen.clone()
    seen[..., 1:4] = float("nan")
    hidden = without_parts(SEES, ["answers"])
    assert torch.equal(
        hide_evidence(batch.replace(seen=seen), hidden).seen[..., 1:4] == 0,
        torch.ones(2, 4, 3, 3, dtype=torch.bool),
    )


def test_a_share_of_the_evidence_is_hidden_in_every_step_alike() -> None:
    """40000 numbers, share .99: hidden ones within four standard errors; never the rest."""
    uniform = torch.rand(2, 4000, 6, generator=torch.Generator().manual_seed(3))
    among = ~without_parts(SEES, ["answers", "voice"])
    visible = without_share(uniform, 0.99, among)
    assert visible[..., 0].all()
    assert abs(float(visible[..., 1:].float().mean()) - 0.01) < 4 * (0.01 * 0.99 / 40000) ** 0.5
    assert not without_share(uniform, 1.0).any() and without_share(uniform, 0.0).all()
    few = hide_evidence(batch_of(4), without_share(uniform[:, :4], 0.5))
    gone = few.seen == 0
    assert torch.equal(gone, gone[:, :, :1].expand_as(gone)) and gone.any() and not gone.all()


def test_parts_are_missing_as_a_whole_at_their_own_rates() -> None:
    uniform = torch.tensor([[[0.2, 0.9], [0.9, 0.2]]])
    visible = without_some_parts(uniform, SEES, {"voice": 0.5, "answers": 0.3})
    assert visible[0, 0].tolist() == [True, True, True, True, False, False]
    assert visible[0, 1].tolist() == [True, False, False, False, True, True]


def test_seeing_answers_win_against_blind_ones() -> None:
    batch = batch_of(5)
    blind = batch.acted.clone()
    blind[:, 1] = (blind[:, 1] + 1) % 4  # another act
    blind[..., 2] = torch.where(batch.mask[..., 2], blind[..., 2], blind[..., 2] + 1)  # no act
    found = against_blind(batch, blind)
    assert torch.equal(found.acted[:, 0::2], batch.acted)
    assert torch.equal(found.acted[:, 1::2], blind)
    assert torch.equal(found.seen[:, 1::2], batch.seen), "both are judged on the full sight"
    assert found.need("pair_weight", "the test").tolist() == [[0.0, 1.0, 0.0, 0.0]] * 2
    assert found.need("principal", "the test")[0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert found.old_logp is None, "the probability of another act"
    logp = torch.zeros(2, 8, 3, requires_grad=True)
    pair(Output(logp), found, score="sum_logp").sum().backward()
    assert logp.grad is not None
    pulled = logp.grad.sum(-1)
    assert (pulled[:, 2] < 0).all() and (pulled[:, 3] > 0).all()  # descent raises the seeing one
    assert (pulled[:, [0, 1, 4, 5, 6, 7]] == 0).all()


def test_acts_of_several_numbers_are_the_same_only_if_all_are() -> None:
    acted = torch.zeros(1, 2, 1, 3)
    batch = FeedbackBatch(
        seen=torch.zeros(1, 2, 1, 6), acted=acted, mask=torch.ones(1, 2, 1, dtype=torch.bool)
    )
    blind = acted.clone()
    blind[0, 1, 0, 2] = 0.5
    assert against_blind(batch, blind).need("pair_weight", "the test").tolist() == [[0.0, 1.0]]


def test_what_a_user_may_get_wrong() -> None:
    uniform = torch.zeros(2, 4, 1)
    with refused("unknown_name", path="voise"):
        without_parts(SEES, ["voise"])
    with refused("wrong_shape", path="uniform"):
        without_some_parts(uniform, SEES, {"voice": 0.1, "age": 0.1})
    with refused("out_of_range", path="rates.age"):
        without_some_parts(uniform, SEES, {"age": 1.1})
    with refused("out_of_range", path="share"):
        without_share(torch.zeros(2, 4, 6), -0.1)
    with refused("wrong_shape", path="blind"):
        against_blind(batch_of(1), torch.zeros(2, 4, 2))
    tokens = batch_of(1).replace(seen=torch.zeros(2, 4, 3, dtype=torch.int64))
    with refused("wrong_type", path="seen"):
        hide_evidence(tokens, without_parts(SEES, []))

"""Whom to believe: the theorem, what EM must do, and who is left alone."""

from __future__ import annotations

import torch
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch
from mores.agents.learning.losses import LabelLosses
from mores.agents.learning.losses.preference import reliability_weighted_loss
from mores.agents.learning.transforms.annotator_reliability import (
    label_correct_probability,
    preference_probability,
    update_reliability,
    update_reliability_from_batch,
    with_reliability,
)
from tests.refusals import refused

NOISE = (0.0, 0.1, 0.2, 0.3, 0.4)


def noisy_pairs(seed: int, flipped: Tensor, scale: float, pairs: int) -> tuple[LabelLosses, Tensor]:
    """Boltzmann labels of linear rewards in 10 dimensions, then flipped; exact losses of them.

    `flipped`: the share of labels that are turned over, of each pair or for all.
    """
    chance = torch.Generator().manual_seed(seed)
    policies = len(flipped)
    direction = torch.nn.functional.normalize(torch.randn(policies, 10, generator=chance), dim=-1)
    difference = torch.randn(policies, pairs, 10, generator=chance)
    margin = scale * (difference * direction[:, None]).sum(-1)
    first_wins = torch.rand(policies, pairs, generator=chance) < torch.sigmoid(margin)
    right = torch.rand(policies, pairs, generator=chance) >= flipped
    stated = torch.where(first_wins == right, margin, -margin)
    losses = (-torch.nn.functional.logsigmoid(s) for s in (stated, -stated))
    return LabelLosses(*losses), right


def log_likelihood(losses: LabelLosses, reliability: Tensor) -> Tensor:
    """Of what was said, whoever was right."""
    p = preference_probability(losses)
    return (p * reliability + (1 - p) * (1 - reliability)).log().sum(1)


def test_reliability_comes_to_rest_at_the_truth() -> None:
    """Theorem 4.1: p exact, all pairs at once. n = 4000, scale 4, within .02; seed 31.

    Over 20 seeds the estimate's deviation is .005 to .012, rising with the noise: a bias of .04
    would be noticed with any seed.
    """
    flipped = torch.tensor(NOISE)[:, None]
    losses, _ = noisy_pairs(31, flipped, 4.0, 4000)
    nobody_signed = torch.zeros(len(NOISE), 4000, dtype=torch.int64)
    for start in (0.6, 0.9):
        eta = torch.full((len(NOISE), 1), start)
        reached = [log_likelihood(losses, eta)]
        for _ in range(300):
            right = label_correct_probability(losses, eta.expand(-1, 4000))
            eta = update_reliability(eta, right, nobody_signed, step_size=1.0)
            reached.append(log_likelihood(losses, eta))
        torch.testing.assert_close(eta, 1.0 - flipped, atol=0.02, rtol=0)
        rise = torch.stack(reached).diff(dim=0)
        assert (rise > -0.01).all(), "EM never makes what was said less likely (float32)"


def test_each_annotator_is_told_apart() -> None:
    """Reliability .95, .75 and .55, 4000 labels each, within .03 by small steps; seed 32."""
    truth = torch.tensor([0.95, 0.75, 0.55])
    who = torch.arange(12000).remainder(3)[None]
    losses, _ = noisy_pairs(32, 1.0 - truth[who], 4.0, 12000)
    eta = torch.full((1, 3), 0.9)
    for _ in range(300):
        eta = update_reliability(
            eta, label_correct_probability(losses, eta.gather(1, who)), who, step_size=0.1
        )
    torch.testing.assert_close(eta[0], truth, atol=0.03, rtol=0)


def test_it_finds_the_labels_that_were_flipped() -> None:
    """Believed labels are right as often as is believed: in bins of belief, within .05; seed 33."""
    losses, right = noisy_pairs(33, torch.tensor([[0.3]]), 4.0, 20000)
    believed_right = label_correct_probability(losses, torch.full((1, 20000), 0.7))
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        inside = (believed_right >= low) & (believed_right < low + 0.2)
        gap = believed_right[inside].mean() - right[inside].float().mean()
        assert abs(float(gap)) < 0.05


def test_the_posterior_is_bayes_and_the_robust_term_uses_it() -> None:
    forward = torch.tensor([[0.1, 2.0, 0.7]], requires_grad=True)
    losses = LabelLosses(forward, torch.tensor([[1.0, 0.3, 0.7]]))
    eta = torch.tensor([[0.9, 0.8, 0.55]])
    p = preference_probability(losses)
    right = label_correct_probability(losses, eta)
    torch.testing.assert_close(right, p * eta / (p * eta + (1 - p) * (1 - eta)))
    assert not right.requires_grad
    torch.testing.assert_close(
        reliability_weighted_loss(losses, eta), -(right * p.log() + (1 - right) * (1 - p).log())
    )


def pair_batch(annotator: Tensor | None, weight: Tensor | None = None) -> FeedbackBatch:
    return FeedbackBatch(
        observation=torch.zeros(2, 6, 1, 1),
        action=torch.zeros(2, 6, 1, dtype=torch.int64),
        mask=torch.ones(2, 6, 1, dtype=torch.bool),
        pairs=torch.tensor([[[0, 1], [2, 3], [4, 5]], [[0, 1], [2, 3], [-1, -1]]]),
        annotator=annotator,
        pair_weight=weight,
    )


def test_only_annotators_of_the_batch_move_each_in_its_own_policy() -> None:
    """A pair that is not there has an annotator that means nothing; NaN stays where it is."""
    batch = pair_batch(torch.tensor([[0, 2, 2], [1, 1, -7]]))
    eta = torch.full((2, 3), 0.9)
    nan = float("nan")
    losses = LabelLosses(
        torch.tensor([[0.1, 3.0, 3.0], [0.1, 0.1, nan]]),
        torch.tensor([[3.0, 0.1, 0.1], [3.0, 3.0, nan]]),
    )
    found = update_reliability_from_batch(eta, batch, losses)
    right = label_correct_probability(losses, torch.full((2, 3), 0.9))
    expected = eta.clone()
    expected[0, 0] = 0.9 * 0.9 + 0.1 * right[0, 0]
    expected[0, 2] = 0.9 * 0.9 + 0.1 * right[0, 1:].mean()
    expected[1, 1] = 0.9 * 0.9 + 0.1 * right[1, :2].mean()
    torch.testing.assert_close(found, expected)
    assert found[0, 2] < 0.9 < found[0, 0]
    losses.given[0, 0] = nan
    assert update_reliability_from_batch(eta, batch, losses)[1].equal(found[1])
    weightless = pair_batch(batch.annotator, torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]))
    assert update_reliability_from_batch(eta, weightless, losses)[0, 2] == 0.9


def test_bounds_and_what_pair_terms_are_given() -> None:
    batch = pair_batch(None)
    sure = LabelLosses(torch.full((2, 3), 50.0), torch.zeros(2, 3))
    eta = torch.tensor([[0.9], [0.7]])
    assert update_reliability_from_batch(eta, batch, sure, step_size=1.0).tolist() == [[0.5], [0.5]]
    highest = update_reliability_from_batch(eta, batch, LabelLosses(*sure[::-1]), step_size=1.0)
    torch.testing.assert_close(highest, torch.full((2, 1), 0.999))
    given = with_reliability(batch, eta).require("reliability", "the test")
    torch.testing.assert_close(given, eta.expand(-1, 3))


def test_what_a_user_may_get_wrong() -> None:
    eta = torch.full((2, 2), 0.9)
    with refused("missing", path="annotator"):
        with_reliability(pair_batch(None), eta)
    with refused("out_of_range", path="annotator"):
        with_reliability(pair_batch(torch.tensor([[0, 1, 2], [0, 0, 0]])), eta)
    zeros = torch.zeros(2, 3)
    with refused("out_of_range", path="rate"):
        update_reliability(eta, zeros, zeros.long(), step_size=2.0)
    with refused("out_of_range", path="highest"):
        update_reliability(eta, zeros, zeros.long(), maximum=1.0)

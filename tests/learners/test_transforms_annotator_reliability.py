"""Annotator reliability: the theorem, properties of EM, and unchanged annotators."""

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


def noisy_pairs(seed: int, noise: Tensor, scale: float, pairs: int) -> tuple[LabelLosses, Tensor]:
    """Exact losses of Boltzmann labels of linear rewards in 10 dimensions, some of them flipped.

    `noise`: the share of flipped labels, of each pair or for all. Returns which are correct, too.
    """
    generator = torch.Generator().manual_seed(seed)
    models = len(noise)
    direction = torch.nn.functional.normalize(torch.randn(models, 10, generator=generator), dim=-1)
    difference = torch.randn(models, pairs, 10, generator=generator)
    margin = scale * (difference * direction[:, None]).sum(-1)
    first_wins = torch.rand(models, pairs, generator=generator) < torch.sigmoid(margin)
    correct = torch.rand(models, pairs, generator=generator) >= noise
    lead = torch.where(first_wins == correct, margin, -margin)
    losses = (-torch.nn.functional.logsigmoid(x) for x in (lead, -lead))
    return LabelLosses(*losses), correct


def log_likelihood(losses: LabelLosses, reliability: Tensor) -> Tensor:
    """Log-likelihood of the labels, correct or not."""
    p = preference_probability(losses)
    return (p * reliability + (1 - p) * (1 - reliability)).log().sum(1)


def test_reliability_converges_to_the_truth() -> None:
    """Theorem 4.1: p exact, all pairs at once. n = 4000, scale 4, within .02; seed 31.

    Over 20 seeds the estimate's deviation is .005 to .012, increasing with the noise: a bias of .04
    would be detected with any seed.
    """
    noise = torch.tensor(NOISE)[:, None]
    losses, _ = noisy_pairs(31, noise, 4.0, 4000)
    annotator = torch.zeros(len(NOISE), 4000, dtype=torch.int64)
    for start in (0.6, 0.9):
        eta = torch.full((len(NOISE), 1), start)
        likelihoods = [log_likelihood(losses, eta)]
        for _ in range(300):
            correct = label_correct_probability(losses, eta.expand(-1, 4000))
            eta = update_reliability(eta, correct, annotator, step_size=1.0)
            likelihoods.append(log_likelihood(losses, eta))
        torch.testing.assert_close(eta, 1.0 - noise, atol=0.02, rtol=0)
        increase = torch.stack(likelihoods).diff(dim=0)
        assert (increase > -0.01).all(), "EM never decreases the likelihood (float32)"


def test_each_annotator_has_an_own_estimate() -> None:
    """Reliability .95, .75 and .55, 4000 labels each, within .03 by small steps; seed 32."""
    truth = torch.tensor([0.95, 0.75, 0.55])
    annotator = torch.arange(12000).remainder(3)[None]
    losses, _ = noisy_pairs(32, 1.0 - truth[annotator], 4.0, 12000)
    eta = torch.full((1, 3), 0.9)
    for _ in range(300):
        correct = label_correct_probability(losses, eta.gather(1, annotator))
        eta = update_reliability(eta, correct, annotator, step_size=0.1)
    torch.testing.assert_close(eta[0], truth, atol=0.03, rtol=0)


def test_probabilities_of_correct_labels_are_calibrated() -> None:
    """In bins of the probability, the share of correct labels is within .05 of it; seed 33."""
    losses, correct = noisy_pairs(33, torch.tensor([[0.3]]), 4.0, 20000)
    probability = label_correct_probability(losses, torch.full((1, 20000), 0.7))
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        in_bin = (probability >= low) & (probability < low + 0.2)
        gap = probability[in_bin].mean() - correct[in_bin].float().mean()
        assert abs(float(gap)) < 0.05


def test_the_posterior_is_bayes_and_weighs_the_loss() -> None:
    given = torch.tensor([[0.1, 2.0, 0.7]], requires_grad=True)
    losses = LabelLosses(given, torch.tensor([[1.0, 0.3, 0.7]]))
    eta = torch.tensor([[0.9, 0.8, 0.55]])
    p = preference_probability(losses)
    correct = label_correct_probability(losses, eta)
    torch.testing.assert_close(correct, p * eta / (p * eta + (1 - p) * (1 - eta)))
    assert not correct.requires_grad
    expected = -(correct * p.log() + (1 - correct) * (1 - p).log())
    torch.testing.assert_close(reliability_weighted_loss(losses, eta), expected)


def pair_batch(annotator: Tensor | None, weight: Tensor | None = None) -> FeedbackBatch:
    return FeedbackBatch(
        observation=torch.zeros(2, 6, 1, 1),
        action=torch.zeros(2, 6, 1, dtype=torch.int64),
        mask=torch.ones(2, 6, 1, dtype=torch.bool),
        pairs=torch.tensor([[[0, 1], [2, 3], [4, 5]], [[0, 1], [2, 3], [-1, -1]]]),
        annotator=annotator,
        pair_weight=weight,
    )


def test_only_annotators_of_the_batch_change_and_only_in_their_model() -> None:
    """The annotator of an invalid pair is ignored; NaN stays within its model."""
    batch = pair_batch(torch.tensor([[0, 2, 2], [1, 1, -7]]))
    eta = torch.full((2, 3), 0.9)
    nan = float("nan")
    losses = LabelLosses(
        torch.tensor([[0.1, 3.0, 3.0], [0.1, 0.1, nan]]),
        torch.tensor([[3.0, 0.1, 0.1], [3.0, 3.0, nan]]),
    )
    updated = update_reliability_from_batch(eta, batch, losses)
    correct = label_correct_probability(losses, torch.full((2, 3), 0.9))
    expected = eta.clone()
    expected[0, 0] = 0.9 * 0.9 + 0.1 * correct[0, 0]
    expected[0, 2] = 0.9 * 0.9 + 0.1 * correct[0, 1:].mean()
    expected[1, 1] = 0.9 * 0.9 + 0.1 * correct[1, :2].mean()
    torch.testing.assert_close(updated, expected)
    assert updated[0, 2] < 0.9 < updated[0, 0]
    losses.given[0, 0] = nan
    assert update_reliability_from_batch(eta, batch, losses)[1].equal(updated[1])
    weightless = pair_batch(batch.annotator, torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]))
    assert update_reliability_from_batch(eta, weightless, losses)[0, 2] == 0.9


def test_limits_and_the_reliability_of_pairs() -> None:
    batch = pair_batch(None)
    wrong = LabelLosses(torch.full((2, 3), 50.0), torch.zeros(2, 3))
    eta = torch.tensor([[0.9], [0.7]])
    lowest = update_reliability_from_batch(eta, batch, wrong, step_size=1.0)
    assert lowest.tolist() == [[0.5], [0.5]]
    highest = update_reliability_from_batch(eta, batch, LabelLosses(*wrong[::-1]), step_size=1.0)
    torch.testing.assert_close(highest, torch.full((2, 1), 0.999))
    reliability = with_reliability(batch, eta).require("reliability", "the test")
    torch.testing.assert_close(reliability, eta.expand(-1, 3))


def test_invalid_arguments() -> None:
    eta = torch.full((2, 2), 0.9)
    with refused("missing", path="annotator"):
        with_reliability(pair_batch(None), eta)
    with refused("out_of_range", path="annotator"):
        with_reliability(pair_batch(torch.tensor([[0, 1, 2], [0, 0, 0]])), eta)
    zeros = torch.zeros(2, 3)
    with refused("out_of_range", path="step_size"):
        update_reliability(eta, zeros, zeros.long(), step_size=2.0)
    with refused("out_of_range", path="maximum"):
        update_reliability(eta, zeros, zeros.long(), maximum=1.0)

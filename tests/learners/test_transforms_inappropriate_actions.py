"""CUT: the rule, its weights and loss, and why a critique must have content."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch, ModelOutput
from mores.agents.learning.losses import nll_loss, unlikelihood_loss
from mores.agents.learning.transforms.inappropriate_actions import (
    detection_scores,
    inappropriate_steps,
    with_inappropriate_steps,
)
from tests.refusals import refused


def batch_of(desirable: Tensor, steps: int) -> FeedbackBatch:
    models, samples = desirable.shape
    return FeedbackBatch(
        observation=torch.zeros(models, samples, steps, 1),
        action=torch.zeros(models, samples, steps, dtype=torch.int64),
        mask=torch.ones(models, samples, steps, dtype=torch.bool),
        desirable=desirable,
    )


def test_marks_and_loss_equal_the_paper() -> None:
    """U by probabilities (and by the authors' ratio), and L1 of a bad sample, written out."""
    source = torch.Generator().manual_seed(4)
    plain, critiqued = torch.rand(2, 2, 3, 6, generator=source, dtype=torch.float64) * 0.98 + 0.01
    batch = batch_of(torch.tensor([[False, True, False]] * 2), 6)
    batch = batch.replace(mask=batch.mask & (torch.arange(6) < 5))
    marked_batch = with_inappropriate_steps(
        batch,
        plain.log(),
        critiqued.log(),
        ratio_threshold=1.2,
        unlikelihood_coef=0.5,
        unlikelihood_exponent=2.0,
    )
    marked = marked_batch.require("inappropriate", "the test")
    candidates = batch.mask & torch.tensor([True, False, True])[:, None]
    assert torch.equal(marked, candidates & (critiqued - 1.2 * plain > 0))
    assert torch.equal(marked, candidates & (critiqued / plain > 1.2))
    out = ModelOutput(plain.log())
    loss = nll_loss(out, marked_batch, step_subset="appropriate", subset="undesirable")
    loss = loss + unlikelihood_loss(out, marked_batch, subset="undesirable")
    for p in range(2):
        total, count = 0.0, 0
        for s, t in itertools.product((0, 2), range(5)):
            q, r = float(plain[p, s, t]), float(critiqued[p, s, t])
            inappropriate = r - 1.2 * q > 0
            total -= 0.5 * r**2 * math.log(1 - q) if inappropriate else math.log(q)
            count += 1
        assert math.isclose(float(loss[p]), total / count, rel_tol=1e-6)


def test_tiny_probabilities_are_compared_by_logarithms() -> None:
    """exp(-200) is 0 in float32, so ratios of such probabilities need logarithms."""
    plain = torch.tensor([[[-200.0, -200.0]]])
    critiqued = plain + torch.tensor([math.log(1.3), math.log(1.05)])
    mask, bad = torch.ones(1, 1, 2, dtype=torch.bool), torch.tensor([[True]])
    assert inappropriate_steps(plain, critiqued, mask, bad).tolist() == [[[True, False]]]


PROBABILITY = {0: 0.36, 1: 0.36, 2: 0.2, 3: 0.04, 4: 0.04}  # of actions; 3 and 4 are bad
BAD, LENGTH = (3, 4), 6


def bayes(kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities of all bad sequences, plain and given the critique, and the true marks.

    A policy that has learned the meaning of critiques knows p(action | prefix, critique) exactly. A
    critique states that some action was bad (`bit`), or the counts of bad actions (`content`).
    """
    sequences = list(itertools.product(PROBABILITY, repeat=LENGTH))

    def critique(sequence: tuple[int, ...]) -> tuple[int, ...] | bool:
        counts = tuple(sequence.count(action) for action in BAD)
        return counts if kind == "content" else any(counts)

    joint: dict[tuple[object, tuple[int, ...]], float] = {}  # of a critique and a prefix
    for sequence in sequences:
        probability = math.prod(PROBABILITY[action] for action in sequence)
        for length in range(LENGTH + 1):
            key = critique(sequence), sequence[:length]
            joint[key] = joint.get(key, 0.0) + probability
    bad = [sequence for sequence in sequences if set(sequence) & set(BAD)]
    plain = [[math.log(PROBABILITY[action]) for action in sequence] for sequence in bad]
    critiqued = []
    for s in bad:
        ratios = (joint[critique(s), s[: t + 1]] / joint[critique(s), s[:t]] for t in range(LENGTH))
        critiqued.append([math.log(ratio) for ratio in ratios])
    truth = [[action in BAD for action in sequence] for sequence in bad]
    return torch.tensor([plain]), torch.tensor([critiqued]), torch.tensor([truth])


def test_detection_needs_critiques_with_content() -> None:
    """Exact, over all bad sequences: with content all bad actions are marked, and no others.

    A bit helps with the first bad action at most, and less in longer sequences: after it, the bit
    has no information about later actions.
    """
    scores = {}
    for kind in ("content", "bit"):
        plain, critiqued, truth = bayes(kind)
        bad = torch.ones(truth.shape[:2], dtype=torch.bool)
        ones = torch.ones_like(truth)
        marked = inappropriate_steps(plain, critiqued, ones, bad, ratio_threshold=1.1)
        scores[kind] = detection_scores(marked, truth, ones)
    assert scores["content"].precision == 1.0 and scores["content"].recall == 1.0
    assert scores["bit"].recall < 0.5


def test_precision_without_marks_is_nan() -> None:
    no_steps = torch.zeros(1, 1, 3, dtype=torch.bool)
    all_steps = ~no_steps
    empty = detection_scores(no_steps, all_steps, all_steps)
    assert empty.precision.isnan().all() and empty.recall.tolist() == [0.0]
    half = detection_scores(
        all_steps, torch.tensor([[[True, False, True]]]), torch.arange(3)[None, None] < 2
    )
    assert half.precision.tolist() == [0.5] and half.recall.tolist() == [1.0]


def test_invalid_arguments() -> None:
    logp = torch.zeros(1, 1, 2)
    batch = batch_of(torch.tensor([[False]]), 2)
    with refused("missing", path="desirable"):
        with_inappropriate_steps(batch.replace(desirable=None), logp, logp)
    with refused("out_of_range", path="ratio_threshold"):
        with_inappropriate_steps(batch, logp, logp, ratio_threshold=0.0)

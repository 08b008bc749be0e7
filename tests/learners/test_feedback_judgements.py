"""CUT: the rule and its weights, the loss they make, and why a judgement must have content."""

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
    policies, samples = desirable.shape
    return FeedbackBatch(
        observation=torch.zeros(policies, samples, steps, 1),
        action=torch.zeros(policies, samples, steps, dtype=torch.int64),
        mask=torch.ones(policies, samples, steps, dtype=torch.bool),
        desirable=desirable,
    )


def test_marks_and_loss_are_the_papers() -> None:
    """U by probabilities (and by the authors' ratio), and L1 of a bad sample, written out."""
    chance = torch.Generator().manual_seed(4)
    plain, judged = torch.rand(2, 2, 3, 6, generator=chance, dtype=torch.float64) * 0.98 + 0.01
    batch = batch_of(torch.tensor([[False, True, False]] * 2), 6)
    batch = batch.replace(mask=batch.mask & (torch.arange(6) < 5))
    ready = with_inappropriate_steps(
        batch,
        plain.log(),
        judged.log(),
        ratio_threshold=1.2,
        unlikelihood_coef=0.5,
        unlikelihood_exponent=2.0,
    )
    marked = ready.require("inappropriate", "the test")
    real = batch.mask & torch.tensor([True, False, True])[:, None]
    assert torch.equal(marked, real & (judged - 1.2 * plain > 0))
    assert torch.equal(marked, real & (judged / plain > 1.2))
    out = ModelOutput(plain.log())
    loss = nll_loss(out, ready, step_subset="appropriate", subset="undesirable")
    loss = loss + unlikelihood_loss(out, ready, subset="undesirable")
    for p in range(2):
        total, count = 0.0, 0
        for s, t in itertools.product((0, 2), range(5)):
            q, r = float(plain[p, s, t]), float(judged[p, s, t])
            condemned = r - 1.2 * q > 0
            total -= 0.5 * r**2 * math.log(1 - q) if condemned else math.log(q)
            count += 1
        assert math.isclose(float(loss[p]), total / count, rel_tol=1e-6)


def test_small_probabilities_are_told_apart() -> None:
    """exp(-200) is 0 in float32; its double is not told from it but by logarithms."""
    plain = torch.tensor([[[-200.0, -200.0]]])
    judged = plain + torch.tensor([math.log(1.3), math.log(1.05)])
    mask, bad = torch.ones(1, 1, 2, dtype=torch.bool), torch.tensor([[True]])
    assert inappropriate_steps(plain, judged, mask, bad).tolist() == [[[True, False]]]


PROBABILITY = {0: 0.36, 1: 0.36, 2: 0.2, 3: 0.04, 4: 0.04}  # of acts; 3 and 4 are bad
BAD, LENGTH = (3, 4), 6


def bayes(judge: str) -> tuple[Tensor, Tensor, Tensor]:
    """All bad stretches of acts: plainly and by Bayes after the judgement, and the truth.

    A policy that has learned what judgements mean knows p(act | before, judgement) exactly. The
    judgement says that something was bad (`bit`), or what, and how often (`content`).
    """
    stretches = list(itertools.product(PROBABILITY, repeat=LENGTH))

    def said(stretch: tuple[int, ...]) -> tuple[int, ...] | bool:
        named = tuple(stretch.count(act) for act in BAD)
        return named if judge == "content" else any(named)

    weight: dict[tuple[object, tuple[int, ...]], float] = {}  # of a judgement and a beginning
    for stretch in stretches:
        chance = math.prod(PROBABILITY[act] for act in stretch)
        for length in range(LENGTH + 1):
            place = said(stretch), stretch[:length]
            weight[place] = weight.get(place, 0.0) + chance
    bad = [stretch for stretch in stretches if set(stretch) & set(BAD)]
    plain = [[math.log(PROBABILITY[act]) for act in stretch] for stretch in bad]
    judged = [
        [math.log(weight[said(s), s[: t + 1]] / weight[said(s), s[:t]]) for t in range(LENGTH)]
        for s in bad
    ]
    truth = [[act in BAD for act in stretch] for stretch in bad]
    return torch.tensor([plain]), torch.tensor([judged]), torch.tensor([truth])


def test_a_judgement_needs_content_to_be_found() -> None:
    """Exact, over all bad stretches: who reads names finds all bad acts, and no others.

    A bit helps with the first bad act at most, and less the longer one may wait for it: once it has
    come, or must have, the bit says nothing of the acts that follow.
    """
    figures = {}
    for judge in ("content", "bit"):
        plain, judged, truth = bayes(judge)
        bad = torch.ones(truth.shape[:2], dtype=torch.bool)
        marked = inappropriate_steps(
            plain, judged, torch.ones_like(truth), bad, ratio_threshold=1.1
        )
        figures[judge] = detection_scores(marked, truth, torch.ones_like(truth))
    assert figures["content"].precision == 1.0 and figures["content"].recall == 1.0
    assert figures["bit"].recall < 0.5


def test_precision_and_recall_of_nothing_are_no_numbers() -> None:
    nothing = torch.zeros(1, 1, 3, dtype=torch.bool)
    everything = ~nothing
    empty = detection_scores(nothing, everything, everything)
    assert empty.precision.isnan().all() and empty.recall.tolist() == [0.0]
    half = detection_scores(
        everything, torch.tensor([[[True, False, True]]]), torch.arange(3)[None, None] < 2
    )
    assert half.precision.tolist() == [0.5] and half.recall.tolist() == [1.0]


def test_what_a_user_may_get_wrong() -> None:
    logp = torch.zeros(1, 1, 2)
    batch = batch_of(torch.tensor([[False]]), 2)
    with refused("missing", path="desirable"):
        with_inappropriate_steps(batch.replace(desirable=None), logp, logp)
    with refused("out_of_range", path="margin"):
        with_inappropriate_steps(batch, logp, logp, ratio_threshold=0.0)

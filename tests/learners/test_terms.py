"""What holds for every loss term: policies stay apart, padding stays out, messages are clear."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mores.agents.learning import losses
from mores.agents.learning.batch import FeedbackBatch, Output
from mores.agents.learning.objective import Objective, Weighted
from tests.learners.term_batches import NAN, example, gradients, policy, spoiled
from tests.refusals import refused

Term = Callable[..., Tensor]

# Every term in every mode that computes something else.
CASES: list[tuple[Term, dict[str, Any]]] = [
    (losses.nll, {}),
    (losses.nll, {"per": "sample", "which": "preferred"}),
    (losses.nll, {"which": "reference", "smoothing": 0.2}),
    (losses.nll, {"which": "dispreferred", "steps": "appropriate"}),
    (losses.unlikelihood, {}),
    (losses.unlikelihood, {"per": "sample", "which": "own"}),
    (losses.pg, {"entropy": 0.1}),
    (losses.pg, {"clip_mode": "none", "per": "sample", "which": "own"}),
    (losses.pg, {"clip_mode": "sequence", "clip_low": 0.1, "per": "constant", "length": 5.0}),
    (losses.value, {}),
    (losses.value, {"clip": 0.3, "per": "sample"}),
    (losses.pair, {}),
    (losses.pair, {"link": "hinge", "score": "sum_logp", "smoothing": 0.1}),
    (losses.pair, {"link": "square", "score": "mean_log_ratio", "margin": 0.2}),
    (losses.pair, {"score": "mean_logp", "robust": True, "scale": 2.0}),
    (losses.pair, {"score": "score", "output": 1, "scale": 1.0}),
    (losses.pair, {"link": "kto", "desirable_weight": 1.5}),
    (losses.rank, {"margin": 0.3}),
    (losses.rank, {"link": "plackett_luce", "score": "sum_logp", "scale": 0.5}),
    (losses.rank, {"link": "spaced"}),
    (losses.kl, {}),
    (losses.kl, {"direction": "forward", "to": "teacher", "per": "sample"}),
    (losses.kl, {"direction": "js", "to": "teacher", "mixture": 0.3}),
    (losses.kl, {"direction": "forward", "top_k": 2}),
    (losses.expected_score, {}),
    (losses.expected_score, {"importance": True, "cap": 1.5, "per": "sample"}),
    (losses.contrast, {}),
    (losses.contrast, {"symmetric": False, "normalise": False, "temperature": 2.0}),
    (losses.regress, {}),
    (losses.regress, {"link": "huber", "threshold": 0.5, "which": "desirable"}),
]
IDS = [f"{term.__name__}-{'-'.join(map(str, settings.values()))}" for term, settings in CASES]
every_case = pytest.mark.parametrize(("term", "settings"), CASES, ids=IDS)


def suited(term: Term, out: Output, batch: FeedbackBatch) -> tuple[Output, FeedbackBatch]:
    """Targets of the embeddings' size, where they are what is compared."""
    if term is losses.contrast:
        source = torch.Generator().manual_seed(9)
        shape = (3, batch.samples, 3)
        target = torch.randn(shape, generator=source, dtype=torch.float64)[: batch.policies]
        batch = batch.replace(target=target)
    return out, batch


def test_the_ten() -> None:
    names = {"nll", "unlikelihood", "pg", "value", "pair", "rank", "kl", "expected_score"}
    names |= {"contrast", "regress"}
    assert names <= set(losses.__all__)
    assert {term.__name__ for term, _ in CASES} == names


@every_case
def test_policies_together_are_policies_alone(term: Term, settings: dict[str, Any]) -> None:
    out, batch = suited(term, *example(seed=1))
    together = term(out, batch, **settings)
    slopes = gradients(out, together)
    assert together.shape == (3,) and together.isfinite().all()
    assert together.unique().numel() == 3
    for number in range(3):
        mine, told = policy(out, number), policy(batch, number)
        alone = term(mine, told, **settings)
        torch.testing.assert_close(alone[0], together[number], atol=1e-12, rtol=1e-12)
        for name, slope in gradients(mine, alone).items():
            torch.testing.assert_close(slope[0], slopes[name][number], atol=1e-12, rtol=1e-12)


@every_case
def test_a_broken_policy_breaks_no_other(term: Term, settings: dict[str, Any]) -> None:
    out, batch = suited(term, *example(seed=2))
    sound = term(out, batch, **settings)
    slopes = gradients(out, sound)
    for bad_out, bad_batch in ((spoiled(out, 1), batch), (out, spoiled(batch, 1))):
        loss = term(bad_out, bad_batch, **settings)
        if bad_out is not out:
            assert loss[1].isnan()  # a broken policy is seen to be broken
        assert torch.equal(loss[::2], sound[::2])
        for name, slope in gradients(bad_out, loss).items():
            assert torch.equal(slope[::2], slopes[name][::2])


@every_case
def test_nothing_flows_from_padding(term: Term, settings: dict[str, Any]) -> None:
    """The example's padding is NaN; padding it further changes nothing."""
    out, batch = suited(term, *example(seed=3))
    loss = term(out, batch, **settings)
    for name, slope in gradients(out, loss).items():
        assert slope.isfinite().all(), name
        if name in ("logp", "logits", "entropy", "value"):
            assert (slope[~batch.mask] == 0.0).all(), name
    longer_out, longer_batch = longer(out), longer(batch)
    torch.testing.assert_close(term(longer_out, longer_batch, **settings), loss)


def longer(part: Any) -> Any:
    """Two steps more in every sample, and three samples more in every policy: none of them real.

    Also three pairs and three lists more, with nobody in them.
    """
    without_steps = ("pairs", "candidates", "rank_score", "score", "hidden", "target")
    changed = {}
    for name, field in vars(part).items():
        if field is None or field.dim() == 1:
            continue
        filler = NAN if torch.is_floating_point(field) else 0
        if name in ("pairs", "candidates"):
            filler = -1
        if field.dim() > 2 and name not in without_steps:
            field = grown(field, 2, 2, filler)
        changed[name] = grown(field, 1, 3, filler)
    return dataclasses.replace(part, **changed)


def grown(field: Tensor, dimension: int, by: int, filler: Any) -> Tensor:
    shape = list(field.shape)
    shape[dimension] = by
    return torch.cat([field, torch.full(shape, filler, dtype=field.dtype)], dimension)


@every_case
def test_a_policy_with_nothing_real_has_no_loss(term: Term, settings: dict[str, Any]) -> None:
    out, batch = suited(term, *example(seed=4))
    mask = batch.mask.clone()
    mask[1] = False
    loss = term(out, batch.replace(mask=mask), **settings)
    assert loss[1] == 0.0
    assert torch.equal(loss[::2], term(out, batch, **settings)[::2])
    for name, slope in gradients(out, loss).items():
        assert (slope[1] == 0.0).all(), name


@pytest.mark.parametrize(
    ("term", "settings"),  # without those that hold a part of the loss fixed on purpose
    [case for case in CASES if not {"robust", "importance"} & set(case[1])],
)
def test_slopes_are_those_of_differences(term: Term, settings: dict[str, Any]) -> None:
    """Gradients against central differences, in one random direction for each field."""
    out, batch = suited(term, *example(seed=5))
    slopes = gradients(out, term(out, batch, **settings))
    assert slopes
    source = torch.Generator().manual_seed(6)
    for name, slope in slopes.items():
        field = getattr(out, name).detach()
        way = torch.randn(field.shape, generator=source, dtype=field.dtype)
        reach = 1e-6
        ends = [
            term(Output(**(vars(out) | {name: field + sign * reach * way})), batch, **settings)
            for sign in (1.0, -1.0)
        ]
        expected = (ends[0] - ends[1]).sum() / (2.0 * reach)
        torch.testing.assert_close((slope * way).sum(), expected, atol=1e-6, rtol=1e-5)


def test_settings_may_differ_by_policy() -> None:
    out, batch = example(seed=7)
    each = torch.tensor([0.05, 0.2, 0.7], dtype=torch.float64)
    for term, name, settings in (
        (losses.pair, "scale", {"link": "square"}),
        (losses.pair, "margin", {}),
        (losses.pair, "scale", {"link": "kto"}),
        (losses.pg, "clip_low", {}),
        (losses.pg, "clip_high", {"clip_mode": "sequence"}),
        (losses.pg, "entropy", {}),
        (losses.value, "clip", {}),
        (losses.rank, "margin", {}),
        (losses.rank, "scale", {"link": "plackett_luce"}),
    ):
        together = term(out, batch, **settings, **{name: each})
        for number, setting in enumerate(each.tolist()):
            same = term(out, batch, **settings, **{name: setting})
            torch.testing.assert_close(together[number], same[number])
        assert not torch.equal(together, same)


def test_grao_is_a_sum_of_two_terms() -> None:
    """GRAO's objective, group by group as its paper has it, when the group includes the reference.

    J = (1/G) Σ Â_i Je_i + β Â_y Ji + λ (1/G) Σ Â_i (Je_i - Ji), normalised over all G + 1.
    """
    source = torch.Generator().manual_seed(8)
    groups, answers, steps = 3, 4, 5
    beta, share = 0.5, 0.6
    reward = torch.randn(groups, answers + 1, generator=source, dtype=torch.float64)
    mean, spread = reward.mean(1, keepdim=True), reward.std(1, keepdim=True, correction=0)
    advantage = (reward - mean) / spread
    logp = -torch.rand(groups, answers + 1, steps, generator=source, dtype=torch.float64)
    lengths = torch.randint(1, steps + 1, (groups, answers + 1, 1), generator=source)
    mask = torch.arange(steps) < lengths

    objective = 0.0
    for group in range(groups):
        likely = [logp[group, i, : int(lengths[group, i])].mean() for i in range(answers + 1)]
        imitation, better = likely[-1], advantage[group]
        explore = sum(better[i] * likely[i] for i in range(answers)) / answers
        between = sum(better[i] * (likely[i] - imitation) for i in range(answers)) / answers
        objective += (explore + beta * better[-1] * imitation + share * between) / groups

    def flat(field: Tensor) -> Tensor:
        return field.reshape(1, groups * (answers + 1), *field.shape[2:])

    acts = torch.zeros(flat(mask).shape, dtype=torch.long)
    batch = FeedbackBatch(
        acts, acts, flat(mask), advantage=flat(advantage[..., None].expand(logp.shape))
    )
    is_reference = torch.zeros(groups, answers + 1, dtype=torch.bool)
    is_reference[:, -1] = True
    batch = batch.replace(reference=flat(is_reference))
    settings = {"clip_mode": "none", "per": "sample"}
    weighted = (
        Weighted(losses.pg, 1.0 + share, settings | {"which": "own"}),
        Weighted(losses.pg, beta + share / answers, settings | {"which": "reference"}),
    )
    loss = Objective(weighted)({"plain": Output(flat(logp))}, batch).total
    torch.testing.assert_close(-loss[0], torch.as_tensor(objective))


NEEDS: list[tuple[Term, dict[str, Any], str]] = [
    (losses.nll, {"which": "preferred"}, "preferred"),
    (losses.nll, {"which": "own"}, "reference"),
    (losses.nll, {"steps": "appropriate"}, "inappropriate"),
    (losses.unlikelihood, {}, "inappropriate"),
    (losses.pg, {}, "advantage"),
    (losses.value, {}, "value_target"),
    (losses.pair, {}, "preferred"),
    (losses.pair, {"link": "kto"}, "desirable"),
    (losses.rank, {}, "candidates"),
    (losses.kl, {"direction": "forward"}, "reference_logits"),
    (losses.kl, {}, "reference_logp"),
    (losses.kl, {"to": "teacher"}, "teacher_logp"),
    (losses.expected_score, {}, "option_score"),
    (losses.contrast, {}, "target"),
    (losses.regress, {}, "target"),
]


@pytest.mark.parametrize(("term", "settings", "missing"), NEEDS)
def test_what_is_missing_has_a_name(term: Term, settings: dict[str, Any], missing: str) -> None:
    out, batch = example()
    bare = FeedbackBatch(batch.seen, batch.acted, batch.mask)
    with refused("missing", path=missing):
        term(out, bare, **settings)


@pytest.mark.parametrize(
    ("term", "settings", "part"),
    [
        (losses.nll, {"smoothing": 0.1}, "logits"),
        (losses.pg, {"entropy": 0.1}, "entropy"),
        (losses.value, {}, "value"),
        (losses.pair, {"score": "score"}, "score"),
        (losses.kl, {"direction": "js"}, "logits"),
        (losses.expected_score, {}, "logits"),
        (losses.contrast, {}, "hidden"),
        (losses.regress, {}, "score"),
    ],
)
def test_a_policy_that_lacks_a_part(term: Term, settings: dict[str, Any], part: str) -> None:
    out, batch = example()
    with refused("missing", path=part):
        term(Output(out.logp), batch, **settings)


@pytest.mark.parametrize(
    ("term", "settings", "code", "path"),
    [
        (losses.nll, {"per": "steps"}, "invalid_value", "per"),
        (losses.nll, {"which": "prefered"}, "invalid_value", "which"),
        (losses.nll, {"steps": "good"}, "invalid_value", "steps"),
        (losses.nll, {"smoothing": 1.5}, "out_of_range", "smoothing"),
        (losses.pg, {"clip_mode": "tokens"}, "invalid_value", "clip_mode"),
        (losses.pg, {"per": "constant"}, "missing", "length"),
        (losses.pg, {"per": "constant", "length": 0.0}, "out_of_range", "length"),
        (losses.value, {"clip": -1.0}, "out_of_range", "clip"),
        (losses.pair, {"link": "logistics"}, "invalid_value", "link"),
        (losses.pair, {"score": "logratio"}, "invalid_value", "score"),
        (losses.pair, {"scale": 0.0}, "out_of_range", "scale"),
        (losses.pair, {"smoothing": 0.6}, "out_of_range", "smoothing"),
        (losses.pair, {"smoothing": 0.1, "robust": True}, "conflict", "smoothing"),
        (losses.pair, {"link": "kto", "robust": True}, "conflict", "robust"),
        (losses.pair, {"score": "score", "output": 2}, "out_of_range", "output"),
        (losses.directed_losses, {"link": "kto"}, "invalid_value", "link"),
        (losses.rank, {"link": "listmle"}, "invalid_value", "link"),
        (losses.kl, {"direction": "backward"}, "invalid_value", "direction"),
        (losses.kl, {"to": "teachers"}, "invalid_value", "to"),
        (losses.kl, {"top_k": 9}, "out_of_range", "top_k"),
        (losses.kl, {"direction": "js", "mixture": 1.0}, "out_of_range", "mixture"),
        (losses.contrast, {}, "wrong_shape", "target"),
        (losses.contrast, {"temperature": 0.0}, "out_of_range", "temperature"),
        (losses.regress, {"link": "mse"}, "invalid_value", "link"),
    ],
)
def test_what_is_wrong_is_said(term: Term, settings: dict[str, Any], code: str, path: str) -> None:
    out, batch = example()
    with refused(code, path=path):
        term(out, batch, **settings)


def test_pairs_that_do_not_fit() -> None:
    out, batch = example()
    with refused("wrong_shape", path="preferred"):
        few = FeedbackBatch(batch.seen, batch.acted, batch.mask)
        losses.pair(out, few.replace(preferred=torch.ones(3, 2, dtype=torch.bool)))
    with refused("wrong_shape", path="target"):
        losses.regress(out, batch.replace(target=torch.zeros(3, 6, 1)))
    with refused("wrong_type", path="acted"):
        losses.unlikelihood(out, batch.replace(acted=batch.acted.double()))

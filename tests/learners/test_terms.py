"""What holds for every loss term: policies stay apart, padding stays out, messages are clear."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mores.agents.learning import losses
from mores.agents.learning.batch import FeedbackBatch, ModelOutput
from mores.agents.learning.objective import LossTerm, Objective
from tests.learners.term_batches import NAN, example, gradients, policy, spoiled
from tests.refusals import refused

Term = Callable[..., Tensor]

# Every term in every mode that computes something else.
CASES: list[tuple[Term, dict[str, Any]]] = [
    (losses.nll_loss, {}),
    (losses.nll_loss, {"per": "sample", "which": "preferred"}),
    (losses.nll_loss, {"which": "reference", "smoothing": 0.2}),
    (losses.nll_loss, {"which": "dispreferred", "steps": "appropriate"}),
    (losses.unlikelihood_loss, {}),
    (losses.unlikelihood_loss, {"per": "sample", "which": "own"}),
    (losses.policy_gradient_loss, {"entropy": 0.1}),
    (losses.policy_gradient_loss, {"clip_mode": "none", "per": "sample", "which": "own"}),
    (
        losses.policy_gradient_loss,
        {"clip_mode": "sequence", "clip_low": 0.1, "per": "constant", "length": 5.0},
    ),
    (losses.value_loss, {}),
    (losses.value_loss, {"clip": 0.3, "per": "sample"}),
    (losses.preference_loss, {}),
    (losses.preference_loss, {"link": "hinge", "score": "sum_logp", "smoothing": 0.1}),
    (losses.preference_loss, {"link": "square", "score": "mean_log_ratio", "margin": 0.2}),
    (losses.preference_loss, {"score": "mean_logp", "robust": True, "scale": 2.0}),
    (losses.preference_loss, {"score": "score", "output": 1, "scale": 1.0}),
    (losses.preference_loss, {"link": "kto", "desirable_weight": 1.5}),
    (losses.ranking_loss, {"margin": 0.3}),
    (losses.ranking_loss, {"link": "plackett_luce", "score": "sum_logp", "scale": 0.5}),
    (losses.ranking_loss, {"link": "spaced"}),
    (losses.kl_loss, {}),
    (losses.kl_loss, {"direction": "forward", "to": "teacher", "per": "sample"}),
    (losses.kl_loss, {"direction": "js", "to": "teacher", "mixture": 0.3}),
    (losses.kl_loss, {"direction": "forward", "top_k": 2}),
    (losses.expected_score_loss, {}),
    (losses.expected_score_loss, {"importance": True, "cap": 1.5, "per": "sample"}),
    (losses.contrastive_loss, {}),
    (losses.contrastive_loss, {"symmetric": False, "normalise": False, "temperature": 2.0}),
    (losses.regression_loss, {}),
    (losses.regression_loss, {"link": "huber", "threshold": 0.5, "which": "desirable"}),
]
IDS = [f"{term.__name__}-{'-'.join(map(str, settings.values()))}" for term, settings in CASES]
every_case = pytest.mark.parametrize(("term", "settings"), CASES, ids=IDS)


def suited(term: Term, out: ModelOutput, batch: FeedbackBatch) -> tuple[ModelOutput, FeedbackBatch]:
    """Targets of the embeddings' size, where they are what is compared."""
    if term is losses.contrastive_loss:
        source = torch.Generator().manual_seed(9)
        shape = (3, batch.num_samples, 3)
        target = torch.randn(shape, generator=source, dtype=torch.float64)[: batch.num_models]
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
            term(ModelOutput(**(vars(out) | {name: field + sign * reach * way})), batch, **settings)
            for sign in (1.0, -1.0)
        ]
        expected = (ends[0] - ends[1]).sum() / (2.0 * reach)
        torch.testing.assert_close((slope * way).sum(), expected, atol=1e-6, rtol=1e-5)


def test_settings_may_differ_by_policy() -> None:
    out, batch = example(seed=7)
    each = torch.tensor([0.05, 0.2, 0.7], dtype=torch.float64)
    for term, name, settings in (
        (losses.preference_loss, "scale", {"link": "square"}),
        (losses.preference_loss, "margin", {}),
        (losses.preference_loss, "scale", {"link": "kto"}),
        (losses.policy_gradient_loss, "clip_low", {}),
        (losses.policy_gradient_loss, "clip_high", {"clip_mode": "sequence"}),
        (losses.policy_gradient_loss, "entropy", {}),
        (losses.value_loss, "clip", {}),
        (losses.ranking_loss, "margin", {}),
        (losses.ranking_loss, "scale", {"link": "plackett_luce"}),
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
    batch = batch.replace(is_demonstration=flat(is_reference))
    settings = {"clip_mode": "none", "per": "sample"}
    weighted = (
        LossTerm(losses.policy_gradient_loss, 1.0 + share, settings | {"which": "own"}),
        LossTerm(
            losses.policy_gradient_loss, beta + share / answers, settings | {"which": "reference"}
        ),
    )
    loss = Objective(weighted)({"plain": ModelOutput(flat(logp))}, batch).total
    torch.testing.assert_close(-loss[0], torch.as_tensor(objective))


NEEDS: list[tuple[Term, dict[str, Any], str]] = [
    (losses.nll_loss, {"which": "preferred"}, "preferred"),
    (losses.nll_loss, {"which": "own"}, "reference"),
    (losses.nll_loss, {"steps": "appropriate"}, "inappropriate"),
    (losses.unlikelihood_loss, {}, "inappropriate"),
    (losses.policy_gradient_loss, {}, "advantage"),
    (losses.value_loss, {}, "value_target"),
    (losses.preference_loss, {}, "preferred"),
    (losses.preference_loss, {"link": "kto"}, "desirable"),
    (losses.ranking_loss, {}, "candidates"),
    (losses.kl_loss, {"direction": "forward"}, "reference_logits"),
    (losses.kl_loss, {}, "reference_logp"),
    (losses.kl_loss, {"to": "teacher"}, "teacher_logp"),
    (losses.expected_score_loss, {}, "option_score"),
    (losses.contrastive_loss, {}, "target"),
    (losses.regression_loss, {}, "target"),
]


@pytest.mark.parametrize(("term", "settings", "missing"), NEEDS)
def test_what_is_missing_has_a_name(term: Term, settings: dict[str, Any], missing: str) -> None:
    out, batch = example()
    bare = FeedbackBatch(batch.observation, batch.action, batch.mask)
    with refused("missing", path=missing):
        term(out, bare, **settings)


@pytest.mark.parametrize(
    ("term", "settings", "part"),
    [
        (losses.nll_loss, {"smoothing": 0.1}, "logits"),
        (losses.policy_gradient_loss, {"entropy": 0.1}, "entropy"),
        (losses.value_loss, {}, "value"),
        (losses.preference_loss, {"score": "score"}, "score"),
        (losses.kl_loss, {"direction": "js"}, "logits"),
        (losses.expected_score_loss, {}, "logits"),
        (losses.contrastive_loss, {}, "hidden"),
        (losses.regression_loss, {}, "score"),
    ],
)
def test_a_policy_that_lacks_a_part(term: Term, settings: dict[str, Any], part: str) -> None:
    out, batch = example()
    with refused("missing", path=part):
        term(ModelOutput(out.logp), batch, **settings)


@pytest.mark.parametrize(
    ("term", "settings", "code", "path"),
    [
        (losses.nll_loss, {"per": "steps"}, "invalid_value", "per"),
        (losses.nll_loss, {"which": "prefered"}, "invalid_value", "which"),
        (losses.nll_loss, {"steps": "good"}, "invalid_value", "steps"),
        (losses.nll_loss, {"smoothing": 1.5}, "out_of_range", "smoothing"),
        (losses.policy_gradient_loss, {"clip_mode": "tokens"}, "invalid_value", "clip_mode"),
        (losses.policy_gradient_loss, {"per": "constant"}, "missing", "length"),
        (losses.policy_gradient_loss, {"per": "constant", "length": 0.0}, "out_of_range", "length"),
        (losses.value_loss, {"clip": -1.0}, "out_of_range", "clip"),
        (losses.preference_loss, {"link": "logistics"}, "invalid_value", "link"),
        (losses.preference_loss, {"score": "logratio"}, "invalid_value", "score"),
        (losses.preference_loss, {"scale": 0.0}, "out_of_range", "scale"),
        (losses.preference_loss, {"smoothing": 0.6}, "out_of_range", "smoothing"),
        (losses.preference_loss, {"smoothing": 0.1, "robust": True}, "conflict", "smoothing"),
        (losses.preference_loss, {"link": "kto", "robust": True}, "conflict", "robust"),
        (losses.preference_loss, {"score": "score", "output": 2}, "out_of_range", "output"),
        (losses.label_losses, {"link": "kto"}, "invalid_value", "link"),
        (losses.ranking_loss, {"link": "listmle"}, "invalid_value", "link"),
        (losses.kl_loss, {"direction": "backward"}, "invalid_value", "direction"),
        (losses.kl_loss, {"to": "teachers"}, "invalid_value", "to"),
        (losses.kl_loss, {"top_k": 9}, "out_of_range", "top_k"),
        (losses.kl_loss, {"direction": "js", "mixture": 1.0}, "out_of_range", "mixture"),
        (losses.contrastive_loss, {}, "wrong_shape", "target"),
        (losses.contrastive_loss, {"temperature": 0.0}, "out_of_range", "temperature"),
        (losses.regression_loss, {"link": "mse"}, "invalid_value", "link"),
    ],
)
def test_what_is_wrong_is_said(term: Term, settings: dict[str, Any], code: str, path: str) -> None:
    out, batch = example()
    with refused(code, path=path):
        term(out, batch, **settings)


def test_pairs_that_do_not_fit() -> None:
    out, batch = example()
    with refused("wrong_shape", path="preferred"):
        few = FeedbackBatch(batch.observation, batch.action, batch.mask)
        losses.preference_loss(out, few.replace(preferred=torch.ones(3, 2, dtype=torch.bool)))
    with refused("wrong_shape", path="target"):
        losses.regression_loss(out, batch.replace(target=torch.zeros(3, 6, 1)))
    with refused("wrong_type", path="acted"):
        losses.unlikelihood_loss(out, batch.replace(action=batch.action.double()))

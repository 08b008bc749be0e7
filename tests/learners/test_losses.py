"""Properties of every loss: independent models, ignored padding, and error codes and paths."""

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
from tests.learners.loss_batches import NAN, example, gradients, single_model, with_nan
from tests.refusals import refused

Loss, Kwargs = Callable[..., Tensor], dict[str, Any]


def case(name: str, *rest: str, **kwargs: Any) -> tuple[Any, ...]:
    return getattr(losses, f"{name}_loss"), kwargs, *rest


CONSTANT: Kwargs = {"reduction": "constant", "constant_length": 5.0}
# Every loss in every mode with its own computation.
CASES = [
    case("nll"),
    case("nll", reduction="sample", subset="chosen"),
    case("nll", subset="demonstration", label_smoothing=0.2),
    case("nll", subset="rejected", step_subset="appropriate"),
    case("unlikelihood"),
    case("unlikelihood", reduction="sample", subset="generated"),
    case("policy_gradient", ent_coef=0.1),
    case("policy_gradient", clip_mode="none", reduction="sample", subset="generated"),
    case("policy_gradient", clip_mode="sequence", clip_range_low=0.1, **CONSTANT),
    case("value"),
    case("value", clip_range_vf=0.3, reduction="sample"),
    case("preference"),
    case("preference", loss_type="hinge", score_type="sum_logp", label_smoothing=0.1),
    case("preference", loss_type="ipo", score_type="mean_log_ratio", margin=0.2),
    case("preference", score_type="mean_logp", use_reliability=True, beta=2.0),
    case("preference", score_type="reward_head", score_index=1, beta=1.0),
    case("preference", loss_type="kto", desirable_weight=1.5),
    case("ranking", margin=0.3),
    case("ranking", loss_type="plackett_luce", score_type="sum_logp", beta=0.5),
    case("ranking", loss_type="spaced"),
    case("kl"),
    case("kl", direction="forward", other_policy="teacher", reduction="sample"),
    case("kl", direction="js", other_policy="teacher", mixture_weight=0.3),
    case("kl", direction="forward", top_k=2),
    case("expected_score"),
    case("expected_score", importance_weighted=True, max_importance_weight=1.5, reduction="sample"),
    case("contrastive"),
    case("contrastive", symmetric=False, normalize_length=False, temperature=2.0),
    case("regression"),
    case("regression", loss_type="huber", delta=0.5, subset="desirable"),
    case("soft_target"),
    case("soft_target", weak_exponent=0.5, reduction="sample", subset="generated"),
]
IDS = [f"{loss_fn.__name__}-{'-'.join(map(str, kwargs.values()))}" for loss_fn, kwargs in CASES]
every_case = pytest.mark.parametrize(("loss_fn", "kwargs"), CASES, ids=IDS)


def matching_example(loss_fn: Loss, seed: int) -> tuple[ModelOutput, FeedbackBatch]:
    """An example, with targets of the embeddings' size for the contrastive loss."""
    out, batch = example(seed)
    if loss_fn is losses.contrastive_loss:
        source = torch.Generator().manual_seed(9)
        shape = (3, batch.num_samples, 3)
        target = torch.randn(shape, generator=source, dtype=torch.float64)[: batch.num_models]
        batch = batch.replace(target=target)
    return out, batch


def test_all_losses_have_cases() -> None:
    names = {name for name in losses.__all__ if name.endswith("_loss")}
    assert {loss_fn.__name__ for loss_fn, _ in CASES} == names and len(names) == 11


@every_case
def test_models_are_independent(loss_fn: Loss, kwargs: Kwargs) -> None:
    out, batch = matching_example(loss_fn, seed=1)
    stacked = loss_fn(out, batch, **kwargs)
    grads = gradients(out, stacked)
    assert stacked.shape == (3,) and stacked.isfinite().all()
    assert stacked.unique().numel() == 3
    for model in range(3):
        model_out, model_batch = single_model(out, model), single_model(batch, model)
        alone = loss_fn(model_out, model_batch, **kwargs)
        torch.testing.assert_close(alone[0], stacked[model], atol=1e-12, rtol=1e-12)
        for name, grad in gradients(model_out, alone).items():
            torch.testing.assert_close(grad[0], grads[name][model], atol=1e-12, rtol=1e-12)


@every_case
def test_nan_stays_within_its_model(loss_fn: Loss, kwargs: Kwargs) -> None:
    out, batch = matching_example(loss_fn, seed=2)
    finite = loss_fn(out, batch, **kwargs)
    grads = gradients(out, finite)
    for bad_out, bad_batch in ((with_nan(out, 1), batch), (out, with_nan(batch, 1))):
        loss = loss_fn(bad_out, bad_batch, **kwargs)
        if bad_out is not out:
            assert loss[1].isnan()  # NaN of an output stays visible
        assert torch.equal(loss[::2], finite[::2])
        for name, grad in gradients(bad_out, loss).items():
            assert torch.equal(grad[::2], grads[name][::2])


@every_case
def test_padding_is_ignored(loss_fn: Loss, kwargs: Kwargs) -> None:
    """The example's padding is NaN; more padding changes nothing."""
    out, batch = matching_example(loss_fn, seed=3)
    loss = loss_fn(out, batch, **kwargs)
    for name, grad in gradients(out, loss).items():
        assert grad.isfinite().all(), name
        if name in ("logp", "logits", "entropy", "value"):
            assert (grad[~batch.mask] == 0.0).all(), name
    torch.testing.assert_close(loss_fn(padded(out), padded(batch), **kwargs), loss)


def padded(part: Any) -> Any:
    """Two invalid steps more per sample; three invalid samples, pairs and lists more per model."""
    without_steps = ("pairs", "candidates", "rank_score", "score", "embedding", "target")
    changed = {}
    for name, field in vars(part).items():
        if field is None or field.dim() == 1:
            continue
        padding = -1 if name in ("pairs", "candidates") else 0
        filler = NAN if torch.is_floating_point(field) else padding
        if field.dim() > 2 and name not in without_steps:
            field = extended(field, 2, 2, filler)
        changed[name] = extended(field, 1, 3, filler)
    return dataclasses.replace(part, **changed)


def extended(field: Tensor, dimension: int, count: int, filler: Any) -> Tensor:
    shape = list(field.shape)
    shape[dimension] = count
    return torch.cat([field, torch.full(shape, filler, dtype=field.dtype)], dimension)


@every_case
def test_a_model_without_valid_steps_has_loss_zero(loss_fn: Loss, kwargs: Kwargs) -> None:
    out, batch = matching_example(loss_fn, seed=4)
    mask = batch.mask.clone()
    mask[1] = False
    loss = loss_fn(out, batch.replace(mask=mask), **kwargs)
    assert loss[1] == 0.0
    assert torch.equal(loss[::2], loss_fn(out, batch, **kwargs)[::2])
    for name, grad in gradients(out, loss).items():
        assert (grad[1] == 0.0).all(), name


@pytest.mark.parametrize(
    ("loss_fn", "kwargs"),  # without losses that treat a part of themselves as constant
    [case for case in CASES if not {"use_reliability", "importance_weighted"} & set(case[1])],
)
def test_gradients_equal_finite_differences(loss_fn: Loss, kwargs: Kwargs) -> None:
    """Gradients against central differences, in one random direction for each field."""
    out, batch = matching_example(loss_fn, seed=5)
    grads = gradients(out, loss_fn(out, batch, **kwargs))
    assert grads
    source = torch.Generator().manual_seed(6)
    for name, grad in grads.items():
        field = getattr(out, name).detach()
        direction = torch.randn(field.shape, generator=source, dtype=field.dtype)
        step, ends = 1e-6, []
        for sign in (1.0, -1.0):
            moved = ModelOutput(**(vars(out) | {name: field + sign * step * direction}))
            ends.append(loss_fn(moved, batch, **kwargs))
        expected = (ends[0] - ends[1]).sum() / (2.0 * step)
        torch.testing.assert_close((grad * direction).sum(), expected, atol=1e-6, rtol=1e-5)


def test_settings_per_model() -> None:
    out, batch = example(seed=7)
    values = torch.tensor([0.05, 0.2, 0.7], dtype=torch.float64)
    for loss_fn, kwargs, name in (
        case("preference", "beta", loss_type="ipo"),
        case("preference", "margin"),
        case("preference", "beta", loss_type="kto"),
        case("policy_gradient", "clip_range_low"),
        case("policy_gradient", "clip_range_high", clip_mode="sequence"),
        case("policy_gradient", "ent_coef"),
        case("value", "clip_range_vf"),
        case("ranking", "margin"),
        case("ranking", "beta", loss_type="plackett_luce"),
    ):
        per_model = loss_fn(out, batch, **kwargs, **{name: values})
        for model, value in enumerate(values.tolist()):
            same = loss_fn(out, batch, **kwargs, **{name: value})
            torch.testing.assert_close(per_model[model], same[model])
        assert not torch.equal(per_model, same)


def test_grao_is_a_sum_of_two_terms() -> None:
    """GRAO's objective, computed by group as in its paper, with the demonstration in the group.

    J = (1/G) Σ Â_i Je_i + β Â_y Ji + λ (1/G) Σ Â_i (Je_i - Ji), normalized over all G + 1.
    """
    source = torch.Generator().manual_seed(8)
    groups, answers, steps = 3, 4, 5
    beta, coef = 0.5, 0.6
    reward = torch.randn(groups, answers + 1, generator=source, dtype=torch.float64)
    mean, std = reward.mean(1, keepdim=True), reward.std(1, keepdim=True, correction=0)
    advantage = (reward - mean) / std
    logp = -torch.rand(groups, answers + 1, steps, generator=source, dtype=torch.float64)
    lengths = torch.randint(1, steps + 1, (groups, answers + 1, 1), generator=source)
    mask = torch.arange(steps) < lengths

    objective = 0.0
    for group in range(groups):
        means = [logp[group, i, : int(lengths[group, i])].mean() for i in range(answers + 1)]
        imitation, a = means[-1], advantage[group]
        exploration = sum(a[i] * means[i] for i in range(answers)) / answers
        contrast = sum(a[i] * (means[i] - imitation) for i in range(answers)) / answers
        objective += (exploration + beta * a[-1] * imitation + coef * contrast) / groups

    def flat(field: Tensor) -> Tensor:
        return field.reshape(1, groups * (answers + 1), *field.shape[2:])

    action = torch.zeros(flat(mask).shape, dtype=torch.long)
    is_demonstration = (torch.arange(answers + 1) == answers).expand(groups, -1)
    fields = {"advantage": flat(advantage[..., None].expand(logp.shape))}
    fields["is_demonstration"] = flat(is_demonstration)
    batch = FeedbackBatch(action, action, flat(mask), **fields)
    weights = {"generated": 1.0 + coef, "demonstration": beta + coef / answers}
    kwargs = {"clip_mode": "none", "reduction": "sample"}
    terms = tuple(
        LossTerm(losses.policy_gradient_loss, weight, kwargs | {"subset": subset})
        for subset, weight in weights.items()
    )
    loss = Objective(terms)({"plain": ModelOutput(flat(logp))}, batch).total
    torch.testing.assert_close(-loss[0], torch.as_tensor(objective))


REQUIRED = [
    case("nll", "preferred", subset="chosen"),
    case("nll", "is_demonstration", subset="generated"),
    case("nll", "inappropriate", step_subset="appropriate"),
    case("unlikelihood", "inappropriate"),
    case("policy_gradient", "advantage"),
    case("value", "value_target"),
    case("preference", "preferred"),
    case("preference", "desirable", loss_type="kto"),
    case("ranking", "candidates"),
    case("kl", "reference_logits", direction="forward"),
    case("kl", "reference_logp"),
    case("kl", "teacher_logits", other_policy="teacher"),
    case("expected_score", "option_score"),
    case("contrastive", "target"),
    case("regression", "target"),
]


@pytest.mark.parametrize(("loss_fn", "kwargs", "field"), REQUIRED)
def test_missing_field_of_batch(loss_fn: Loss, kwargs: Kwargs, field: str) -> None:
    out, batch = example()
    minimal = FeedbackBatch(batch.observation, batch.action, batch.mask)
    with refused("missing", path=field):
        loss_fn(out, minimal, **kwargs)


@pytest.mark.parametrize(
    ("loss_fn", "kwargs", "field"),
    [
        case("nll", "logits", label_smoothing=0.1),
        case("policy_gradient", "entropy", ent_coef=0.1),
        case("value", "value"),
        case("preference", "score", score_type="reward_head"),
        case("kl", "logits", direction="js"),
        case("expected_score", "logits"),
        case("contrastive", "embedding"),
        case("regression", "score"),
    ],
)
def test_missing_field_of_output(loss_fn: Loss, kwargs: Kwargs, field: str) -> None:
    out, batch = example()
    with refused("missing", path=field):
        loss_fn(ModelOutput(out.logp), batch, **kwargs)


RANGE, INVALID = "out_of_range", "invalid_value"


@pytest.mark.parametrize(
    ("loss_fn", "kwargs", "code", "path"),
    [
        case("nll", INVALID, "reduction", reduction="steps"),
        case("nll", INVALID, "subset", subset="prefered"),
        case("nll", INVALID, "step_subset", step_subset="good"),
        case("nll", RANGE, "label_smoothing", label_smoothing=1.5),
        case("policy_gradient", INVALID, "clip_mode", clip_mode="tokens"),
        case("policy_gradient", "missing", "constant_length", reduction="constant"),
        case("policy_gradient", RANGE, "constant_length", **CONSTANT | {"constant_length": 0.0}),
        case("value", RANGE, "clip_range_vf", clip_range_vf=-1.0),
        case("preference", INVALID, "loss_type", loss_type="sigmoids"),
        case("preference", INVALID, "score_type", score_type="logratio"),
        case("preference", RANGE, "beta", beta=0.0),
        case("preference", RANGE, "label_smoothing", label_smoothing=0.6),
        case(
            "preference", "conflict", "label_smoothing", label_smoothing=0.1, use_reliability=True
        ),
        case("preference", "conflict", "use_reliability", loss_type="kto", use_reliability=True),
        case("preference", RANGE, "score_index", score_type="reward_head", score_index=2),
        (losses.label_losses, {"loss_type": "kto"}, INVALID, "loss_type"),
        case("ranking", INVALID, "loss_type", loss_type="listmle"),
        case("kl", INVALID, "direction", direction="backward"),
        case("kl", INVALID, "other_policy", other_policy="teachers"),
        case("kl", RANGE, "top_k", top_k=9),
        case("kl", RANGE, "mixture_weight", direction="js", mixture_weight=1.0),
        case("contrastive", "wrong_shape", "target"),
        case("contrastive", RANGE, "temperature", temperature=0.0),
        case("regression", INVALID, "loss_type", loss_type="l1"),
    ],
)
def test_invalid_settings(loss_fn: Loss, kwargs: Kwargs, code: str, path: str) -> None:
    out, batch = example()
    with refused(code, path=path):
        loss_fn(out, batch, **kwargs)


def test_invalid_fields() -> None:
    out, batch = example()
    with refused("wrong_shape", path="preferred"):
        minimal = FeedbackBatch(batch.observation, batch.action, batch.mask)
        losses.preference_loss(out, minimal.replace(preferred=torch.ones(3, 2, dtype=torch.bool)))
    with refused("wrong_shape", path="target"):
        losses.regression_loss(out, batch.replace(target=torch.zeros(3, 6, 1)))
    with refused("wrong_type", path="action"):
        losses.unlikelihood_loss(out, batch.replace(action=batch.action.double()))

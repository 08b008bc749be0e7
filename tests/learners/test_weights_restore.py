"""Restoring of alignment: selection, roll-back, and guarantees of recovery."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from mores.agents.learning.weights import selective_restore, stacked_weights
from mores.agents.learning.weights.recovery import RecoveryConfig, RecoveryResult, recover
from tests.refusals import refused

SHAPES = {"in": (3, 4), "bias": (1, 4), "norm": (4,)}
SIZE = 12 + 4 + 4
MODELS = 5
Weights = dict[str, Tensor]


def weights(seed: int) -> Weights:
    generator = torch.Generator().manual_seed(seed)
    kind = {"generator": generator, "dtype": torch.float64}
    return {n: torch.randn(MODELS, *shape, **kind) for n, shape in SHAPES.items()}


def flat(weights: Weights, model: int) -> np.ndarray:
    return np.concatenate([w[model].double().numpy().reshape(-1) for w in weights.values()])


@dataclasses.dataclass
class QuadraticLoss:
    """Loss ½ (w - minimum)ᵀ H (w - minimum) of every model; H is by default the identity."""

    minimum: Weights
    hessian: Tensor | None = None

    def __call__(self, w: Weights) -> Tensor:
        difference = self.difference(w)
        return (difference * self.matvec(difference)).sum(1) / 2

    def gradient(self, w: Weights) -> Weights:
        return stacked_weights.unflatten_weights(self.matvec(self.difference(w)), w, list(w))

    def difference(self, w: Weights) -> Tensor:
        flat_w, minimum = (stacked_weights.flatten_weights(x, list(w)) for x in (w, self.minimum))
        return flat_w - minimum

    def matvec(self, x: Tensor) -> Tensor:
        return x if self.hessian is None else torch.einsum("pij,pj->pi", self.hessian, x)


def random_hessians(seed: int) -> Tensor:
    """Hessians with interactions: the cost of a weight depends on the others."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(MODELS, SIZE, SIZE, generator=generator, dtype=torch.float64)
    return root @ root.mT / SIZE


FINETUNED, ALIGNED, GRADIENT = weights(0), weights(1), weights(2)


@pytest.mark.parametrize("rank_by", ["gradient", "loss_reduction"])
@pytest.mark.parametrize("fraction", [0.0, 0.11, 0.3, 1.0])
def test_selection_equals_a_loop(rank_by: selective_restore.RankBy, fraction: float) -> None:
    """Eligible if the loss decreases on the way back; of these the largest, per model."""
    selected = selective_restore.select_weights(
        FINETUNED, ALIGNED, GRADIENT, fraction, rank_by=rank_by
    )
    for p in range(MODELS):
        change, g = flat(FINETUNED, p) - flat(ALIGNED, p), flat(GRADIENT, p)
        eligible = [i for i in range(SIZE) if change[i] * g[i] > 0]
        rank = {i: abs(g[i] * (1 if rank_by == "gradient" else change[i])) for i in eligible}
        best = sorted(eligible, key=rank.__getitem__, reverse=True)[: int(np.ceil(fraction * SIZE))]
        assert np.flatnonzero(flat(selected, p)).tolist() == sorted(best)
    restored = selective_restore.restore(FINETUNED, ALIGNED, selected)
    for name, mask in selected.items():
        assert torch.equal(restored[name], torch.where(mask, ALIGNED[name], FINETUNED[name]))
    # restored weights are not selected again, and tensors without a gradient are left out
    partial = {n: g for n, g in GRADIENT.items() if n != "norm"}
    second = selective_restore.select_weights(restored, ALIGNED, partial, 1.0)
    assert set(second) == {"in", "bias"} and not (second["in"] & selected["in"]).any()


def test_fraction_of_eligible_weights() -> None:
    candidates = {n: w > 0 for n, w in weights(3).items()}
    half, everything = (
        selective_restore.select_weights(
            FINETUNED, ALIGNED, GRADIENT, fraction, candidates, fraction_of="eligible"
        )
        for fraction in (0.5, 1.0)
    )
    for p in range(MODELS):
        count = int(flat(everything, p).sum())
        assert int(flat(half, p).sum()) == -(-count // 2)
        assert (flat(half, p) <= flat(candidates, p)).all()


def test_pseudo_gradient_selects_what_tuning_undid() -> None:
    """With the pseudo-gradient, loss_reduction ranks by (θ_a - θ)(θ_a - θ_base)."""
    base = weights(4)
    gradient = selective_restore.alignment_pseudo_gradient(ALIGNED, base)
    selected = selective_restore.select_weights(
        FINETUNED, ALIGNED, gradient, 0.2, rank_by="loss_reduction"
    )
    for p in range(MODELS):
        change, alignment = (flat(ALIGNED, p) - flat(w, p) for w in (FINETUNED, base))
        assert set(np.flatnonzero(flat(selected, p))) == set(np.argsort(-change * alignment)[:4])


# --- measured roll-back -----------------------------------------------------------------------


def test_roll_back_of_the_costliest_tensors() -> None:
    """Costs of tensors are additive here, so the smallest roll-back is known."""
    loss = QuadraticLoss(FINETUNED)
    costs = {n: ((ALIGNED[n] - FINETUNED[n]) ** 2).flatten(1).sum(1) / 2 for n in SHAPES}
    limit = torch.tensor([0.0, 3.0, 8.0, 20.0, 1e9])
    result = selective_restore.roll_back(FINETUNED, ALIGNED, loss, limit)
    assert (result.loss_after <= limit).all() and (result.loss_before == 0).all()
    for p in range(MODELS):
        restored = {n: float(costs[n][p]) for n in SHAPES}
        for name in sorted(restored, key=restored.__getitem__, reverse=True):
            if sum(restored.values()) <= float(limit[p]):
                break
            del restored[name]
        assert {n for n in SHAPES if result.kept_restored[n][p]} == set(restored)
        assert float(result.loss_after[p]) == pytest.approx(sum(restored.values()), rel=1e-5)
        for name in SHAPES:
            expected = ALIGNED if name in restored else FINETUNED
            assert torch.equal(result.weights[name][p], expected[name][p])
    assert result.kept_restored["in"][4] and not result.kept_restored["in"][0]


def test_roll_back_with_nan() -> None:
    """Model 1: NaN with restored norms, which are rolled back. Model 2: always NaN, all are."""

    def loss(w: Weights) -> Tensor:
        value = QuadraticLoss(FINETUNED)(w)
        value[1] = torch.where((w["norm"][1] == ALIGNED["norm"][1]).all(), torch.nan, value[1])
        value[2] = torch.nan
        return value

    result = selective_restore.roll_back(FINETUNED, ALIGNED, loss, 1e9)
    restored = torch.stack([result.kept_restored[n] for n in SHAPES]).T
    assert restored.tolist() == [[True] * 3, [True, True, False], [False] * 3, *[[True] * 3] * 2]
    assert torch.equal(result.weights["in"][2], FINETUNED["in"][2])


# --- recovery step by step --------------------------------------------------------------------

DOWNSTREAM, ALIGNMENT = random_hessians(5), random_hessians(6)
LIMITS = torch.tensor([0.3, 1.0, 3.0, 8.0, 1e9])
CONFIG = RecoveryConfig(LIMITS, step_fraction=0.06, warmup_steps=5, steps=20, check_every=1)


def recovered(
    finetuned: Weights, config: RecoveryConfig, models: slice = slice(None)
) -> RecoveryResult:
    finetuned = {name: w[models] for name, w in finetuned.items()}
    aligned = {name: w[models] for name, w in ALIGNED.items()}
    alignment = QuadraticLoss(aligned, ALIGNMENT[models])
    downstream = QuadraticLoss(finetuned, DOWNSTREAM[models])
    return recover(finetuned, aligned, alignment.gradient, downstream.gradient, downstream, config)


def test_recovery_stays_within_its_limits() -> None:
    result = recovered(FINETUNED, CONFIG)
    assert (result.loss_after - result.loss_before <= LIMITS).all()
    downstream = QuadraticLoss(FINETUNED, DOWNSTREAM)
    torch.testing.assert_close(result.loss_after, downstream(result.weights))
    alignment, has_restored = QuadraticLoss(ALIGNED, ALIGNMENT), result.restored_fraction > 0
    assert (alignment(result.weights) < alignment(FINETUNED))[has_restored].all()
    # model 1: the first step exceeds the limit, so nothing is restored
    assert has_restored.tolist() == [True, False, True, True, True]
    assert result.rolled_back.tolist() == [True, True, True, True, False]
    for name, w in result.weights.items():  # every weight is from one of the two
        assert ((w == FINETUNED[name]) | (w == ALIGNED[name])).all()
    # without a limit and with enough steps, alignment is fully restored
    result = recovered(FINETUNED, RecoveryConfig(1e9, step_fraction=0.2, warmup_steps=5, steps=60))
    assert not result.rolled_back.any()
    assert (alignment(result.weights) < 0.1 * alignment(FINETUNED)).all()


def published_procedure(p: int, config: RecoveryConfig, limit: float) -> tuple[np.ndarray, bool]:
    """The published procedure for one model, on one vector."""
    finetuned, aligned = flat(FINETUNED, p), flat(ALIGNED, p)
    downstream, alignment = DOWNSTREAM[p].numpy(), ALIGNMENT[p].numpy()

    def loss(w: np.ndarray) -> float:
        return float((w - finetuned) @ downstream @ (w - finetuned) / 2)

    def step(w: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        total += alignment @ (w - aligned)
        eligible = np.flatnonzero((w - aligned) * total > 0)
        order = eligible[np.argsort(-np.abs(total[eligible]))]
        selected = order[: int(np.ceil(config.step_fraction * SIZE))]
        w = w.copy()
        w[selected] = aligned[selected]
        return w, selected

    w, total = finetuned, np.zeros(SIZE)  # the sum of gradients
    for _ in range(config.warmup_steps):
        w, _ = step(w, total)
    rolled_back = loss(w) > limit
    if rolled_back:
        w, total = finetuned, np.zeros(SIZE)
    best = finetuned if rolled_back else w
    for index in range(0 if rolled_back else config.warmup_steps, config.steps):
        w, selected = step(w, total)
        if rolled_back:
            g = downstream @ (w - finetuned)
            eligible = [i for i in selected if g[i] * (w[i] - finetuned[i]) > 0]
            returned = sorted(eligible, key=lambda i: -abs(g[i]))
            returned = returned[: int(np.ceil(config.rollback_fraction * len(eligible)))]
            w[returned] = finetuned[returned]
            total[:] = 0
        if (index + 1) % config.check_every == 0:
            if loss(w) > limit:
                break
            best = w
    return best, rolled_back


@pytest.mark.parametrize("check_every", [1, 2, 5])
@pytest.mark.parametrize("rollback_fraction", [0.2, 0.6])
def test_recovery_is_the_published_procedure(rollback_fraction: float, check_every: int) -> None:
    config = RecoveryConfig(LIMITS, 0.05, 3, 10, check_every, rollback_fraction)
    result = recovered(FINETUNED, config)
    for p in range(MODELS):
        best, rolled_back = published_procedure(p, config, float(LIMITS[p]))
        assert bool(result.rolled_back[p]) == rolled_back
        np.testing.assert_array_equal(flat(result.weights, p), best)


def test_models_are_independent() -> None:
    with_nan = {name: w.clone() for name, w in FINETUNED.items()}
    with_nan["in"][1, 0, 0] = torch.nan
    result = recovered(with_nan, CONFIG)
    for p in (0, 2, 3, 4):
        config = dataclasses.replace(CONFIG, max_loss_increase=LIMITS[p : p + 1])
        alone = recovered(FINETUNED, config, slice(p, p + 1))
        for name in SHAPES:
            assert torch.equal(result.weights[name][p], alone.weights[name][0])
    torch.testing.assert_close(result.weights["in"][1], with_nan["in"][1], equal_nan=True)
    assert result.rolled_back[1]


def test_invalid_arguments() -> None:
    with refused("out_of_range", path="fraction"):
        selective_restore.select_weights(FINETUNED, ALIGNED, GRADIENT, 2.0)
    with refused("unknown_name", path="inn"):
        selective_restore.select_weights(FINETUNED, ALIGNED, {"inn": GRADIENT["in"]}, 0.1)
    with refused("missing", path="norm"):
        incomplete = dict(itertools.islice(ALIGNED.items(), 2))
        selective_restore.roll_back(FINETUNED, incomplete, QuadraticLoss(FINETUNED), 1.0)
    with refused("out_of_range", path="warmup_steps"):
        RecoveryConfig(max_loss_increase=1.0, warmup_steps=30)
    with refused("out_of_range", path="rollback_fraction"):
        RecoveryConfig(max_loss_increase=1.0, rollback_fraction=-0.1)

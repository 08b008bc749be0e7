"""Restoring alignment: what is chosen, what is given back, and what recovery guarantees."""

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
POLICIES = 5
Weights = dict[str, Tensor]


def weights(seed: int) -> Weights:
    generator = torch.Generator().manual_seed(seed)
    kind = {"generator": generator, "dtype": torch.float64}
    return {n: torch.randn(POLICIES, *shape, **kind) for n, shape in SHAPES.items()}


def line(one: Weights, policy: int) -> np.ndarray:
    return np.concatenate([w[policy].double().numpy().reshape(-1) for w in one.values()])


@dataclasses.dataclass
class Bowl:
    """Loss ½ (w - goal)ᵀ S (w - goal) of every policy; S is the identity if none is given."""

    goal: Weights
    shape: Tensor | None = None

    def __call__(self, now: Weights) -> Tensor:
        apart = self.apart(now)
        return (apart * self.pull(apart)).sum(1) / 2

    def gradient(self, now: Weights) -> Weights:
        return stacked_weights.unflatten_weights(self.pull(self.apart(now)), now, list(now))

    def apart(self, now: Weights) -> Tensor:
        return stacked_weights.flatten_weights(now, list(now)) - stacked_weights.flatten_weights(
            self.goal, list(now)
        )

    def pull(self, apart: Tensor) -> Tensor:
        return apart if self.shape is None else torch.einsum("pij,pj->pi", self.shape, apart)


def tilted(seed: int) -> Tensor:
    """Bowls in which weights depend on each other: what one costs changes with the others."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(POLICIES, SIZE, SIZE, generator=generator, dtype=torch.float64)
    return root @ root.mT / SIZE


TUNED, ALIGNED, GRADIENT = weights(0), weights(1), weights(2)


@pytest.mark.parametrize("by", ["gradient", "gain"])
@pytest.mark.parametrize("share", [0.0, 0.11, 0.3, 1.0])
def test_choice_is_that_of_a_loop(by: selective_restore.RankBy, share: float) -> None:
    """Eligible where the way back is downhill; of these the largest, per policy."""
    chosen = selective_restore.select_weights(TUNED, ALIGNED, GRADIENT, share, rank_by=by)
    for p in range(POLICIES):
        moved, g = line(TUNED, p) - line(ALIGNED, p), line(GRADIENT, p)
        eligible = [i for i in range(SIZE) if moved[i] * g[i] > 0]
        rank = {i: abs(g[i]) if by == "gradient" else abs(g[i] * moved[i]) for i in eligible}
        best = sorted(eligible, key=rank.__getitem__, reverse=True)[: int(np.ceil(share * SIZE))]
        assert np.flatnonzero(line(chosen, p)).tolist() == sorted(best)
    back = selective_restore.restore(TUNED, ALIGNED, chosen)
    for name, mask in chosen.items():
        assert torch.equal(back[name], torch.where(mask, ALIGNED[name], TUNED[name]))
    # weights already restored are not chosen again, and tensors without a gradient stay out
    some = {n: g for n, g in GRADIENT.items() if n != "norm"}
    again = selective_restore.select_weights(back, ALIGNED, some, 1.0)
    assert set(again) == {"in", "bias"} and not (again["in"] & chosen["in"]).any()


def test_share_of_those_eligible() -> None:
    among = {n: w > 0 for n, w in weights(3).items()}
    chosen = selective_restore.select_weights(
        TUNED, ALIGNED, GRADIENT, 0.5, among, fraction_of="eligible"
    )
    everything = selective_restore.select_weights(
        TUNED, ALIGNED, GRADIENT, 1.0, among, fraction_of="eligible"
    )
    for p in range(POLICIES):
        count = int(line(everything, p).sum())
        assert int(line(chosen, p).sum()) == -(-count // 2)
        assert (line(chosen, p) <= line(among, p)).all()


def test_without_data_what_alignment_moved_most_comes_back() -> None:
    """With `against`, gain ranks by (θ_a - θ)(θ_a - θ_before): what tuning undid of alignment."""
    before = weights(4)
    chosen = selective_restore.select_weights(
        TUNED,
        ALIGNED,
        selective_restore.alignment_pseudo_gradient(ALIGNED, before),
        0.2,
        rank_by="gain",
    )
    for p in range(POLICIES):
        undone = (line(ALIGNED, p) - line(TUNED, p)) * (line(ALIGNED, p) - line(before, p))
        assert set(np.flatnonzero(line(chosen, p))) == set(np.argsort(-undone)[:4])


# --- measured roll-back -----------------------------------------------------------------------


def test_what_costs_too_much_is_given_back() -> None:
    """Costs by tensor add up here, so the fewest that must go are known."""
    loss = Bowl(TUNED)
    costs = {n: ((ALIGNED[n] - TUNED[n]) ** 2).flatten(1).sum(1) / 2 for n in SHAPES}
    allowed = torch.tensor([0.0, 3.0, 8.0, 20.0, 1e9])
    found = selective_restore.roll_back(TUNED, ALIGNED, loss, allowed)
    assert (found.loss_after <= allowed).all() and (found.loss_before == 0).all()
    for p in range(POLICIES):
        left = {n: float(costs[n][p]) for n in SHAPES}
        for name in sorted(left, key=left.__getitem__, reverse=True):
            if sum(left.values()) <= float(allowed[p]):
                break
            del left[name]
        assert {n for n in SHAPES if found.kept_restored[n][p]} == set(left)
        assert float(found.loss_after[p]) == pytest.approx(sum(left.values()), rel=1e-5)
        for name in SHAPES:
            expected = ALIGNED if name in left else TUNED
            assert torch.equal(found.weights[name][p], expected[name][p])
    assert found.kept_restored["in"][4] and not found.kept_restored["in"][0]


def test_roll_back_with_a_loss_that_cannot_be_told() -> None:
    """NaN whenever a policy's norms were restored: they go back. NaN always: everything does."""

    def loss(now: Weights) -> Tensor:
        value = Bowl(TUNED)(now)
        value[1] = torch.where((now["norm"][1] == ALIGNED["norm"][1]).all(), torch.nan, value[1])
        value[2] = torch.nan
        return value

    found = selective_restore.roll_back(TUNED, ALIGNED, loss, 1e9)
    kept = torch.stack([found.kept_restored[n] for n in SHAPES]).T
    assert kept.tolist() == [[True] * 3, [True, True, False], [False] * 3, *[[True] * 3] * 2]
    assert torch.equal(found.weights["in"][2], TUNED["in"][2])


# --- recovery step by step --------------------------------------------------------------------

DOWNSTREAM, ALIGNMENT = tilted(5), tilted(6)
ALLOWED = torch.tensor([0.3, 1.0, 3.0, 8.0, 1e9])
PLAN = RecoveryConfig(ALLOWED, step_fraction=0.06, warmup_steps=5, steps=20, check_every=1)


def recovered(
    tuned: Weights, plan: RecoveryConfig, policies: slice = slice(None)
) -> RecoveryResult:
    tuned = {name: w[policies] for name, w in tuned.items()}
    aligned = {name: w[policies] for name, w in ALIGNED.items()}
    alignment = Bowl(aligned, ALIGNMENT[policies])
    downstream = Bowl(tuned, DOWNSTREAM[policies])
    return recover(tuned, aligned, alignment.gradient, downstream.gradient, downstream, plan)


def test_recovery_stays_within_what_is_allowed() -> None:
    found = recovered(TUNED, PLAN)
    assert (found.loss_after - found.loss_before <= ALLOWED).all()
    torch.testing.assert_close(found.loss_after, Bowl(TUNED, DOWNSTREAM)(found.weights))
    alignment, some = Bowl(ALIGNED, ALIGNMENT), found.restored_fraction > 0
    assert (alignment(found.weights) < alignment(TUNED))[some].all()
    # the second policy's first step costs more than it may, so that nothing is restored
    assert some.tolist() == [True, False, True, True, True]
    assert found.rolled_back.tolist() == [True, True, True, True, False]
    for name, w in found.weights.items():  # every weight is from one of the two
        assert ((w == TUNED[name]) | (w == ALIGNED[name])).all()
    # without a limit and with all steps it takes, alignment is as it was
    free = recovered(TUNED, RecoveryConfig(1e9, step_fraction=0.2, warmup_steps=5, steps=60))
    assert not free.rolled_back.any() and (alignment(free.weights) < 0.1 * alignment(TUNED)).all()


def by_hand(p: int, plan: RecoveryConfig, allowed: float) -> tuple[np.ndarray, bool]:
    """The published procedure for one policy, on one vector."""
    tuned, aligned = line(TUNED, p), line(ALIGNED, p)
    downstream, alignment = DOWNSTREAM[p].numpy(), ALIGNMENT[p].numpy()

    def loss(now: np.ndarray) -> float:
        return float((now - tuned) @ downstream @ (now - tuned) / 2)

    def step(now: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        total += alignment @ (now - aligned)
        eligible = np.flatnonzero((now - aligned) * total > 0)
        order = eligible[np.argsort(-np.abs(total[eligible]))]
        chosen = order[: int(np.ceil(plan.step_fraction * SIZE))]
        now = now.copy()
        now[chosen] = aligned[chosen]
        return now, chosen

    now, total = tuned, np.zeros(SIZE)  # gradients add up
    for _ in range(plan.warmup_steps):
        now, _ = step(now, total)
    careful = loss(now) > allowed
    if careful:
        now, total = tuned, np.zeros(SIZE)
    best = tuned if careful else now
    for number in range(0 if careful else plan.warmup_steps, plan.steps):
        now, chosen = step(now, total)
        if careful:
            g = downstream @ (now - tuned)
            eligible = [i for i in chosen if g[i] * (now[i] - tuned[i]) > 0]
            back = sorted(eligible, key=lambda i: -abs(g[i]))
            back = back[: int(np.ceil(plan.rollback_fraction * len(eligible)))]
            now[back] = tuned[back]
            total[:] = 0
        if (number + 1) % plan.check_every == 0:
            if loss(now) > allowed:
                break
            best = now
    return best, careful


@pytest.mark.parametrize("check_every", [1, 2, 5])
@pytest.mark.parametrize("given_back", [0.2, 0.6])
def test_recovery_is_the_published_procedure(given_back: float, check_every: int) -> None:
    plan = RecoveryConfig(ALLOWED, 0.05, 3, 10, check_every, given_back)
    found = recovered(TUNED, plan)
    for p in range(POLICIES):
        best, careful = by_hand(p, plan, float(ALLOWED[p]))
        assert bool(found.rolled_back[p]) == careful
        np.testing.assert_array_equal(line(found.weights, p), best)


def test_policies_do_not_meet() -> None:
    sick = {name: w.clone() for name, w in TUNED.items()}
    sick["in"][1, 0, 0] = torch.nan
    found = recovered(sick, PLAN)
    for p in (0, 2, 3, 4):
        own = slice(p, p + 1)
        alone = recovered(TUNED, dataclasses.replace(PLAN, max_loss_increase=ALLOWED[own]), own)
        for name in SHAPES:
            assert torch.equal(found.weights[name][p], alone.weights[name][0])
    torch.testing.assert_close(found.weights["in"][1], sick["in"][1], equal_nan=True)
    assert found.rolled_back[1]


def test_bad_input() -> None:
    with refused("out_of_range", path="share"):
        selective_restore.select_weights(TUNED, ALIGNED, GRADIENT, 2.0)
    with refused("unknown_name", path="inn"):
        selective_restore.select_weights(TUNED, ALIGNED, {"inn": GRADIENT["in"]}, 0.1)
    with refused("missing", path="norm"):
        lacking = dict(itertools.islice(ALIGNED.items(), 2))
        selective_restore.roll_back(TUNED, lacking, Bowl(TUNED), 1.0)
    with refused("out_of_range", path="warm_up"):
        RecoveryConfig(max_loss_increase=1.0, warmup_steps=30)
    with refused("out_of_range", path="given_back"):
        RecoveryConfig(max_loss_increase=1.0, rollback_fraction=-0.1)

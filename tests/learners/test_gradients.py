"""Clipping against torch, combinations of principals against loops, closed forms and scipy."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.optimize
import torch
from torch import Tensor

from mores.agents.learning import gradients as operators
from tests.refusals import refused

SHAPES = {"in": (3, 4), "bias": (1, 4), "scale": ()}
SIZE = 3 * 4 + 4 + 1


def stack(seed: int, *leading: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(*leading, *shape, generator=generator) for name, shape in SHAPES.items()
    }


def vectors(gradients: dict[str, Tensor]) -> np.ndarray:
    """`[principal, policy, weight]` in double precision."""
    rows = [g.reshape(*g.shape[:2], -1) for g in gradients.values()]
    return torch.cat(rows, -1).double().numpy()


def of_vectors(array: np.ndarray) -> dict[str, Tensor]:
    return {"w": torch.tensor(array, dtype=torch.float32)}


def combined(found: operators.CombinedGradients) -> np.ndarray:
    return vectors({name: g[None] for name, g in found.gradients.items()})[0]


# --- clipping ---------------------------------------------------------------------------------


def test_clipping_is_torchs_for_every_policy() -> None:
    policies = 5
    gradients = stack(0, policies)
    limits = torch.tensor([0.1, 1.0, 3.0, 4.0, 1e9])
    ours = operators.clip_by_norm(gradients, limits)
    for p in range(policies):
        theirs = [torch.nn.Parameter(g[p].clone()) for g in gradients.values()]
        for parameter in theirs:
            parameter.grad = parameter.detach().clone()
        norm = torch.nn.utils.clip_grad_norm_(theirs, float(limits[p]))
        assert float(ours.norm[p]) == pytest.approx(float(norm), rel=1e-6)
        for parameter, gradient in zip(theirs, ours.gradients.values(), strict=True):
            torch.testing.assert_close(gradient[p], parameter.grad)
    assert ours.finite.all()
    # a limit that nobody reaches changes nothing
    unclipped = operators.clip_by_norm(gradients, 1e9).gradients
    assert all(torch.equal(unclipped[name], gradients[name]) for name in gradients)


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, 1e38])
def test_a_broken_gradient_is_zeroed_and_reported(broken: float) -> None:
    """1e38 is finite, but its square is not: a norm that overflows cannot be clipped to."""
    gradients = stack(1, 4)
    well = operators.clip_by_norm(gradients, 1.0)
    gradients["in"][2] = broken
    sick = operators.clip_by_norm(gradients, 1.0)
    assert sick.finite.tolist() == [True, True, False, True]
    others = torch.tensor([0, 1, 3])
    for name in gradients:
        assert torch.equal(sick.gradients[name][others], well.gradients[name][others])
        assert (sick.gradients[name][2] == 0).all()
    assert torch.equal(sick.norm[others], well.norm[others])


# --- gradients of principals ------------------------------------------------------------------


def test_gradients_of_every_principal() -> None:
    """Losses Σ (w - goal)² / 2 have gradients w - goal; a tensor nobody asks about has none."""
    parameters = stack(2, 3)
    goals = stack(3, 4, 3)

    def losses(values: dict[str, Tensor]) -> Tensor:
        return sum(
            ((values[n] - goals[n]) ** 2).reshape(4, 3, -1).sum(-1) / 2 for n in ("in", "bias")
        )

    found = operators.principal_gradients(losses, parameters)
    for name in ("in", "bias"):
        torch.testing.assert_close(found[name], parameters[name] - goals[name])
    assert found["scale"].shape == (4, 3) and (found["scale"] == 0).all()
    with refused("wrong_shape", path="losses"):
        operators.principal_gradients(lambda values: losses(values).T, parameters)


def pcgrad_by_hand(gradients: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The algorithm of the paper for one policy, `[principal, weight]`, averaged."""
    left = gradients.copy()
    for i in range(len(gradients)):
        for j in order[i]:
            along = left[i] @ gradients[j]
            if j != i and along < 0:
                left[i] -= along / (gradients[j] @ gradients[j]) * gradients[j]
    return left.mean(0)


@hypothesis.settings(max_examples=40)
@hypothesis.given(st.integers(0, 10**6), st.integers(1, 6), st.booleans())
def test_projection_as_the_paper_does_it(seed: int, principals: int, each: bool) -> None:
    policies = 3
    gradients = stack(seed, principals, policies)
    generator = torch.Generator().manual_seed(seed)
    shape = (policies, principals, principals) if each else (policies, principals)
    order = torch.rand(shape, generator=generator).argsort(-1)
    found = operators.pcgrad(gradients, order)
    plain = vectors(gradients)
    for p in range(policies):
        rows = order[p].numpy() if each else np.tile(order[p].numpy(), (principals, 1))
        by_hand = pcgrad_by_hand(plain[:, p], rows)
        np.testing.assert_allclose(combined(found)[p], by_hand, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found.weight[p].numpy() @ plain[:, p], by_hand, atol=1e-5)


def test_two_gradients_in_conflict() -> None:
    """(1, 0) and (-1, 1): the first loses its part along the second, and the second along it."""
    gradients = of_vectors(np.array([[[1.0, 0.0]], [[-1.0, 1.0]]]))
    projected = operators.pcgrad(gradients)
    np.testing.assert_allclose(combined(projected)[0], [0.25, 0.75])  # mean of (½, ½) and (0, 1)
    np.testing.assert_allclose(combined(operators.mean_gradient(gradients))[0], [0.0, 0.5])
    shortest = operators.mgda(gradients)
    np.testing.assert_allclose(shortest.weight[0], [0.6, 0.4], atol=1e-6)  # (2, 1) is normal to it
    np.testing.assert_allclose(combined(shortest)[0], [0.2, 0.4], atol=1e-6)
    assert float(shortest.conflict_share[0]) == 1.0

    agreeing = of_vectors(np.array([[[1.0, 0.0]], [[1.0, 1.0]]]))
    np.testing.assert_allclose(combined(operators.pcgrad(agreeing))[0], [1.0, 0.5])
    np.testing.assert_allclose(operators.mgda(agreeing).weight[0], [1.0, 0.0])
    assert float(operators.conflict_share(agreeing)[0]) == 0.0


@hypothesis.settings(max_examples=40)
@hypothesis.given(st.integers(0, 10**6), st.floats(-3, 3))
def test_shortest_of_two_is_the_closed_form(seed: int, tilt: float) -> None:
    generator = np.random.default_rng(seed)
    one = generator.normal(size=(8, 5))
    other = tilt * one + generator.normal(size=(8, 5))
    found = operators.mgda(of_vectors(np.stack([one, other])))
    inner = ((other - one) * other).sum(1) / ((one - other) ** 2).sum(1)
    np.testing.assert_allclose(found.weight[:, 0], inner.clip(0, 1), atol=2e-5)


def test_shortest_of_many_is_scipys() -> None:
    """Min-norm point of hulls of 3 to 7 gradients, some with the origin inside."""
    for principals, size in ((3, 2), (4, 17), (7, 4), (7, 30)):
        generator = np.random.default_rng(principals * size)
        gradients = generator.normal(size=(principals, 5, size)) + 0.4
        found = operators.mgda(of_vectors(gradients))
        weight = found.weight.double().numpy()
        assert (weight >= 0).all() and np.allclose(weight.sum(1), 1, atol=1e-6)
        for p in range(5):
            hull = gradients[:, p]
            # scipy: nonnegative least squares of the hull and of the sum of weights being one
            heavy = 1e4
            system = np.vstack([hull.T, heavy * np.ones(principals)])
            target = np.concatenate([np.zeros(size), [heavy]])
            theirs, _ = scipy.optimize.nnls(system, target)
            length = np.linalg.norm(hull.T @ (theirs / theirs.sum()))
            ours = np.linalg.norm(hull.T @ weight[p])
            assert ours == pytest.approx(length, rel=1e-3, abs=2e-3)
            # and by its own condition: nobody's loss rises along the shortest vector
            shortest = hull.T @ weight[p]
            assert (hull @ shortest >= shortest @ shortest - 1e-4).all()


def test_conflict_is_the_share_of_obtuse_pairs() -> None:
    gradients = stack(4, 5, 6)
    plain = vectors(gradients)
    for p in range(6):
        pairs = [plain[i, p] @ plain[j, p] < 0 for i in range(5) for j in range(i)]
        assert float(operators.conflict_share(gradients)[p]) == pytest.approx(np.mean(pairs))
    assert operators.conflict_share(stack(4, 1, 2)).tolist() == [0.0, 0.0]
    gradients["in"][0], gradients["bias"][0], gradients["scale"][0] = 0.0, 0.0, 0.0
    without = operators.conflict_share({name: g[1:] for name, g in gradients.items()})
    torch.testing.assert_close(
        operators.conflict_share(gradients), without * 6 / 10
    )  # no conflict of 0


WAYS = {"mean": operators.mean_gradient, "pcgrad": operators.pcgrad, "min_norm": operators.mgda}


@pytest.mark.parametrize("way", WAYS)
def test_policies_do_not_meet(way: str) -> None:
    """Together as alone, whatever state a neighbour is in; a zero gradient harms nobody."""
    gradients = stack(5, 4, 3)
    for name in gradients:
        gradients[name][1, 0] = 0.0
        gradients[name][:, 1] *= 1e6
    alone = [WAYS[way]({n: g[:, p : p + 1] for n, g in gradients.items()}) for p in range(3)]
    gradients["in"][2, 1] = torch.nan
    together = WAYS[way](gradients)
    for p in (0, 2):
        for name in gradients:
            expected = alone[p].gradients[name][0]
            torch.testing.assert_close(together.gradients[name][p], expected)
            assert expected.isfinite().all()
        torch.testing.assert_close(together.conflict[p], alone[p].conflict[0])
    assert together.gradients["in"][1].isnan().any()  # its own trouble stays in sight


def test_bad_input() -> None:
    gradients = stack(6, 3, 2)
    with refused("out_of_range", path="limit"):
        operators.clip_by_norm(stack(6, 2), torch.tensor([1.0, 0.0]))
    with refused("wrong_shape", path="b"):
        operators.clip_by_norm({"a": torch.ones(2, 3), "b": torch.ones(3)})
    with refused("invalid_value", path="order"):
        operators.pcgrad(gradients, torch.tensor([[0, 1, 1], [0, 1, 2]]))
    with refused("wrong_shape", path="order"):
        operators.pcgrad(gradients, torch.zeros(3, 2, dtype=torch.int64))
    with refused("wrong_shape", path="gradients"):
        operators.mean_gradient({"a": torch.ones(3, 2, 4), "b": torch.ones(3, 4, 2)})

"""Clipping against torch; combinations of principals against loops, closed forms and scipy."""

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
    """`[principal, model, weight]` in double precision."""
    rows = [g.reshape(*g.shape[:2], -1) for g in gradients.values()]
    return torch.cat(rows, -1).double().numpy()


def from_vectors(array: np.ndarray) -> dict[str, Tensor]:
    return {"w": torch.tensor(array, dtype=torch.float32)}


def combined(result: operators.CombinedGradients) -> np.ndarray:
    return vectors({name: g[None] for name, g in result.gradients.items()})[0]


# --- clipping ---------------------------------------------------------------------------------


def test_clipping_equals_torchs_for_every_model() -> None:
    models = 5
    gradients = stack(0, models)
    max_norms = torch.tensor([0.1, 1.0, 3.0, 4.0, 1e9])
    ours = operators.clip_by_norm(gradients, max_norms)
    for m in range(models):
        theirs = [torch.nn.Parameter(g[m].clone()) for g in gradients.values()]
        for parameter in theirs:
            parameter.grad = parameter.detach().clone()
        norm = torch.nn.utils.clip_grad_norm_(theirs, float(max_norms[m]))
        assert float(ours.norm[m]) == pytest.approx(float(norm), rel=1e-6)
        for parameter, gradient in zip(theirs, ours.gradients.values(), strict=True):
            torch.testing.assert_close(gradient[m], parameter.grad)
    assert ours.finite.all()
    # A norm above all gradients changes nothing.
    unclipped = operators.clip_by_norm(gradients, 1e9).gradients
    assert all(torch.equal(unclipped[name], gradients[name]) for name in gradients)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e38])
def test_a_non_finite_gradient_is_zeroed_and_reported(value: float) -> None:
    """1e38 is finite, but its square is not: a norm that overflows cannot be clipped."""
    gradients = stack(1, 4)
    healthy = operators.clip_by_norm(gradients, 1.0)
    gradients["in"][2] = value
    faulty = operators.clip_by_norm(gradients, 1.0)
    assert faulty.finite.tolist() == [True, True, False, True]
    others = torch.tensor([0, 1, 3])
    for name in gradients:
        assert torch.equal(faulty.gradients[name][others], healthy.gradients[name][others])
        assert (faulty.gradients[name][2] == 0).all()
    assert torch.equal(faulty.norm[others], healthy.norm[others])


# --- gradients of principals ------------------------------------------------------------------


def test_gradients_of_every_principal() -> None:
    """Losses Σ (w - goal)² / 2 have gradients w - goal; an unused tensor has gradient 0."""
    parameters = stack(2, 3)
    goals = stack(3, 4, 3)

    def losses(values: dict[str, Tensor]) -> Tensor:
        return sum(
            ((values[n] - goals[n]) ** 2).reshape(4, 3, -1).sum(-1) / 2 for n in ("in", "bias")
        )

    gradients = operators.principal_gradients(losses, parameters)
    for name in ("in", "bias"):
        torch.testing.assert_close(gradients[name], parameters[name] - goals[name])
    assert gradients["scale"].shape == (4, 3) and (gradients["scale"] == 0).all()
    with refused("wrong_shape", path="losses"):
        operators.principal_gradients(lambda values: losses(values).T, parameters)


def reference_pcgrad(gradients: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The algorithm of the paper for one model, `[principal, weight]`, averaged."""
    projected = gradients.copy()
    for i in range(len(gradients)):
        for j in order[i]:
            along = projected[i] @ gradients[j]
            if j != i and along < 0:
                projected[i] -= along / (gradients[j] @ gradients[j]) * gradients[j]
    return projected.mean(0)


@hypothesis.settings(max_examples=40)
@hypothesis.given(st.integers(0, 10**6), st.integers(1, 6), st.booleans())
def test_pcgrad_equals_the_paper(seed: int, principals: int, has_rows: bool) -> None:
    models = 3
    gradients = stack(seed, principals, models)
    generator = torch.Generator().manual_seed(seed)
    shape = (models, principals, principals) if has_rows else (models, principals)
    order = torch.rand(shape, generator=generator).argsort(-1)
    result = operators.pcgrad(gradients, order)
    arrays = vectors(gradients)
    for m in range(models):
        rows = order[m].numpy() if has_rows else np.tile(order[m].numpy(), (principals, 1))
        expected = reference_pcgrad(arrays[:, m], rows)
        np.testing.assert_allclose(combined(result)[m], expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(result.weight[m].numpy() @ arrays[:, m], expected, atol=1e-5)


def test_two_gradients_in_conflict() -> None:
    """(1, 0) and (-1, 1): each loses its component along the other."""
    gradients = from_vectors(np.array([[[1.0, 0.0]], [[-1.0, 1.0]]]))
    projected = operators.pcgrad(gradients)
    np.testing.assert_allclose(combined(projected)[0], [0.25, 0.75])  # mean of (½, ½) and (0, 1)
    np.testing.assert_allclose(combined(operators.mean_gradient(gradients))[0], [0.0, 0.5])
    shortest = operators.mgda(gradients)
    np.testing.assert_allclose(shortest.weight[0], [0.6, 0.4], atol=1e-6)  # (2, 1) is normal to it
    np.testing.assert_allclose(combined(shortest)[0], [0.2, 0.4], atol=1e-6)
    assert float(shortest.conflict_share[0]) == 1.0

    agreeing = from_vectors(np.array([[[1.0, 0.0]], [[1.0, 1.0]]]))
    np.testing.assert_allclose(combined(operators.pcgrad(agreeing))[0], [1.0, 0.5])
    np.testing.assert_allclose(operators.mgda(agreeing).weight[0], [1.0, 0.0])
    assert float(operators.conflict_share(agreeing)[0]) == 0.0


@hypothesis.settings(max_examples=40)
@hypothesis.given(st.integers(0, 10**6), st.floats(-3, 3))
def test_mgda_of_two_gradients_is_the_closed_form(seed: int, tilt: float) -> None:
    generator = np.random.default_rng(seed)
    first = generator.normal(size=(8, 5))
    second = tilt * first + generator.normal(size=(8, 5))
    result = operators.mgda(from_vectors(np.stack([first, second])))
    weight = ((second - first) * second).sum(1) / ((first - second) ** 2).sum(1)
    np.testing.assert_allclose(result.weight[:, 0], weight.clip(0, 1), atol=2e-5)


def test_mgda_of_many_gradients_equals_scipy() -> None:
    """Shortest vector of hulls of 3 to 7 gradients, some with the origin inside."""
    for principals, size in ((3, 2), (4, 17), (7, 4), (7, 30)):
        generator = np.random.default_rng(principals * size)
        gradients = generator.normal(size=(principals, 5, size)) + 0.4
        weight = operators.mgda(from_vectors(gradients)).weight.double().numpy()
        assert (weight >= 0).all() and np.allclose(weight.sum(1), 1, atol=1e-6)
        for m in range(5):
            hull = gradients[:, m]
            # scipy: nonnegative least squares of the hull, with a penalty for a sum other than one
            penalty = 1e4
            system = np.vstack([hull.T, penalty * np.ones(principals)])
            target = np.concatenate([np.zeros(size), [penalty]])
            theirs, _ = scipy.optimize.nnls(system, target)
            length = np.linalg.norm(hull.T @ (theirs / theirs.sum()))
            ours = np.linalg.norm(hull.T @ weight[m])
            assert ours == pytest.approx(length, rel=1e-3, abs=2e-3)
            # Optimality condition: no loss rises along the shortest vector.
            shortest = hull.T @ weight[m]
            assert (hull @ shortest >= shortest @ shortest - 1e-4).all()


def test_conflict_share_counts_obtuse_pairs() -> None:
    gradients = stack(4, 5, 6)
    arrays = vectors(gradients)
    for m in range(6):
        pairs = [arrays[i, m] @ arrays[j, m] < 0 for i in range(5) for j in range(i)]
        assert float(operators.conflict_share(gradients)[m]) == pytest.approx(np.mean(pairs))
    assert operators.conflict_share(stack(4, 1, 2)).tolist() == [0.0, 0.0]
    gradients["in"][0], gradients["bias"][0], gradients["scale"][0] = 0.0, 0.0, 0.0
    without = operators.conflict_share({name: g[1:] for name, g in gradients.items()})
    # A zero gradient is in no conflict.
    torch.testing.assert_close(operators.conflict_share(gradients), without * 6 / 10)


AGGREGATIONS = {
    "mean": operators.mean_gradient, "pcgrad": operators.pcgrad, "mgda": operators.mgda
}  # fmt: skip


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_models_are_independent(name: str) -> None:
    """A model with NaN or large gradients does not affect others; a zero gradient is no problem."""
    gradients, aggregate = stack(5, 4, 3), AGGREGATIONS[name]
    for tensor in gradients.values():
        tensor[1, 0] = 0.0
        tensor[:, 1] *= 1e6
    alone = [aggregate({n: g[:, m : m + 1] for n, g in gradients.items()}) for m in range(3)]
    gradients["in"][2, 1] = torch.nan
    together = aggregate(gradients)
    for m in (0, 2):
        for key in gradients:
            expected = alone[m].gradients[key][0]
            torch.testing.assert_close(together.gradients[key][m], expected)
            assert expected.isfinite().all()
        torch.testing.assert_close(together.conflict_share[m], alone[m].conflict_share[0])
    assert together.gradients["in"][1].isnan().any()  # NaN is not hidden


def test_bad_input() -> None:
    gradients = stack(6, 3, 2)
    with refused("out_of_range", path="max_norm"):
        operators.clip_by_norm(stack(6, 2), torch.tensor([1.0, 0.0]))
    with refused("wrong_shape", path="b"):
        operators.clip_by_norm({"a": torch.ones(2, 3), "b": torch.ones(3)})
    with refused("invalid_value", path="order"):
        operators.pcgrad(gradients, torch.tensor([[0, 1, 1], [0, 1, 2]]))
    with refused("wrong_shape", path="order"):
        operators.pcgrad(gradients, torch.zeros(3, 2, dtype=torch.int64))
    with refused("wrong_shape", path="gradients"):
        operators.mean_gradient({"a": torch.ones(3, 2, 4), "b": torch.ones(3, 4, 2)})

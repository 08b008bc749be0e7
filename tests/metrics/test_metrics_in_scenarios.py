"""Registered metrics in scenario files: parameters, names, distances from the control, remarks."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from mores.experiments.claims.claim_evaluation import make_claim_data
from mores.experiments.run.cell_execution import run_cell
from mores.experiments.scenario.expansion import build_and_verify
from mores.experiments.scenario.metric_check import undefined_metrics
from mores.experiments.scenario.specification import Scenario
from mores.registry import REGISTRIES
from tests.cells import expand_and_verify
from tests.learners.small_environments import unchecked
from tests.refusals import refused

HILL = {"kind": "hill_number", "order": 2, "name": "opinions"}
METRICS = ["ai_error", "mean_value", "return_person", "path_length", HILL]


def scenario(**changes: Any) -> Scenario:
    """Two arms of `lock_in`, an environment without metrics of values of its own."""
    document = {
        "name": "beliefs",
        "about": "Beliefs as values.",
        "env": {"kind": "lock_in", "num_people": 6},
        "rounds": 4,
        "replicates": 3,
        "control": "a",
        "arms": {"a": {}, "b": {"env.trust_in_ai": 0.3}},
        "metrics": METRICS,
    }
    return Scenario.model_validate({**document, **changes})


def claim(metric: str, **parts: Any) -> dict[str, Any]:
    return {"statement": metric, "kind": "report", "metric": metric, "arm": "b", **parts}


def test_metrics_that_violate_the_contract_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = itertools.count()

    def mixed(values: Any) -> Any:
        return (values - values.mean()).abs().mean((1, 2))

    def counted(values: Any) -> Any:
        return values[:, 0, 0] + next(calls)

    def drawn(values: Any, memory: Any = None) -> Any:
        return values[:, 0, 0] + torch.rand(1), None

    def modified(values: Any) -> Any:
        return values.zero_()[:, 0, 0]

    for function, code in (
        (mixed, "world_leak"),
        (counted, "unseeded"),
        (drawn, "unseeded"),
        (modified, "modified_input"),
    ):
        monkeypatch.setitem(REGISTRIES["metric"], "mine", function)
        with unchecked(), refused(code, "metrics.1"):
            expand_and_verify(scenario(metrics=["ai_error", "mine"]))


def test_claims_about_registered_metrics() -> None:
    names = ("effect_vs_control", "distance_from_control(mean_value)", "opinions[0]",
             "distance_from_control(ai_error)", "ai_error", "distance_from_control(mean_value[0])",
             "return_person")  # fmt: skip
    spec = scenario(claims=[claim(name) for name in names])
    cells = expand_and_verify(spec)
    results = {cell.arm: run_cell(cell, spec, range(3), lambda _: None) for cell in cells}
    data = {each.metric: make_claim_data(each, spec, "b", results).values for each in spec.claims}
    assert (data["effect_vs_control"] == data["distance_from_control(mean_value)"]).all()
    assert (data["effect_vs_control"] == data["distance_from_control(mean_value[0])"]).all()
    assert data["effect_vs_control"].min() > 0
    errors = [results[arm].by_replicate("ai_error")[:, -1] for arm in "ab"]
    assert data["distance_from_control(ai_error)"] == pytest.approx(np.abs(errors[1] - errors[0]))
    assert (data["opinions[0]"] >= 1).all()
    assert (data["return_person"] < 0).all()  # minus a squared error


def test_claims_about_the_difference_of_two_changes() -> None:
    """The arm less the first reference, and `compare_to` less the second."""
    about = claim("ai_error") | {"arm": "b", "compare_to": "a", "references": ["a", "b"]}
    spec = scenario(claims=[about])
    cells = expand_and_verify(spec)
    results = {cell.arm: run_cell(cell, spec, range(3), lambda _: None) for cell in cells}
    a, b = (results[arm].by_replicate("ai_error")[:, -1] for arm in "ab")
    data = make_claim_data(spec.claims[0], spec, "b", results)
    assert data.values == pytest.approx(b - a)
    assert data.differences == pytest.approx(2.0 * (b - a))
    assert data.is_difference


@pytest.mark.parametrize(
    ("metrics", "path", "code"),
    [
        ([{**HILL, "order": -1}], "metrics.0.order", "out_of_range"),
        ([{**HILL, "kind": "hill_numbr"}], "metrics.0.kind", "unknown_name"),
        (["drift", {**HILL, "odrer": 1}], "metrics.1.odrer", "unknown_name"),
        (["group_gap"], "metrics.0", "missing"),
        (["returns_person"], "metrics.0", "unknown_name"),
        ([{"kind": "displacement", "direction": [1, 1]}], "metrics.0", "wrong_shape"),
        ([{"kind": "displacement"}], "metrics.0.direction", "missing"),
        (["distance_from_control(drift)"], "metrics.0", "invalid_value"),
    ],
)
def test_refused_metrics(metrics: list[Any], path: str, code: str) -> None:
    with refused(code, path):
        expand_and_verify(scenario(metrics=metrics))


@pytest.mark.parametrize(
    ("parts", "changes", "code"),
    [
        ({"metric": "distance_from_control(drift)"}, {}, "unknown_name"),
        ({"metric": "distance_from_control(mean_value[1])"}, {}, "unknown_name"),
        ({"metric": "distance_from_control(ai_error)", "arm": "a"}, {}, "conflict"),
        ({"metric": "distance_from_control(ai_error)"}, {"control": None}, "missing"),
    ],
)
def test_refused_distances(parts: dict[str, Any], changes: dict[str, Any], code: str) -> None:
    with refused(code, "claims.0.metric"):
        expand_and_verify(scenario(claims=[claim("so") | parts], **changes))


def test_metrics_without_a_number_are_found() -> None:
    env = {"kind": "coevolution", "num_people": 4}
    metrics = ["group_gap", "trust", "tracking_lag", "path_length"]
    spec = scenario(env=env, metrics=metrics, arms={"a": {}, "b": {"env.num_assistants": 0}})
    assert undefined_metrics(spec, build_and_verify(spec)) == ["group_gap"]

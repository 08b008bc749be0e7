"""Expansion of arms and sweeps into cells, and of cells into objects."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mores.experiments.scenario.expansion import (
    build_and_verify,
    build_cells,
    resolved_yaml,
)
from mores.experiments.scenario.loading import bundled_scenarios, load_scenario, validate_document
from mores.experiments.scenario.recorded_rounds import recorded_rounds
from mores.experiments.scenario.source_locations import SourceMap
from mores.experiments.scenario.specification import Scenario
from mores.experiments.scenario.strict_yaml import parse
from tests.cells import expand, expand_and_verify
from tests.refusals import refused

Write = Callable[..., str]


def scenario(**changes: object) -> Scenario:
    base = {
        "name": "walkers",
        "about": "People walk.",
        "env": {"kind": "toy_walk"},
        "policies": {"helper": {"kind": "toy_still"}},
        "rounds": 10,
        "metrics": ["mean_value", "drift"],
    }
    return validate_document({**base, **changes}, SourceMap("scenario walkers"))


def test_one_cell_without_arms() -> None:
    (cell,) = expand_and_verify(scenario())
    assert (cell.id, cell.arm, cell.point, cell.rounds) == ("main", "main", {}, 10)
    built = cell.build()
    assert (built.environment.num_people, built.population) == (4, None)
    assert {role: type(policy).__name__ for role, policy in built.policies.items()} == {
        "person": "Still",
        "helper": "Still",
    }


def test_arms_times_sweep_in_the_order_of_the_file() -> None:
    cells = expand_and_verify(
        scenario(
            arms={
                "still": {},
                "walking": {
                    "policies.person.step": 2,
                    "policies.person": {"kind": "toy_stride", "step": 4},
                    "env.shape.degree": 3,
                },
            },
            sweep={"env.rate": [0.1, 1], "env.shape": [{"kind": "star"}]},
        )
    )
    assert [cell.id for cell in cells] == [
        "still__env.rate=0.1,env.shape=star",
        "still__env.rate=1,env.shape=star",
        "walking__env.rate=0.1,env.shape=star",
        "walking__env.rate=1,env.shape=star",
    ]
    last = cells[-1].build()
    assert last.environment.rate == 1
    # the sweep applies after the arm, a parameter after its component
    assert last.environment.shape.model_dump() == {"kind": "star", "degree": 2}
    assert last.policies["person"].model_dump() == {"step": 2}


def test_override_of_an_arm_does_not_change_other_arms() -> None:
    arms = {"first": {"env.shape.degree": 5}, "second": {}}
    first, second = expand(scenario(env={"kind": "toy_walk", "shape": {"kind": "star"}}, arms=arms))
    assert first.env["shape"] == {"kind": "star", "degree": 5}
    assert second.env["shape"] == {"kind": "star"}


def test_entries_of_lists_are_numbered() -> None:
    network = {"kind": "deep", "hidden_sizes": [5, 6]}
    policies = {"person": {"kind": "toy_learner", "network": network}}
    sizes = "policies.person.network.hidden_sizes"
    (cell,) = expand_and_verify(scenario(policies=policies, sweep={f"{sizes}.1": [7]}))
    assert cell.policies["person"]["network"]["hidden_sizes"] == [5, 7]
    for entry, value, code in [
        ("1", 0, "out_of_range"),
        ("2", 3, "unknown_name"),
        ("x", 3, "unknown_name"),
        ("1.a", 3, "wrong_type"),
    ]:
        path = f"{sizes}.{entry}"
        with refused(code, path=f"sweep.{path}.0"):
            expand_and_verify(scenario(policies=policies, sweep={path: [value]}))


def test_null_removes_a_component() -> None:
    arms = {"with": {}, "bare": {"population": None, "policies.person": None}}
    _, bare = expand_and_verify(scenario(population={"kind": "toy_crowd"}, arms=arms))
    assert bare.population is None
    assert bare.build().environment.num_people == 4


def test_ids_are_safe_short_and_distinct() -> None:
    texts = ["../../etc", "a b", "a_b", "x" * 300, "x" * 301, "ü", "A_B"]
    cells = expand(scenario(sweep={"env.greeting": texts}))
    ids = [cell.id for cell in cells]
    assert len({name.lower() for name in ids}) == len(texts)
    assert all(len(name) <= 80 and name.replace("_", "").isascii() for name in ids)
    assert not any(set(name) & set('/\\ :*?"<>|') for name in ids)
    again = expand(scenario(sweep={"env.greeting": texts}))
    assert [cell.id for cell in again] == ids


def test_population_sets_parameters_of_the_environment() -> None:
    (cell,) = expand_and_verify(scenario(population={"kind": "toy_crowd", "num_people": 9}))
    assert (cell.env["num_people"], cell.env["num_values"]) == (9, 2)
    crowd = {"kind": "toy_crowd"}
    sweep = {"population.num_people": [3, 5]}
    cells = expand_and_verify(scenario(population=crowd, sweep=sweep))
    assert [cell.build().environment.num_people for cell in cells] == [3, 5]
    with refused("conflict", path="env.num_people"):
        expand(scenario(env={"kind": "toy_walk", "num_people": 4}, population=crowd))


def test_policies_of_roles_that_an_arm_lacks_are_dropped_in_that_arm_only() -> None:
    arms = {"with": {}, "alone": {"env.num_helpers": 0}}
    with_helper, alone = expand_and_verify(scenario(arms=arms))
    assert set(with_helper.policies) == {"helper"}
    assert set(alone.policies) == set()
    with refused("unknown_name", path="policies.helper"):
        expand_and_verify(scenario(env={"kind": "toy_walk", "num_helpers": 0}))


@pytest.mark.parametrize(
    ("changes", "path", "code"),
    [
        ({"sweep": {"env.rate": [0.1, 0.2, 0.1]}}, "sweep.env.rate.2", "duplicate"),
        ({"sweep": {"env.rate": [1, 1.0]}}, "sweep.env.rate.1", "duplicate"),
        (
            {"sweep": {"env.rate": [0.1]}, "arms": {"a": {"env.rate": 0.1}}},
            "arms.a.env.rate",
            "conflict",
        ),
        (
            {"sweep": {f"env.{n}": list(range(101)) for n in ("num_people", "num_values")}},
            "sweep",
            "too_large",
        ),
        ({"sweep": {"env.rate": [0.1, 3]}}, "sweep.env.rate.1", "out_of_range"),
        ({"sweep": {"env.rat": [0.1]}}, "sweep.env.rat", "unknown_name"),
        ({"sweep": {"policies": [{}]}}, "sweep.policies", "missing"),
        ({"sweep": {"env": [3]}}, "sweep.env.0", "wrong_type"),
        ({"sweep": {"policies.person.step": [3]}}, "sweep.policies.person.step.0", "missing"),
        (
            {"sweep": {"env.rate.x": [3]}, "env": {"kind": "toy_walk", "rate": 0.5}},
            "sweep.env.rate.x.0",
            "wrong_type",
        ),
        ({"arms": {"a": {"env.greeting.x": 1}}}, "arms.a.env.greeting.x", "wrong_type"),
        ({"arms": {"a": {"env.kind": 1}}}, "arms.a.env.kind", "wrong_type"),
        (
            {"env": {"kind": "toy_walk", "num_people": 10**6, "num_values": 10**6}},
            "env",
            "too_large",
        ),
        ({"metrics": ["mean_value", "effect_vs_control"]}, "metrics.1", "invalid_value"),
    ],
)
def test_refused(changes: dict, path: str, code: str) -> None:
    with refused(code, path=path) as info:
        expand_and_verify(scenario(**changes))
    assert len(str(info.value).splitlines()) == 1


def claim(**parts: object) -> dict:
    base = {"statement": "so", "kind": "statistical", "metric": "drift", "bound": {"above": 0}}
    return {**base, **parts}


ARMS = {"a": {}, "b": {"policies.person": {"kind": "toy_stride"}}}


@pytest.mark.parametrize(
    ("parts", "more", "key", "code"),
    [
        ({}, {"arms": ARMS}, "", "missing"),
        ({"metric": "effect_vs_control"}, {"arms": ARMS, "control": "a"}, ".metric", "conflict"),
        ({"metric": "effect_vs_control"}, {}, ".metric", "missing"),
        ({"metric": "effect_vs_control", "arm": "b"},
         {"arms": ARMS, "control": "a", "metrics": "drift"}, ".metric", "missing"),
        ({"metric": "mean_value[2]"}, {}, ".metric", "unknown_name"),
        ({"metric": "drift[0]"}, {}, ".metric", "unknown_name"),
        ({"metric": "drif[0]"}, {}, ".metric", "unknown_name"),
        ({"compare_to": "a"}, {}, ".compare_to", "unknown_name"),
        ({"arm": "b", "analytic": "drift"}, {"arms": ARMS}, ".analytic", "unknown_name"),
        ({"interval": "people"}, {"population": {"kind": "toy_crowd"}}, ".interval", "conflict"),
        ({"statistic": "rms"}, {"worlds": 4}, ".statistic", "conflict"),
        ({"arm": "b", "references": ["a", "a"]}, {"arms": ARMS}, ".references", "missing"),
        ({"arm": "b", "compare_to": "a", "references": ["a", "a"]}, {"arms": ARMS},
         ".references.1", "conflict"),
        ({"arm": "b", "compare_to": "a", "references": ["c", "b"]}, {"arms": ARMS},
         ".references.0", "unknown_name"),
        ({"arm": "b", "compare_to": "a", "references": ["a", "b"], "relative": True},
         {"arms": ARMS}, ".references", "conflict"),
        ({"interval": "people", "statistic": "sd"}, {}, ".interval", "conflict"),
    ],
)  # fmt: skip
def test_claims_refused(parts: dict, more: dict, key: str, code: str) -> None:
    with refused(code, path=f"claims.0{key}"):
        expand_and_verify(scenario(claims=[claim(**parts)], **more))


def test_claims_allowed() -> None:
    claims = [
        claim(arm="b", compare_to="a"),
        claim(arm="b", metric="effect_vs_control", at_round=7),
        claim(arm="a", analytic="drift", relative=True),
        claim(interval="people"),  # about the control
        claim(metric="mean_value[1]"),
    ]
    crowd = {"kind": "toy_crowd", "resample": True}
    expand_and_verify(scenario(claims=claims, arms=ARMS, control="a", population=crowd))


def test_recorded_rounds() -> None:
    spec = scenario(record_every=4, claims=[claim(at_round=3), claim(at_round=8)])
    assert recorded_rounds(spec, spec.stages_or_default[0]) == (0, 3, 4, 8, 10)


def test_resolved_yaml_has_every_default() -> None:
    spec = scenario(sweep={"env.greeting": ["1e-4", "no", "12:30", "plain"]})
    document = parse(resolved_yaml(spec, build_cells(spec)), "resolved.yaml").document
    envs = [cell["env"] for cell in document["cells"].values()]
    assert [env["greeting"] for env in envs] == ["1e-4", "no", "12:30", "plain"]
    assert envs[0]["shape"] == {"kind": "ring", "degree": 2}
    assert all(c["policies"]["person"]["kind"] == "toy_still" for c in document["cells"].values())


@pytest.mark.cut(30)
@pytest.mark.parametrize("name", bundled_scenarios())
def test_bundled_scenario(name: str) -> None:
    if name.startswith("llm_"):
        pytest.importorskip("transformers", reason="an extra: pip install mores[llm]")
    loaded = load_scenario(name)
    cells = build_and_verify(loaded)
    assert loaded.text.splitlines()[0] == "# yaml-language-server: $schema=./schema.json"
    document = parse(resolved_yaml(loaded.scenario, cells), "resolved.yaml").document
    assert list(document["cells"]) == [built.cell.id for built in cells]

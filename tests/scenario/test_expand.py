"""Arms and sweeps become cells, and cells become objects."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mores.experiments.scenario.expansion import (
    expand,
    expand_and_verify,
    recorded_rounds,
    resolved_yaml,
)
from mores.experiments.scenario.loading import bundled_scenarios, load_scenario
from mores.experiments.scenario.loading import validate_document as read
from mores.experiments.scenario.source_locations import SourceMap
from mores.experiments.scenario.specification import Scenario
from mores.experiments.scenario.strict_yaml import parse
from tests.refusals import refused

Write = Callable[..., str]


def scenario(**changes: object) -> Scenario:
    base = {
        "name": "walkers",
        "about": "People walk.",
        "env": {"kind": "toy_walk"},
        "players": {"helper": {"kind": "toy_still"}},
        "rounds": 10,
        "measures": ["centre", "drift"],
    }
    return read({**base, **changes}, SourceMap("scenario walkers"))


def test_one_cell_without_arms() -> None:
    (cell,) = expand_and_verify(scenario())
    assert (cell.id, cell.arm, cell.point, cell.rounds) == ("main", "main", {}, 10)
    built = cell.build()
    game, players, population = built.environment, built.policies, built.population
    assert (game.num_people, population) == (4, None)
    assert {role: type(player).__name__ for role, player in players.items()} == {
        "person": "Still",
        "helper": "Still",
    }


def test_arms_times_sweep_in_the_order_of_the_file() -> None:
    cells = expand_and_verify(
        scenario(
            arms={
                "still": {},
                "walking": {
                    "players.person.by": 2,
                    "players.person": {"kind": "toy_stride", "by": 4},
                    "env.shape.ties": 3,
                },
            },
            sweep={"env.pull": [0.1, 1], "env.shape": [{"kind": "star"}]},
        )
    )
    assert [cell.id for cell in cells] == [
        "still__env.pull=0.1,env.shape=star",
        "still__env.pull=1,env.shape=star",
        "walking__env.pull=0.1,env.shape=star",
        "walking__env.pull=1,env.shape=star",
    ]
    last = cells[-1].build()
    assert last.environment.pull == 1
    assert last.environment.shape.model_dump() == {
        "kind": "star",
        "ties": 2,
    }  # the sweep has the last word
    assert last.policies["person"].model_dump() == {"by": 2}  # the part over the whole


def test_a_part_changed_in_an_arm_leaves_other_arms_alone() -> None:
    arms = {"one": {"env.shape.ties": 5}, "other": {}}
    one, other = expand(scenario(env={"kind": "toy_walk", "shape": {"kind": "star"}}, arms=arms))
    assert one.env["shape"] == {"kind": "star", "ties": 5}
    assert other.env["shape"] == {"kind": "star"}


def test_entries_of_lists_are_numbered() -> None:
    body = {"kind": "toy_pupil", "body": {"kind": "deep", "hidden": [5, 6]}}
    told = {"players": {"person": body}, "sweep": {"players.person.body.hidden.1": [7]}}
    (cell,) = expand_and_verify(scenario(**told))
    assert cell.policies["person"]["body"]["hidden"] == [5, 7]
    for entry, value, code in [
        ("1", 0, "out_of_range"),
        ("2", 3, "unknown_name"),
        ("x", 3, "unknown_name"),
        ("1.a", 3, "wrong_type"),
    ]:
        path = f"players.person.body.hidden.{entry}"
        with refused(code, path=f"sweep.{path}.0"):
            expand_and_verify(scenario(**{**told, "sweep": {path: [value]}}))


def test_parts_may_be_left_out_by_null() -> None:
    people = {"kind": "toy_crowd"}
    _, bare = expand_and_verify(
        scenario(people=people, arms={"with": {}, "bare": {"people": None, "players.person": None}})
    )
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


def test_a_population_supplies_what_the_environment_was_not_told() -> None:
    (cell,) = expand_and_verify(scenario(people={"kind": "toy_crowd", "heads": 9}))
    assert (cell.env["people"], cell.env["values"]) == (9, 2)
    (cell,) = expand_and_verify(scenario(people={"kind": "toy_herd", "heads": 2}))
    assert cell.env["people"] == 2
    cells = expand_and_verify(
        scenario(people={"kind": "toy_crowd"}, sweep={"people.heads": [3, 5]})
    )
    assert [cell.build().environment.num_people for cell in cells] == [3, 5]
    with refused("conflict", path="env.people"):
        expand(scenario(env={"kind": "toy_walk", "people": 4}, people={"kind": "toy_crowd"}))


def test_players_of_a_role_that_an_arm_lacks_are_dropped_there_and_only_there() -> None:
    with_helper, alone = expand_and_verify(scenario(arms={"with": {}, "alone": {"env.helpers": 0}}))
    assert set(with_helper.policies) == {"helper"}
    assert set(alone.policies) == set()
    with refused("unknown_name", path="players.helper"):
        expand_and_verify(scenario(env={"kind": "toy_walk", "helpers": 0}))


@pytest.mark.parametrize(
    ("changes", "path", "code"),
    [
        ({"sweep": {"env.pull": [0.1, 0.2, 0.1]}}, "sweep.env.pull.2", "duplicate"),
        ({"sweep": {"env.pull": [1, 1.0]}}, "sweep.env.pull.1", "duplicate"),
        (
            {"sweep": {"env.pull": [0.1]}, "arms": {"a": {"env.pull": 0.1}}},
            "arms.a.env.pull",
            "conflict",
        ),
        (
            {"sweep": {f"env.{n}": list(range(101)) for n in ("people", "values")}},
            "sweep",
            "too_large",
        ),
        ({"sweep": {"env.pull": [0.1, 3]}}, "sweep.env.pull.1", "out_of_range"),
        ({"sweep": {"env.pul": [0.1]}}, "sweep.env.pul", "unknown_name"),
        ({"sweep": {"players": [{}]}}, "sweep.players", "missing"),
        ({"sweep": {"env": [3]}}, "sweep.env.0", "wrong_type"),
        ({"sweep": {"players.person.by": [3]}}, "sweep.players.person.by.0", "missing"),
        (
            {"sweep": {"env.pull.x": [3]}, "env": {"kind": "toy_walk", "pull": 0.5}},
            "sweep.env.pull.x.0",
            "wrong_type",
        ),
        ({"arms": {"a": {"env.greeting.x": 1}}}, "arms.a.env.greeting.x", "wrong_type"),
        ({"arms": {"a": {"env.kind": 1}}}, "arms.a.env.kind", "wrong_type"),
        ({"env": {"kind": "toy_walk", "people": 10**6, "values": 10**6}}, "env", "too_large"),
        ({"measures": ["centre", "causal_drift"]}, "measures.1", "invalid_value"),
    ],
)
def test_refused(changes: dict, path: str, code: str) -> None:
    with refused(code, path=path) as found:
        expand_and_verify(scenario(**changes))
    assert len(str(found.value).splitlines()) == 1


def claim(**parts: object) -> dict:
    base = {"says": "so", "kind": "statistical", "measure": "drift", "bound": {"above": 0}}
    return {**base, **parts}


ARMS = {"a": {}, "b": {"players.person": {"kind": "toy_stride"}}}


@pytest.mark.parametrize(
    ("parts", "more", "key", "code"),
    [
        ({}, {"arms": ARMS}, "", "missing"),
        ({"measure": "causal_drift"}, {"arms": ARMS, "control": "a"}, ".measure", "conflict"),
        ({"measure": "causal_drift"}, {}, ".measure", "missing"),
        ({"measure": "causal_drift", "arm": "b"},
         {"arms": ARMS, "control": "a", "measures": "drift"}, ".measure", "missing"),
        ({"measure": "centre[2]"}, {}, ".measure", "unknown_name"),
        ({"measure": "drift[0]"}, {}, ".measure", "unknown_name"),
        ({"measure": "drif[0]"}, {}, ".measure", "unknown_name"),
        ({"against": "a"}, {}, ".against", "unknown_name"),
        ({"arm": "b", "prediction": "drift"}, {"arms": ARMS}, ".prediction", "unknown_name"),
        ({"interval": "people"}, {"people": {"kind": "toy_crowd"}}, ".interval", "conflict"),
        ({"statistic": "rms"}, {"worlds": 4}, ".statistic", "conflict"),
        ({"interval": "people", "statistic": "sd"}, {}, ".interval", "conflict"),
    ],
)  # fmt: skip
def test_claims_refused(parts: dict, more: dict, key: str, code: str) -> None:
    with refused(code, path=f"claims.0{key}"):
        expand_and_verify(scenario(claims=[claim(**parts)], **more))


def test_claims_allowed() -> None:
    claims = [
        claim(arm="b", against="a"),
        claim(arm="b", measure="causal_drift", at=7),
        claim(arm="a", prediction="drift", relative=True),
        claim(interval="people"),  # about the control
        claim(measure="centre[1]"),
    ]
    people = {"kind": "toy_crowd", "resample": True}
    expand_and_verify(scenario(claims=claims, arms=ARMS, control="a", people=people))


def test_recorded_rounds() -> None:
    chosen = scenario(every=4, claims=[claim(at=3), claim(at=8)])
    assert recorded_rounds(chosen, chosen.stages_or_default[0]) == (0, 3, 4, 8, 10)


def test_resolved_is_the_scenario_with_every_default_in_it() -> None:
    made = scenario(sweep={"env.greeting": ["1e-4", "no", "12:30", "plain"]})
    told = parse(resolved_yaml(made, expand(made)), "resolved.yaml").document
    envs = [cell["env"] for cell in told["cells"].values()]
    assert [env["greeting"] for env in envs] == ["1e-4", "no", "12:30", "plain"]
    assert envs[0]["shape"] == {"kind": "ring", "ties": 2}
    assert all(cell["players"]["person"]["kind"] == "Still" for cell in told["cells"].values())


@pytest.mark.parametrize("name", bundled_scenarios())
def test_what_is_shipped_is_fine_and_short(name: str) -> None:
    loaded = load_scenario(name)
    cells = expand_and_verify(loaded)
    assert loaded.text.splitlines()[0] == "# yaml-language-server: $schema=./schema.json"
    told = parse(resolved_yaml(loaded.scenario, cells), "resolved.yaml").document
    assert list(told["cells"]) == [cell.id for cell in cells]

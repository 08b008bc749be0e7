"""Every file is loaded or refused in clear lines, never with a traceback."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mores.core.errors import CODES, UserError
from mores.experiments.scenario import loading
from mores.experiments.scenario.source_locations import MAX_PROBLEMS_SHOWN, ScenarioError, SourceMap
from mores.experiments.scenario.strict_yaml import parse
from tests.cases import scaled
from tests.cells import expand_and_verify


def reproducible(examples: int) -> settings:
    """Settings with the same examples in every run, without a time limit."""
    fixtures_are_constant = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(
        derandomize=True,
        deadline=None,
        max_examples=scaled(examples),
        suppress_health_check=fixtures_are_constant,
    )


def succeeds(attempt: Callable[[], object]) -> bool:
    """Whether a call succeeds. If not, checks that the error has few printable lines."""
    try:
        attempt()
    except UserError as error:
        lines = str(error).split("\n")
        assert 1 <= len(lines) <= MAX_PROBLEMS_SHOWN + 1
        assert error.code in CODES
        for line in lines:
            assert line.isprintable() and 0 < len(line) < 1000
        if isinstance(error, ScenarioError):
            assert lines[0].startswith(("s.yaml", "override", "scenario walkers"))
            assert all(problem.code in CODES for problem in error.problems)
        return False
    return True


# Tokens with a meaning in YAML, similar text, and numbers at the limits.
TOKENS = [
    *("", " ", "\t", "\n", "- ", "? ", ": ", ":", ",", "[", "]", "{", "}", "#", "&a", "*a", "<<"),
    *("!", "!!str", "!x", "|", ">", "'", '"', "%", "@", "`", "---", "...", "~", "null", "true"),
    *("no", "0", "-1", "1", "2", "0.5", "1e-4", "1e400", "010", "0x10", "12:30", ".inf", ".nan"),
    *("9" * 30, "kind", "env", "env.rate", "policies", "population", "toy_walk", "toy_crowd"),
    *("drift", "effect_vs_control", "still", "walking", "main", "\\", "é", "\u2028", "\x00"),
    *("\ufeff", "1" * 99),
]
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 12)
    | st.sampled_from([2**63, -(2**63), 10**30])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(TOKENS)
    | st.text(max_size=8)
)
documents = st.recursive(
    scalars,
    lambda below: (
        st.lists(below, max_size=4)
        | st.dictionaries(st.sampled_from(TOKENS) | st.text(max_size=6), below, max_size=4)
    ),
    max_leaves=12,
)


@reproducible(400)
@given(st.text(max_size=60) | st.lists(st.sampled_from(TOKENS), max_size=25).map("".join))
def test_any_text(text: str) -> None:
    succeeds(lambda: parse(text, "s.yaml"))
    succeeds(lambda: parse(f"a:\n  - {text}\n", "s.yaml"))


@reproducible(150)
@given(data=st.binary(max_size=80) | st.binary(max_size=40).map(lambda b: b"name: " + b))
def test_any_bytes(data: bytes, write: Callable[..., str]) -> None:
    file = write(data)
    assert not succeeds(lambda: loading.load_scenario(file))  # too short to be a scenario


@reproducible(300)
@given(value=documents)
def test_json_round_trip(value: Any) -> None:
    text = json.dumps({"a": value}, ensure_ascii=False)
    parsed: list[Any] = []
    if succeeds(lambda: parsed.append(parse(text, "s.yaml").document["a"])):
        assert parsed == [value]
        assert json.dumps(parsed[0]) == json.dumps(value)  # 1 differs from 1.0 and True


@reproducible(180)
@given(data=st.data())
def test_any_replaced_part(data: st.DataObject, good: str) -> None:
    changed = copy.deepcopy(parse(good, "s.yaml").document)
    for _ in range(data.draw(st.integers(1, 3))):
        node, part = data.draw(st.sampled_from(list(_parts(changed)) or [(changed, "name")]))
        match data.draw(st.sampled_from(["replace", "remove", "add"])):
            case "replace":
                node[part] = data.draw(documents)
            case "remove" if part in node or isinstance(node, list):
                del node[part]
            case _ if isinstance(node, dict):
                node[data.draw(st.sampled_from(TOKENS))] = data.draw(documents)

    def attempt() -> None:
        text = yaml.safe_dump(changed, allow_unicode=True)
        document, source_map = parse(text, "s.yaml")
        if isinstance(document, dict):
            scenario = loading.validate_document(document, source_map)
            file = Path("s.yaml")
            expand_and_verify(loading.LoadedScenario(scenario, source_map, file, text, document))

    succeeds(attempt)


def _parts(node: Any) -> list[tuple[Any, Any]]:
    """Every container and key of a document."""
    if isinstance(node, dict):
        return [(node, key) for key in node] + [p for v in node.values() for p in _parts(v)]
    if isinstance(node, list):
        return [(node, i) for i in range(len(node))] + [p for v in node for p in _parts(v)]
    return []


@reproducible(250)
@given(data=st.data())
def test_any_mutation_of_a_scenario(
    data: st.DataObject, good: str, write: Callable[..., str]
) -> None:
    bundled = [
        loading.find_scenario_file(name).read_text(encoding="utf-8")
        for name in ("karate", "lock_in")
    ]
    text = data.draw(st.sampled_from([good, good, *bundled]))
    for _ in range(data.draw(st.integers(1, 3))):
        by_line = data.draw(st.booleans())
        pieces = text.splitlines(keepends=True) if by_line else re.split(r"(\W|\b)", text)
        at = data.draw(st.integers(0, len(pieces) - 1))
        other = data.draw(st.sampled_from(pieces) | st.sampled_from(TOKENS))
        match data.draw(st.sampled_from(["delete", "duplicate", "replace", "insert"])):
            case "delete":
                del pieces[at]
            case "duplicate":
                pieces.insert(at, pieces[at])
            case "replace":
                pieces[at] = other
            case _:
                pieces.insert(at, other)
        text = "".join(pieces) or "x"
    file = write(text.encode("utf-8", "surrogatepass"))
    succeeds(lambda: expand_and_verify(loading.load_scenario(file)))


@reproducible(180)
@given(
    path=st.lists(
        st.sampled_from(["env", "claims", "0", "arms", "walking", "bound", "sweep", "x", "-1", ""]),
        max_size=4,
    ).map(".".join)
    | st.text(max_size=10),
    value=documents.map(lambda v: yaml.safe_dump(v, default_flow_style=True))
    | st.text(max_size=10),
)
def test_any_override(path: str, value: str, good: str, write: Callable[..., str]) -> None:
    file = write(good)
    succeeds(lambda: expand_and_verify(loading.load_scenario(file, [f"{path}={value}"])))


def test_the_check_can_fail() -> None:
    with pytest.raises(ZeroDivisionError):
        succeeds(lambda: 1 // 0)
    with pytest.raises(AssertionError):
        succeeds(lambda: (_ for _ in ()).throw(UserError("two\n\nlines", code="failed")))
    assert not succeeds(lambda: loading.validate_document({}, SourceMap("s.yaml")))

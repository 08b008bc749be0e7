"""An error in a scenario file prints one line with its location, exits with 2, writes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mores.core.errors import UserError
from mores.experiments.scenario.loading import find_scenario_file, load_scenario
from tests.refusals import check_message, refused
from tests.scenario.conftest import located

ErrorLines = Callable[..., list[str]]
Refusal = Callable[..., UserError]


@pytest.mark.cut(3)
@pytest.mark.parametrize(
    ("old", "new", "location", "path", "code"),
    [
        # keys and values
        ("rounds: 10", "rouns: 10", "6:1", "rouns", "unknown_name"),
        ("rounds: 10", "rounds: '10'", "6:9", "rounds", "wrong_type"),
        ("replicates: 16", "replicates: 3.0", "7:13", "replicates", "wrong_type"),
        ("replicates: 16", "replicates: true", "7:13", "replicates", "wrong_type"),
        ("rounds: 10", "rounds:", "6:8", "rounds", "wrong_type"),
        ("rounds: 10", "rounds: 0", "6:9", "rounds", "out_of_range"),
        ("rounds: 10", "rounds: 1_000", "6:9", "rounds", "wrong_type"),
        ("about: People walk, or do not.", "about: 2506.06160", "2:8", "about", "wrong_type"),
        ("name: walkers", "name: Walkers!", "1:7", "name", "invalid_value"),
        ("rounds: 10\n", "", "1:1", "rounds", "missing"),
        ("env: {kind: toy_walk, rate: 0.25}", "env: toy_walk", "3:6", "env", "wrong_type"),
        ("kind: exact", "kind: exat", "15:11", "claims.0.kind", "invalid_value"),
        ("bound: {above: 0.1}", "bound: {above: 0.1, below: 1}",
         "19:12", "claims.0.bound", "conflict"),
        ("bound: {above: 0.1}", "bound: {within: [1]}",
         "19:13", "claims.0.bound.within", "wrong_shape"),
        ("bound: {above: 0.1}", "bound: {within: [2, 1]}",
         "19:21", "claims.0.bound.within", "invalid_value"),
        ("  still: {po", "  .still: {po", "9:3", "arms..still", "invalid_value"),
        ("control: still", "control: stil", "11:10", "control", "unknown_name"),
        # environment, policies, arms
        ("rate: 0.25", "rat: 0.25", "3:23", "env.rat", "unknown_name"),
        ("rate: 0.25", "rate: 1.25", "3:29", "env.rate", "out_of_range"),
        ("rate: 0.25", "rate: yes", "3:29", "env.rate", "wrong_type"),
        ("rate: 0.25", "rate: true", "3:29", "env.rate", "wrong_type"),
        ("rate: 0.25", "quick: on", "3:30", "env.quick", "wrong_type"),
        ("rate: 0.25", "greeting: 3", "3:33", "env.greeting", "wrong_type"),
        ("rate: 0.25", "shape: {degree: 0}", "3:39", "env.shape.degree", "out_of_range"),
        ("rate: 0.25", "size: medium", "3:29", "env.size", "invalid_value"),
        ("kind: toy_walk", "kind: toy_wark", "3:13", "env.kind", "unknown_name"),
        ("env.rate: 0.5", "env.rat: 0.5", "10:59", "arms.walking.env.rat", "unknown_name"),
        ("env.rate: 0.5", "env.rate: 7", "10:69", "arms.walking.env.rate", "out_of_range"),
        ("step: 2", "stepp: 2", "10:49", "arms.walking.policies.person.stepp", "unknown_name"),
        ("env.rate: 0.5", "enw.rate: 0.5", "10:59", "arms.walking.enw.rate", "unknown_name"),
        ("env.rate: 0.5", "rounds: 5", "10:59", "arms.walking.rounds", "invalid_value"),
        ("env.rate: 0.5", "population.x: 5", "10:59", "arms.walking.population.x", "missing"),
        ("helper: {kind: toy_still}", "helpr: {kind: toy_still}",
         "5:3", "policies.helpr", "unknown_name"),
        ("helper: {kind: toy_still}", "helper: {kind: toy_stride, step: 5}",
         "5:11", "policies.helper", "invalid_value"),
        # metrics and claims
        ("[mean_value, drift]", "[mean_valu, drift]", "12:11", "metrics.0", "unknown_name"),
        ("[mean_value, drift]", "[drift, drift]", "12:18", "metrics.1", "duplicate"),
        ("metric: drift", "metric: drif", "16:13", "claims.0.metric", "unknown_name"),
        ("arm: walking", "arm: waking", "17:10", "claims.0.arm", "unknown_name"),
        ("compare_to: still", "compare_to: walking", "18:17", "claims.0.compare_to", "conflict"),
        ("compare_to: still", "analytic: drift", "18:15", "claims.0.analytic", "unknown_name"),
        ("compare_to: still", "at_round: 11", "18:15", "claims.0.at_round", "out_of_range"),
        ("compare_to: still", "interval: people", "18:15", "claims.0.interval", "conflict"),
        # refused features of YAML, and invalid YAML
        ("rounds: 10", "rounds: 10\nrounds: 10", "7:1", "", "duplicate"),
        ("rounds: 10", "rounds: &ten 10", "6:9", "", "unsupported"),
        ("rounds: 10", "rounds: *ten", "6:9", "", "unsupported"),
        ("rounds: 10", "<<: {rounds: 10}", "6:1", "", "unsupported"),
        ("rounds: 10", "rounds: !!python/object/apply:os.system ['touch here']",
         "6:9", "", "unsupported"),
        ("rounds: 10", "rounds: !own 10", "6:9", "", "unsupported"),
        ("rounds: 10", "rounds: 10\n---\na: b", "7:1", "", "unreadable"),
        pytest.param("rounds: 10", "rounds: " + "[" * 3000, "6:38", "", "too_large", id="nested"),
        ("rounds: 10", "rounds: 1e-4", "6:9", "rounds", "wrong_type"),
        ("rounds: 10", "rounds: 12:30", "6:9", "rounds", "wrong_type"),
        ("rounds: 10", "rounds: 010", "6:9", "", "invalid_value"),
        ("rounds: 10", "rounds: 2024-01-01", "6:9", "rounds", "wrong_type"),
        pytest.param("rounds: 10", "rounds: " + "9" * 5000, "6:9", "", "out_of_range", id="digits"),
        ("rate: 0.25", "rate: .inf", "3:29", "", "not_finite"),
        ("rate: 0.25", "rate: .nan", "3:29", "", "not_finite"),
        ("rate: 0.25", "rate: 1e999", "3:29", "", "not_finite"),
        ("rounds: 10", "10: rounds", "6:1", "", "wrong_type"),
        ("rounds: 10", "true: 10", "6:1", "", "wrong_type"),
        ("rounds: 10", "no: 10", "6:1", "no", "unknown_name"),
        ("rounds: 10", "\trounds: 10", "6:1", "", "unreadable"),
        ("about: People", "about: Some: People", "2:12", "", "unreadable"),
        ("about: People", "about: @People", "2:8", "", "unreadable"),
        ("about: People", "about: 'People", "2:8", "", "unreadable"),
        ("about: People", "about: \x07People", "2:8", "", "unreadable"),
        ("about: People walk, or do not.", 'about: "\\e[2J"', "2:8", "", "unreadable"),
        ("about: People walk, or do not.", 'about: "\\U00110000"', "2:11", "", "unreadable"),
    ],
)  # fmt: skip
def test_one_line_with_its_location(
    old: str, new: str, location: str, path: str, code: str, good: str, refusal: Refusal
) -> None:
    assert old in good
    missing = [("s.yaml:1:1", "rounds", "missing")] if new in ("rouns: 10", "no: 10") else []
    problems = located(refusal(good.replace(old, new, 1)))
    assert problems == [*missing, (f"s.yaml:{location}", path, code)]


@pytest.mark.parametrize(
    ("text", "location", "code"),
    [
        pytest.param(b"", "", "unreadable", id="empty"),
        pytest.param(b"# nothing but a comment\n", "", "unreadable", id="a comment"),
        pytest.param(b"---\n", ":2:1", "wrong_type", id="null"),
        pytest.param(b"- name: a\n", ":1:1", "wrong_type", id="a list"),
        pytest.param(b"a scenario\n", ":1:1", "wrong_type", id="a text"),
        pytest.param(b"name: a\nabout: \xff\n", ":2:8", "unreadable", id="not UTF-8"),
        pytest.param(b"name: a\0b\n", ":1:8", "unreadable", id="a null character"),
        pytest.param(b"\xef\xbb\xbfname: a\n", ":1:1", "unreadable", id="byte order mark"),
        pytest.param("name: a\n".encode("utf-16"), ":1:1", "unreadable", id="UTF-16"),
        pytest.param(b"[" * 3000, ":1:31", "too_large", id="brackets"),
        pytest.param(b"- " * 3000, ":1:61", "too_large", id="dashes"),
        pytest.param(b"%YAML " + b"1" * 5000 + b".1\n---\na: b\n", ":1:7", "unreadable",
                     id="a version"),
    ],
)  # fmt: skip
def test_whole_files(text: bytes, location: str, code: str, refusal: Refusal) -> None:
    assert located(refusal(text)) == [(f"s.yaml{location}", "", code)]


def test_a_file_too_large(refusal: Refusal) -> None:
    error = refusal(b"a" * 1_100_000)
    assert (error.code, error.path) == ("too_large", "s.yaml")


@pytest.mark.parametrize(
    "given",
    [
        "walker.yaml",
        "lockin",
        "nowhere/walkers.yaml",
        ".",
        pytest.param("a" * 5000, id="long"),
    ],
)
def test_missing_file(given: str, error_lines: ErrorLines, write: Callable[..., str]) -> None:
    write(name="walkers.yaml")
    with refused("unreadable", path=given) as info:
        find_scenario_file(given)
    assert error_lines(None, given) == [str(info.value)]


def test_a_path_with_a_null_byte(error_lines: ErrorLines) -> None:
    with refused("invalid_value", path="path") as info:
        load_scenario("a\0b")
    assert error_lines(None, "a\0b") == [str(info.value)]


def test_several_problems_have_a_line_each_in_order(good: str, refusal: Refusal) -> None:
    text = good.replace("rounds: 10", "rounds: ten").replace("seed", "sed")
    text = text.replace("control: still", "contrl: still").replace("above", "abve")
    assert located(refusal(text)) == [
        ("s.yaml:6:9", "rounds", "wrong_type"),
        ("s.yaml:11:1", "contrl", "unknown_name"),
        ("s.yaml:19:13", "claims.0.bound.abve", "unknown_name"),
    ]


def test_at_most_ten_lines(good: str, refusal: Refusal) -> None:
    error = refusal(good + "".join(f"extra{i}: {i}\n" for i in range(25)))
    assert len(located(error)) == 25
    assert len(str(error).splitlines()) == 11  # the last one has the number of hidden problems


def test_role_without_policy(good: str, refusal: Refusal) -> None:
    text = good.replace("toy_walk", "toy_bare").replace("helper: {kind: toy_still}", "{}")
    assert located(refusal(text)) == [("s.yaml:4:1", "policies", "missing")]


def test_equal_problems_of_arms_are_reported_once(good: str, refusal: Refusal) -> None:
    text = good.replace("kind: toy_walk", "kind: toy_walk, hurry: 1")
    assert located(refusal(text)) == [("s.yaml:3:23", "env.hurry", "unknown_name")]


@pytest.mark.cut(2)
@pytest.mark.parametrize(
    ("data", "location"),
    [
        pytest.param(b"rounds: " + b"[" * 3000, "s.yaml:1:38", id="nested"),
        pytest.param(bytes(range(256)), "s.yaml:2:118", id="bytes"),
        pytest.param(None, "s.yaml", id="folder"),
    ],
)
def test_in_another_process(data: bytes | None, location: str, tmp_path: Path) -> None:
    if data is None:
        (tmp_path / "s.yaml").mkdir()
    else:
        (tmp_path / "s.yaml").write_bytes(data)
    before = sorted(tmp_path.rglob("*"))
    command = [sys.executable, "-m", "mores.cli.commands", "run", "s.yaml"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith(f"{location}: ") and ran.stderr.count("\n") == 1
    check_message(ran.stderr)
    assert sorted(tmp_path.rglob("*")) == before

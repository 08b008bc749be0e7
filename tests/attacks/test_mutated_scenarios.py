"""Mutated scenario files are loaded, or refused in clear lines, and have no other effect.

100,000 files: `benchmarks/mutations.py`.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mores
from benchmarks import mutations
from benchmarks.mutated import attempts
from benchmarks.mutated.mutators import MUTATIONS, MutatedFile
from benchmarks.mutated.originals import SECTIONS, originals
from mores.core.errors import CODES
from mores.experiments.run.dry_run import check_scenario
from mores.experiments.scenario.source_locations import Problem, ScenarioError, SourceLocation
from tests.cases import FULL

NUM_FILES, NUM_CHECKS = (3000, 100) if FULL else (150, 4)
VALID = MutatedFile(b"name: a\n", (), "none")


def test_loading(tmp_path: Path) -> None:
    tally = mutations.load_files(range(NUM_FILES), tmp_path)
    assert tally.failures == {}
    assert tally.outcomes.keys() - CODES.keys() == {"loaded"}
    assert len(tally.outcomes) > 8  # loaded, and many kinds of mistakes
    assert {name.partition(" ")[0] for name in tally.mutations} == set(MUTATIONS)


@pytest.mark.full
def test_checks(tmp_path: Path) -> None:
    tally = mutations.check_files(NUM_CHECKS, tmp_path)
    assert tally.failures == {}
    assert sum(tally.outcomes.values()) == NUM_CHECKS


@pytest.mark.cut(2)
@pytest.mark.parametrize("name", SECTIONS)
def test_unchanged_texts(name: str, tmp_path: Path) -> None:
    """The texts that are mutated are valid scenarios."""
    file = tmp_path / "scenario.yaml"
    file.write_text(originals()[name], encoding="utf-8")
    check_scenario(mores.load_scenario(file))


BASE = """\
name: large
about: A file with many entries.
env: {kind: lock_in, num_people: 3}
rounds: 3
metrics: [ai_error]
"""


@pytest.mark.parametrize("length", [30, 500, 50_000])
@pytest.mark.parametrize("section", ["arms", "sweep", "stages", "override"])
def test_long_paths(section: str, length: int, tmp_path: Path) -> None:
    """A path may have 30 parts; no part of the program recurses into a longer one."""
    path, overrides = "env" + ".a" * length, ()
    text = {
        "arms": f"arms:\n  x:\n    ? {path}\n    : 1\n",
        "sweep": f"sweep:\n  ? {path}\n  : [1, 2]\n",
        "stages": f"stages:\n- name: x\n  env:\n    ? {path}\n    : 1\n",
        "override": "",
    }[section]
    if section == "override":
        overrides = (f"{path}=1", "rounds=2")
    mutated = MutatedFile((BASE + text).encode(), overrides, "long path")
    result = attempts.attempt(mutated, tmp_path / "a.yaml", check=True)
    assert (result.outcome, result.failures) == ("too_large", [])


@pytest.mark.full
@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("".join(f"k{i}: 1\n" for i in range(24_000)), "unknown_name"),
        ("stages:\n" + "".join(f"- {{name: s{i}}}\n" for i in range(11_000)), "wrong_shape"),
        ("claims:\n" + "- {a, b, c, d, e}\n" * 12_000, "missing"),
        ("sweep: {" + ", ".join(f"env.p{i}: [1]" for i in range(12_000)) + "}\n", "unknown_name"),
        (f"sweep: {{env.num_people: {list(range(1, 36_000))}}}\n", "too_large"),
        ("stages: [{name: x, env: {" + ", ".join(f"env.p{i}: 1" for i in range(4000)) + "}}]\n"
         "arms: {" + ", ".join(f"a{i}: {{env.self_trust: 2}}" for i in range(100)) + "}\n",
         "unknown_name"),
    ],
    ids=["keys", "stages", "claims", "sweep", "values", "overrides"],
)  # fmt: skip
def test_many_entries(text: str, outcome: str, tmp_path: Path) -> None:
    """Files of almost the largest size take less than 10 s of processor time."""
    mutated = MutatedFile((BASE + text).encode(), (), "many entries")
    result = attempts.attempt(mutated, tmp_path / "a.yaml", check=True)
    assert (result.outcome, result.failures) == (outcome, [])


def test_many_metrics(tmp_path: Path) -> None:
    metrics = ", ".join(f"m{i}" for i in range(1001))
    data = BASE.replace("ai_error", metrics).encode()
    result = attempts.attempt(MutatedFile(data, (), "metrics"), tmp_path / "a.yaml")
    assert (result.outcome, result.failures) == ("wrong_shape", [])


def _raise_two_lines(*_: Any) -> None:
    raise mores.UserError("one\ntwo", code="missing")


def _raise_unprintable(*_: Any) -> None:
    problem = Problem(SourceLocation("a"), (), "a", "missing")
    error = ScenarioError([problem])
    error.args = ("a\x1b[2J",)
    raise error


def _raise_long_line(*_: Any) -> None:
    raise mores.UserError("a" * 2001, code="missing")


def _raise_exception(*_: Any) -> None:
    raise KeyError("a")


def _open_a_file(file: Path, _: Any) -> None:
    file.with_name("b").write_text("b")


def _read_a_file(*_: Any) -> None:
    Path(__file__).read_text(encoding="utf-8")


def _run_code(*_: Any) -> None:
    exec("a = 1")


def _start_a_process(*_: Any) -> None:
    subprocess.run([sys.executable, "-c", ""])


def _take_time(*_: Any) -> None:
    start = time.process_time()
    while time.process_time() < start + 5:
        pass


@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        (_raise_two_lines, "2 lines for 1 problems"),
        (_raise_unprintable, "not printable"),
        (_raise_long_line, "2001 characters"),
        (_raise_exception, "KeyError: 'a'"),
        (_open_a_file, "access: open"),
        (_read_a_file, "access: open"),
        (_run_code, "access: exec"),
        (_start_a_process, "access: subprocess.Popen"),
        (_take_time, "more than 0.2 s"),
    ],
)
def test_faults_are_found(
    fault: Callable[..., None], failure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mores, "load_scenario", fault)
    monkeypatch.setattr(attempts, "MAX_SECONDS", 0.2)
    result = attempts.attempt(VALID, tmp_path / "a.yaml")
    assert failure in "; ".join(result.failures)

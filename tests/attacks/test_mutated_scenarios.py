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

NUM_FILES, NUM_CHECKS = (3000, 100) if FULL else (300, 6)
VALID = MutatedFile(b"name: a\n", (), "none")


def test_loading(tmp_path: Path) -> None:
    tally = mutations.load_files(range(NUM_FILES), tmp_path)
    assert tally.failures == {}
    assert tally.outcomes.keys() - CODES.keys() == {"loaded"}
    assert len(tally.outcomes) > 8  # loaded, and many kinds of mistakes
    assert {name.partition(" ")[0] for name in tally.mutations} == set(MUTATIONS)


def test_checks(tmp_path: Path) -> None:
    tally = mutations.check_files(NUM_CHECKS, tmp_path)
    assert tally.failures == {}
    assert tally.outcomes["checked"] >= 1


@pytest.mark.cut(2)
@pytest.mark.parametrize("name", SECTIONS)
def test_unchanged_texts(name: str, tmp_path: Path) -> None:
    """The texts that are mutated are valid scenarios."""
    file = tmp_path / "scenario.yaml"
    file.write_text(originals()[name], encoding="utf-8")
    check_scenario(mores.load_scenario(file))


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
    attempts.install_hook()
    result = attempts.attempt(VALID, tmp_path / "a.yaml")
    assert failure in "; ".join(result.failures)

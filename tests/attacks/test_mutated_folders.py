"""Mutated run folders give the right numbers or clear refusals, and have no other effect.

10,000 folders: `benchmarks/mutated_folders.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.mutated import run_attempts
from benchmarks.mutated.run_attempts import changed_numbers, guarded
from mores import UserError, open_run
from mores.experiments.run import resume_run
from tests.attacks.folders import CELL, parquet_columns, reseal, with_nulls
from tests.cases import FULL

ROOT = Path(__file__).resolve().parents[2]
NUM_FOLDERS = 600


@pytest.mark.full
def test_folders() -> None:
    """In a separate process, which ends if a library does."""
    command = [sys.executable, "-m", "benchmarks.mutated_folders", str(NUM_FOLDERS), "1"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert result.returncode == 0, result.stderr + result.stdout
    found = json.loads(result.stdout[result.stdout.index("{") :])
    assert found["folders"] == NUM_FOLDERS
    assert found["resumed"] == NUM_FOLDERS // 10 and found["resumed_with_figures"]
    assert {"the same", "in part refused", "unreadable"} <= found["read_by_outcome"].keys()


def _two_lines(run: Path) -> None:
    raise UserError("one\ntwo", code="missing")


def _exception(run: Path) -> None:
    raise KeyError("a")


def _write_beside(run: Path) -> None:
    run.with_name("beside").write_text("b")


def _remove_beside(run: Path) -> None:
    run.with_name("outside").joinpath("thesis.txt").unlink()


def _follow_a_link(run: Path) -> None:
    link = run / "link"
    link.symlink_to("/etc/hostname")
    link.read_text()


def _write_through_a_link(run: Path) -> None:
    link = run / "link"
    link.symlink_to(run.with_name("outside"))
    (link / "files").write_text("changed")


def _start_a_process(run: Path) -> None:
    subprocess.run([sys.executable, "-c", ""])


def _wait_for_a_pipe(run: Path) -> None:
    os.mkfifo(run / "pipe")
    (run / "pipe").read_text()


def _take_time(run: Path) -> None:
    start = time.process_time()
    while time.process_time() < start + 5:
        pass


@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        (_two_lines, "2 lines for 1 problems"),
        (_exception, "KeyError: 'a'"),
        (_write_beside, "access: open"),
        (_remove_beside, "access: os.remove"),
        (_follow_a_link, "access: open"),
        (_write_through_a_link, "access: open"),
        (_start_a_process, "access: subprocess.Popen"),
        (_wait_for_a_pipe, "it waits"),
        (_take_time, "more than 0.2 s"),
    ],
)
def test_faults_are_found(
    fault: Callable[[Path], None],
    failure: str,
    run: Path,
    outside: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_attempts, "MAX_SECONDS", 0.2)
    monkeypatch.setattr(run_attempts, "MAX_WAITING", 0.5 if fault is _wait_for_a_pipe else 60.0)
    found = guarded(lambda: fault(run), run, writing=True)
    assert failure in "; ".join(found.failures)


def test_code_and_changes_of_readers_are_found(run: Path) -> None:
    assert "access: compile" in guarded(lambda: exec("a = 1"), run).failures[0]
    log = run / "log.txt"
    assert "access: open" in guarded(lambda: log.write_text("a"), run).failures[0]
    assert guarded(lambda: log.write_text("a"), run, writing=True).failures == []


def test_changed_numbers_are_found() -> None:
    expected = {"metrics mirror": "a", "estimates": "b", "status": "c"}
    found = {"metrics mirror": "other", "estimates": "refused: unreadable", "status": "other"}
    assert changed_numbers(found, expected, set(), False) == ["metrics mirror", "status"]
    assert changed_numbers(found, expected, {"mirror"}, True) == []
    assert changed_numbers(found, expected, {"status.json"}, False) == ["metrics mirror"]


def test_missing_cells_of_a_finished_run(run: Path) -> None:
    (run / CELL).rename(run / "aside")
    with pytest.warns(UserWarning, match="cells of a finished run are missing: mirror"):
        assert open_run(run).cells == ["learner"]
    reseal(run / "status.json", lambda status: status.update(state="stopped"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_run(run).cells == ["learner"]


def test_absent_numbers_are_not_nan(run: Path, outside: Path) -> None:
    parquet_columns(with_nulls)(run, outside)
    with pytest.raises(UserError, match="it lacks numbers"):
        open_run(run).dataframe("mirror")


BITS = """\
import os, random, sys
from collections import Counter
from pathlib import Path
import pyarrow.parquet
from mores.experiments.results.checked_tables import open_metrics
from mores.experiments.results.stored_cell import DECODING_ERRORS
data, codes = Path(sys.argv[1]).read_bytes(), Counter()
start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
for seed in range(int(sys.argv[2])):
    rng, changed = random.Random(seed), bytearray(data)
    changed[rng.randrange(start, len(data))] ^= 1 << rng.randrange(8)
    process = os.fork()
    if not process:
        try:
            open_metrics(bytes(changed), 16).read(use_threads=False)
            os._exit(0)
        except DECODING_ERRORS:
            os._exit(1)
    codes[os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])] += 1
assert codes.keys() == {0, 1}, codes
"""


@pytest.mark.full
def test_bits_of_a_footer(run: Path) -> None:
    """pyarrow ends the process for some of them, when it describes a column."""
    arguments = [str(run / CELL / "metrics.parquet"), "3000" if FULL else "100"]
    command = [sys.executable, "-c", BITS, *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_claims_that_are_no_list(run: Path) -> None:
    for content in ({}, [1]):
        (run / "claims.json").write_text(json.dumps(content))
        reseal(run / "status.json", lambda status: status.pop("files", None))
        with pytest.raises(UserError, match="does not list the claims"):
            _ = open_run(run).claims


def test_provenance_of_another_run(run: Path, other_runs: dict[str, Path]) -> None:
    data = (other_runs["seed"] / "provenance.json").read_bytes()
    (run / "provenance.json").write_bytes(data)
    with pytest.raises(UserError, match="belongs to another run"):
        _ = open_run(run).provenance
    with pytest.raises(UserError, match="belongs to another run"):
        resume_run(run, progress=False)

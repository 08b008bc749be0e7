"""Runs that are killed and resumed end in the same bytes as runs that nobody killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.killed.histories import bytes_of, differing
from mores.experiments.run import run_scenario
from mores.experiments.scenario.loading import load_scenario
from tests.refusals import check_message

HERE = Path(__file__).resolve().parents[2]
PROGRAM = f"""\
import json, random, sys
from pathlib import Path
sys.path.insert(0, {str(HERE)!r})
from benchmarks.killed import cases, histories
cases.warm()
place, name, jobs, most = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
case = next(case for case in cases.CASES if case.name == name)
against, rng, count = histories.reference(case, place / "whole"), random.Random(7 + jobs), 0
for number in range(12):
    if count >= most:
        break
    found = histories.history(case, place / f"killed-{{number}}", jobs, most - count, rng, against)
    count += sum(found.values())
print(json.dumps(count))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "jobs", "most"), [("lock_in", 1, 8), ("stages", 1, 6), ("stages", 2, 6)]
)
def test_killed_and_resumed(tmp_path, name, jobs, most):
    """In a process of its own, which forks: this one may have threads."""
    arguments = [str(tmp_path), name, str(jobs), str(most)]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= most


SLOW = """\
name: slow
about: Long enough to be stopped in.
env: {kind: coevolution, people: 10}
rounds: 100000
replicates: 4
every: 1000
measures: [spread]
sweep: {env.noise: [0.0, 0.1, 0.2]}
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("jobs", [1, 2])
def test_asked_to_stop(tmp_path, number, code, jobs):
    """Ctrl-C and SIGTERM leave a folder that says so, no orphans, and a line that says how on."""
    file, folder = tmp_path / "slow.yaml", tmp_path / "run"
    file.write_text(SLOW)
    program = [
        sys.executable,
        "-c",
        "import sys; from mores.cli.commands import main; sys.exit(main())",
    ]
    process = subprocess.Popen(
        [*program, "run", str(file), "--out", str(folder), "--jobs", str(jobs)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    _until_state(folder, "running", process)
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    last = said.splitlines()[-1]
    assert last.endswith(f" {folder}")
    check_message(re.sub("^[0-3]", "...", last.replace(str(folder), "...")))
    assert "Traceback" not in said
    assert json.loads((folder / "status.json").read_text())["state"] == "stopped"
    assert not list(folder.rglob("*.part"))


def _until_state(folder: Path, state: str, process: subprocess.Popen[str]) -> None:
    """Wait until the folder's status is that, for as long as the process lives."""
    while True:
        assert process.poll() is None, "ended too early"
        try:
            if json.loads((folder / "status.json").read_text())["state"] == state:
                return
        except FileNotFoundError:
            continue


def test_the_comparison_can_fail(tmp_path):
    """Another seed leaves other bytes, the same seed the same."""
    file = tmp_path / "scenario.yaml"
    file.write_text(SLOW.replace("100000", "5"))
    found = [
        bytes_of(
            run_scenario(load_scenario(str(file), [seed]), tmp_path / name, progress=False).folder
        )
        for name, seed in (("one", "seed=1"), ("two", "seed=2"), ("again", "seed=1"))
    ]
    assert found[0] == found[2]
    assert any("measures.parquet" in name for name in differing(found[0], found[1]))

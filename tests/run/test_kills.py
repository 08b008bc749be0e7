"""Runs that are killed and resumed end in the same bytes as uninterrupted runs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.killed.histories import differing_files, file_digests
from mores.experiments.run import run_scenario
from mores.experiments.scenario.loading import load_scenario
from tests.cases import FULL
from tests.refusals import check_message

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = f"""\
import json, random, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from benchmarks.killed import cases, histories
cases.import_all()
folder, name, jobs, num_kills = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
case = next(case for case in cases.CASES if case.name == name)
reference, rng, count = histories.reference(case, folder / "whole"), random.Random(7 + jobs), 0
for index in range(12):
    if count >= num_kills:
        break
    run = folder / f"killed-{{index}}"
    kills = histories.kill_and_compare(case, run, jobs, num_kills - count, rng, reference)
    count += sum(kills.values())
print(json.dumps(count))
"""


@pytest.mark.cut(3)
@pytest.mark.parametrize(
    ("name", "jobs", "num_kills"),
    [("stages", 2, 6 if FULL else 2), ("lock_in", 1, 8), ("stages", 1, 6 if FULL else 2)],
)
def test_killed_and_resumed(tmp_path, name, jobs, num_kills):
    """In a separate process, which forks: this one may have threads."""
    _kill_and_compare(tmp_path, name, jobs, num_kills)


@pytest.mark.parametrize(
    ("name", "jobs", "num_kills"),
    [
        pytest.param("more replicates and an arm", 1, 20, marks=pytest.mark.full),
        pytest.param("more replicates and an arm", 2, 6, marks=pytest.mark.full),
        pytest.param("more rounds", 1, 12, marks=pytest.mark.full),
    ],
)
def test_killed_while_it_is_extended(tmp_path, name, jobs, num_kills):
    """Before the commit of an extension the run is extended again, after it resumed."""
    _kill_and_compare(tmp_path, name, jobs, num_kills)


def _kill_and_compare(tmp_path: Path, name: str, jobs: int, num_kills: int) -> None:
    arguments = [str(tmp_path), name, str(jobs), str(num_kills)]
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) >= num_kills


SLOW = """\
name: slow
about: Long enough to be stopped.
env: {kind: coevolution, num_people: 10}
rounds: 100000
replicates: 4
record_every: 1000
metrics: [rms_distance]
sweep: {env.noise_std: [0.0, 0.1, 0.2]}
"""


@pytest.mark.cut(4)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("jobs", [1, 2])
def test_stop_signals(tmp_path, number, code, jobs):
    """Ctrl-C and SIGTERM leave a status, no orphans, and a line with the command that resumes."""
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
    _wait_for_state(folder, "running", process)
    os.killpg(process.pid, number)
    _, stderr = process.communicate()
    assert process.returncode == code
    last = stderr.splitlines()[-1]
    assert last.endswith(f" {folder}")
    check_message(re.sub("^[0-3]", "...", last.replace(str(folder), "...")))
    assert "Traceback" not in stderr
    assert json.loads((folder / "status.json").read_text())["state"] == "stopped"
    assert not list(folder.rglob("*.part"))


def _wait_for_state(folder: Path, state: str, process: subprocess.Popen[str]) -> None:
    """Wait until the run has a state; fail if the process ends before."""
    while True:
        assert process.poll() is None, "ended too early"
        try:
            if json.loads((folder / "status.json").read_text())["state"] == state:
                return
        except FileNotFoundError:
            continue


def test_the_comparison_can_fail(tmp_path):
    """Another seed leads to other bytes, the same seed to the same."""
    file = tmp_path / "scenario.yaml"
    file.write_text(SLOW.replace("100000", "5"))
    digests = [
        file_digests(
            run_scenario(load_scenario(str(file), [seed]), tmp_path / name, progress=False).folder
        )
        for name, seed in (("one", "seed=1"), ("two", "seed=2"), ("again", "seed=1"))
    ]
    assert digests[0] == digests[2]
    assert any("metrics.parquet" in name for name in differing_files(digests[0], digests[1]))

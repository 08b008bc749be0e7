"""Kill a run repeatedly, resume it, and compare its files with those of an uninterrupted run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import select
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from benchmarks.killed.attempts import DIED_TWICE, Kill, attempt
from benchmarks.killed.cases import PLUGIN, Case, scenario_text

WORKER_KILLS = "a worker at a commit point"


def file_digests(folder: Path) -> dict[str, str]:
    """A digest of every file that must not depend on kills."""
    paths = [folder / name for name in ("claims.json", "cells.json", "resolved.yaml")]
    paths += [path for path in (folder / "cells").rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): hashlib.blake2b(path.read_bytes()).hexdigest()
        for path in sorted(paths)
    }


def remove_unstarted(folder: Path) -> None:
    """Remove the folder of a run that has not started: it cannot be resumed."""
    if folder.exists() and not (folder / "run.json").exists():
        shutil.rmtree(folder)


@dataclasses.dataclass(frozen=True)
class Reference:
    """Files and duration of an uninterrupted run; of an extension, the run before it."""

    files: dict[str, str]
    seconds: float
    before: Path | None = None


def reference(case: Case, folder: Path) -> Reference:
    result = attempt(case, folder, 1, Kill())
    assert result.code == 0, f"{case.name} does not run"
    if not case.extension:
        return Reference(file_digests(folder), result.seconds)
    before = folder.with_name(f"{folder.name}-before")
    shutil.copytree(folder, before)
    result = attempt(case, folder, 1, Kill())
    assert result.code == 0, f"{case.name} cannot be extended"
    return Reference(file_digests(folder), result.seconds, before)


def kill_and_compare(
    case: Case, folder: Path, jobs: int, max_kills: int, rng: random.Random, expected: Reference
) -> Counter[str]:
    """Kill a run up to so many times, let it finish, and compare; return the kills by kind.

    Raises:
        AssertionError: the files differ from the reference.
    """
    count: Counter[str] = Counter()
    done = False
    if expected.before is not None:
        shutil.copytree(expected.before, folder)
    while not done and sum(count.values()) < max_kills:
        remove_unstarted(folder)
        kill = _random_kill(rng, jobs, expected.seconds)
        result = attempt(case, folder, jobs, kill)
        codes = (0, DIED_TWICE, -signal.SIGKILL)
        assert result.code in codes, f"{case.name}: exit code {result.code}"
        if result.code == -signal.SIGKILL:
            count[_kind(kill, jobs)] += 1
        count[WORKER_KILLS] = max(count[WORKER_KILLS], _worker_deaths(folder))
        done = result.code == 0
    remove_unstarted(folder)
    last = attempt(case, folder, jobs, Kill())
    assert last.code == 0, f"{case.name}: cannot be resumed"
    files = file_digests(folder)
    assert files == expected.files, f"{case.name}: {differing_files(files, expected.files)} differ"
    status = json.loads((folder / "status.json").read_text())
    assert status["state"] == "done" and not status["to_do"], status
    left = [*folder.rglob("*.part"), *folder.rglob("*.earlier"), *folder.glob("extension")]
    parts = [path.name for path in left]
    assert not parts, f"{case.name}: left behind {parts}"
    return +count


def _random_kill(rng: random.Random, jobs: int, seconds: float) -> Kill:
    if rng.random() < 0.5:
        target = "all" if jobs == 1 or rng.random() < 0.5 else "parent"
        return Kill(after=rng.uniform(0.0, 0.7 * seconds), target=target)
    return Kill(point=int(10 ** rng.uniform(0.0, 2.3)))


def _kind(kill: Kill, jobs: int) -> str:
    if kill.after is None:
        return "at a commit point"
    if jobs == 1:
        return "at a random time"
    return "all processes" if kill.target == "all" else "the parent process"


def _worker_deaths(folder: Path) -> int:
    log = folder / "log.txt"
    return log.read_text().count("SIGKILL") if log.exists() else 0


def differing_files(left: dict[str, str], right: dict[str, str]) -> list[str]:
    """Names of the first files that differ."""
    return [name for name in sorted({*left, *right}) if left.get(name) != right.get(name)][:5]


def kill_command_line(
    case: Case, folder: Path, jobs: int, rng: random.Random, expected: Reference
) -> None:
    """Start a run by the command line, kill its process at a random time, resume and compare."""
    source = str(folder.with_name(f"{folder.name}.yaml"))
    Path(source).write_text(scenario_text(case))
    load = ["--load", str(PLUGIN)] if case.needs_plugin else []
    program = [
        sys.executable,
        "-c",
        "import sys; from mores.cli.commands import main; sys.exit(main())",
    ]
    options = ["--jobs", str(jobs), *load]
    command = [*program, "run", source, *case.overrides, "--out", str(folder), *options]
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not (folder / "run.json").exists():  # starting Python takes longer than the run
        assert first.poll() is None, "ended before it had started"
        select.select([], [], [], 0.01)
    select.select([], [], [], rng.uniform(0.0, expected.seconds))
    workers = _children(first.pid)
    first.kill()
    first.wait()
    while any(
        Path(f"/proc/{worker}/cmdline").exists() for worker in workers
    ):  # they notice, and end
        select.select([], [], [], 0.01)
    resume = [*program, "resume", str(folder), "--force", *options]
    result = subprocess.run(resume, capture_output=True, text=True)
    assert result.returncode in (0, 1), result.stderr
    files = file_digests(folder)
    assert files == expected.files, f"{case.name}: {differing_files(files, expected.files)} differ"


def _children(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []

"""A run that is killed again and again, resumed, and compared with one that nobody killed."""

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
import time
from collections import Counter
from pathlib import Path

from benchmarks.killed.attempts import ORPHANS, TWICE, Kill, attempt
from benchmarks.killed.cases import OWN, Case, text_of

WORKER = "a worker at a commit point"


def bytes_of(folder: Path) -> dict[str, str]:
    """All that must not depend on kills: a digest of every file."""
    chosen = [folder / name for name in ("claims.json", "cells.json", "resolved.yaml")]
    chosen += [path for path in (folder / "cells").rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): hashlib.blake2b(path.read_bytes()).hexdigest()
        for path in sorted(chosen)
    }


def begun(folder: Path) -> bool:
    """Whether there is anything to resume; what had not begun is taken away."""
    if not folder.exists():
        return False
    if not (folder / "run.json").exists():
        shutil.rmtree(folder)
        return False
    return True


@dataclasses.dataclass(frozen=True)
class Reference:
    """A run that nobody killed: what it leaves, and how long it took."""

    files: dict[str, str]
    seconds: float


def reference(case: Case, folder: Path) -> Reference:
    found = attempt(case, folder, 1, Kill())
    assert found.code == 0, f"{case.name} does not run"
    return Reference(bytes_of(folder), found.seconds)


def history(
    case: Case, folder: Path, jobs: int, kills: int, rng: random.Random, against: Reference
) -> Counter[str]:
    """Kill a run up to so many times, let it finish, and compare; what killed it, counted.

    Raises:
        AssertionError: what is left differs from the reference.
    """
    count: Counter[str] = Counter()
    done = False
    while not done and sum(count.values()) < kills:
        begun(folder)
        kill = _chosen(rng, jobs, against.seconds)
        found = attempt(case, folder, jobs, kill)
        assert found.code in (0, TWICE, -signal.SIGKILL), f"{case.name}: exit code {found.code}"
        if found.code == -signal.SIGKILL:
            count[_name(kill, jobs)] += 1
        count[WORKER] = max(count[WORKER], _worker_deaths(folder))
        done = found.code == 0
    begun(folder)
    last = attempt(case, folder, jobs, Kill())
    assert last.code == 0, f"{case.name}: cannot be resumed"
    left = bytes_of(folder)
    assert left == against.files, f"{case.name}: differs in {differing(left, against.files)}"
    status = json.loads((folder / "status.json").read_text())
    assert status["state"] == "done" and not status["to_do"], status
    parts = [path.name for path in folder.rglob("*.part")]
    assert not parts, f"{case.name}: left behind {parts}"
    return +count


def _chosen(rng: random.Random, jobs: int, seconds: float) -> Kill:
    if rng.random() < 0.5:
        whom = "all" if jobs == 1 or rng.random() < 0.5 else "orders"
        return Kill(after=rng.uniform(0.0, 0.7 * seconds), whom=whom)
    return Kill(point=int(10 ** rng.uniform(0.0, 2.3)))


def _name(kill: Kill, jobs: int) -> str:
    if kill.after is None:
        return "at a commit point"
    if jobs == 1:
        return "at a random moment"
    return "all processes" if kill.whom == "all" else "the process that gives orders"


def _worker_deaths(folder: Path) -> int:
    log = folder / "log.txt"
    return log.read_text().count("SIGKILL") if log.exists() else 0


def differing(left: dict[str, str], right: dict[str, str]) -> list[str]:
    """The first files that are not the same."""
    return [name for name in sorted({*left, *right}) if left.get(name) != right.get(name)][:5]


def by_command(case: Case, folder: Path, jobs: int, rng: random.Random, against: Reference) -> None:
    """Begin a run as users do, kill its process at a random moment, and go on with it."""
    source = str(folder.with_name(f"{folder.name}.yaml"))
    Path(source).write_text(text_of(case))
    own = ["--load", str(OWN)] if case.own else []
    program = [
        sys.executable,
        "-c",
        "import sys; from mores.cli.commands import main; sys.exit(main())",
    ]
    begin = [
        *program,
        "run",
        source,
        *case.changes,
        "--out",
        str(folder),
        "--jobs",
        str(jobs),
        *own,
    ]
    first = subprocess.Popen(begin, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not (folder / "run.json").exists():  # starting Python takes longer than the run
        assert first.poll() is None, "ended before it had begun"
        select.select([], [], [], 0.01)
    select.select([], [], [], rng.uniform(0.0, against.seconds))
    workers = _children(first.pid)
    first.kill()
    first.wait()
    patience = time.monotonic() + ORPHANS
    while any(Path(f"/proc/{worker}/cmdline").exists() for worker in workers):
        assert time.monotonic() < patience, "workers outlived the process they worked for"
        select.select([], [], [], 0.01)
    go_on = [*program, "resume", str(folder), "--jobs", str(jobs), "--force", *own]
    done = subprocess.run(go_on, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    left = bytes_of(folder)
    assert left == against.files, f"{case.name}: differs in {differing(left, against.files)}"


def _children(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []

"""Kill runs at any moment, resume them, and compare their files with uninterrupted runs.

    python -m benchmarks.kills [KILLS]      240 by default; writes benchmarks/results/kills.json

A *history* is one run: it is started, killed, resumed, killed again, ..., and left to finish. Then
every file of its cells (metrics, trajectories, analytic values) and `claims.json` must equal, byte
for byte, the files of the same scenario on one process without a kill. Kills are SIGKILL:

- at a random time: of the process; with two jobs of all processes, or of the parent alone, after
  which its workers must end by themselves;
- at a commit point: before or after the n-th rename, fsync, mkdir or unlink, or in the middle of
  the n-th write; with two jobs in the first process that reaches it, also in workers.

Two scenarios are finished runs that are extended, and the extension is killed: the next attempt
resumes it if it was committed, and extends the run again if not. They are compared with the same
extension without a kill.

Processes are forked from one that has imported everything, so that a kill costs a second. Some runs
are started and resumed by the command line.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.killed.cases import CASES, import_all
from benchmarks.killed.histories import kill_and_compare, kill_command_line, reference

MAX_KILLS = 14  # of one history
RESULTS = Path(__file__).resolve().parent / "results"


def main(num_kills: int = 240) -> None:
    start, rng = time.monotonic(), random.Random(3)
    import_all()
    counts: dict[str, Counter[str]] = {case.name: Counter() for case in CASES}
    histories = Counter[str]()
    with tempfile.TemporaryDirectory(prefix="mores-kills-") as name:
        parent = Path(name)
        references = {case.name: reference(case, parent / case.name) for case in CASES}
        for index, case in enumerate(CASES[2:4]):
            folder = parent / f"command-{index}"
            kill_command_line(case, folder, 1 + index % 2, rng, references[case.name])
            counts[case.name]["by the command line"] += 1
            histories[case.name] += 1
            print(f"command line, {case.name}: equal", flush=True)
        index = 0
        while sum(sum(count.values()) for count in counts.values()) < num_kills:
            case, jobs = CASES[index % len(CASES)], 1 + (index // len(CASES)) % 2
            folder = parent / f"history-{index}"
            kills = kill_and_compare(case, folder, jobs, MAX_KILLS, rng, references[case.name])
            shutil.rmtree(folder)
            counts[case.name] += kills
            histories[case.name] += 1
            index += 1
            _write(counts, histories, start)
            print(f"{case.name}, {jobs} jobs: equal after {dict(kills)}", flush=True)
    print(json.dumps(_write(counts, histories, start), indent=2))


def _write(
    counts: dict[str, Counter[str]], histories: Counter[str], start: float
) -> dict[str, Any]:
    """Write the results so far; any difference has raised an error before."""
    by_kind: Counter[str] = sum(counts.values(), Counter())
    results = {
        "kills": sum(by_kind.values()),
        "by_kind": dict(by_kind),
        "by_scenario": {name: sum(count.values()) for name, count in counts.items()},
        "histories": sum(histories.values()),
        "different": 0,
        "compared": "every file of every cell, claims.json, cells.json, resolved.yaml; by byte",
        "seconds": round(time.monotonic() - start, 1),
        "machine": _machine(),
    }
    (RESULTS / "kills.json").write_text(json.dumps(results, indent=2) + "\n")
    return results


def _machine() -> dict[str, Any]:
    from mores.experiments.results.provenance import system_info

    system = system_info()
    return {name: system[name] for name in ("processor", "cores", "python", "versions")}


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

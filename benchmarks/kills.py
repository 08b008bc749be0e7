"""Kill runs at any moment, resume them, and compare what is left with a run that nobody killed.

    python -m benchmarks.kills [KILLS]      240 by default; writes benchmarks/results/kills.json

A *history* is one run: it is begun, killed, resumed, killed again ... and at last left to finish.
Then every file of its cells (rows, trajectories, formulas) and `claims.json` must be, byte for
byte, what the same scenario leaves on one process without a kill. Kills are SIGKILL:

- at a random moment: of the process; with two jobs of all processes, or of the one that gives
  orders, whereupon its workers must end by themselves;
- at a commit point: before or after the n-th rename, fsync, mkdir or unlink, or in the middle of
  the n-th write; with two jobs in whoever comes to it, also in workers.

Processes are forked from one that has imported everything, so that a kill costs a second. Some are
begun and resumed by the real command line.
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

from benchmarks.killed.cases import CASES, warm
from benchmarks.killed.histories import by_command, history, reference

KILLS = 14  # of one history, at most
RESULTS = Path(__file__).resolve().parent / "results"


def main(kills: int = 240) -> None:
    began, rng = time.monotonic(), random.Random(3)
    warm()
    counts: dict[str, Counter[str]] = {case.name: Counter() for case in CASES}
    histories = Counter[str]()
    with tempfile.TemporaryDirectory(prefix="mores-kills-") as name:
        place = Path(name)
        references = {case.name: reference(case, place / case.name) for case in CASES}
        for number, case in enumerate(CASES[2:4]):
            folder = place / f"command-{number}"
            by_command(case, folder, 1 + number % 2, rng, references[case.name])
            counts[case.name]["by the command line"] += 1
            histories[case.name] += 1
            print(f"command line, {case.name}: the same", flush=True)
        number = 0
        while sum(sum(count.values()) for count in counts.values()) < kills:
            case, jobs = CASES[number % len(CASES)], 1 + (number // len(CASES)) % 2
            folder = place / f"history-{number}"
            found = history(case, folder, jobs, KILLS, rng, references[case.name])
            shutil.rmtree(folder)
            counts[case.name] += found
            histories[case.name] += 1
            number += 1
            _write(counts, histories, began)
            print(f"{case.name}, {jobs} jobs: the same after {dict(found)}", flush=True)
    print(json.dumps(_write(counts, histories, began), indent=2))


def _write(
    counts: dict[str, Counter[str]], histories: Counter[str], began: float
) -> dict[str, Any]:
    """Write what was done so far: a difference is an error, and ends the program before."""
    by_kind: Counter[str] = sum(counts.values(), Counter())
    told = {
        "kills": sum(by_kind.values()),
        "by_kind": dict(by_kind),
        "by_scenario": {name: sum(count.values()) for name, count in counts.items()},
        "histories": sum(histories.values()),
        "different": 0,
        "compared": "every file of every cell, claims.json, cells.json, resolved.yaml; by byte",
        "seconds": round(time.monotonic() - began, 1),
        "machine": _machine(),
    }
    (RESULTS / "kills.json").write_text(json.dumps(told, indent=2) + "\n")
    return told


def _machine() -> dict[str, Any]:
    from mores.experiments.results.provenance import system_info

    here = system_info()
    return {name: here[name] for name in ("processor", "cores", "python", "versions")}


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

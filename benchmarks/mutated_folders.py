"""Read and resume mutated run folders: the right numbers or a `UserError`, and no other effect.

    python -m benchmarks.mutated_folders [FOLDERS [JOBS [FIRST]]]

10,000 folders by default; writes benchmarks/results/mutated_folders.json. A generator with seed i
makes folder i from a finished run with one to three mutations: bits, lengths, JSON values, kinds of
files, cells of other arms and other runs, formats, and checksums that are made anew.

Every folder is read by all readers of `mores.open_run`. One in ten is then resumed, and another one
in a hundred with the figures of its report, half of them as if the run had not finished, beside a
mutated earlier run. A failure is: an exception other than `UserError`; a message that is not one
printable line; a file touched outside the folder, or changed by a reader; code or a process
started; a number that differs from the untouched run's, unless its file was re-sealed; more than
10 s of processor time; a process that dies.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from benchmarks.mutated.guards import limit_memory
from benchmarks.mutated.run_attempts import (
    changed_numbers,
    guarded,
    read_everything,
    resume_guarded,
    set_running,
)
from benchmarks.mutated.run_mutations import CELLS, MutatedRun
from mores import UserError
from tests.attacks.folders import copy_run, pickled_marker, run_small, snapshot

RESULTS = Path(__file__).resolve().parent / "results"
MEMORY_FOLDER = Path("/dev/shm")  # of Linux: files in it never reach a disk
FOLDERS_OF_SHARD = 1_000
PLUGIN = "from pathlib import Path\nPath(__file__).with_name('marker').mkdir()\n"


class Originals(NamedTuple):
    """A finished run, other runs, and what the readers return for the first."""

    run: Path
    others: dict[str, Path]
    expected: dict[str, str]


@dataclasses.dataclass
class FolderResult:
    """What reading and resuming a mutated folder did.

    Attributes:
        mutations: names of the mutations.
        read: outcome of reading.
        resumed: outcome of resuming; empty if it was not tried.
        failures: what must not happen; empty if all is well.
        seconds: the longest processor time of the two.
    """

    mutations: list[str]
    read: str
    resumed: str
    failures: list[str]
    seconds: float


def make_originals(parent: Path) -> Originals:
    """Simulate the runs."""
    for name in ("original", "others"):
        (parent / name).mkdir()
    run = run_small(parent / "original" / "small")
    others = {
        "seed": run_small(parent / "others" / "seed", "seed=1"),
        "size": run_small(parent / "others" / "size", "env.num_people=4"),
        "replicates": run_small(parent / "others" / "replicates", only_replicates=[1]),
        "rounds": run_small(parent / "others" / "rounds", "record_every=3"),
    }
    return Originals(run, others, read_everything(run, CELLS))


def try_folder(seed: int, originals: Originals, area: Path, figures: bool) -> FolderResult:
    """Mutate a copy of the run, read it, and resume it if the seed or `figures` says so."""
    shutil.rmtree(area, ignore_errors=True)
    outside = _make_outside(area / "outside")
    (area / "runs").mkdir()
    folder = copy_run(originals.run, area / "runs" / "small")
    rng = Random(seed)
    mutated = MutatedRun(folder, outside, originals.others, rng)
    mutated.mutate()
    before = snapshot(area)
    attempt = guarded(lambda: read_everything(folder, CELLS), folder)
    failures = [f"read: {failure}" for failure in attempt.failures]
    if snapshot(area) != before:
        failures.append("read: files have changed")
    read, seconds = "failed", attempt.seconds
    if isinstance(attempt.result, UserError):
        read = attempt.result.code
    elif attempt.result is not None:
        read = _outcome(attempt.result, originals.expected)
        changed = changed_numbers(attempt.result, originals.expected, mutated.resealed, False)
        failures += [f"read: {name} returns something else" for name in changed]
    resumed = ""
    if figures or seed % 10 == 0:
        if rng.random() < 0.5:
            set_running(folder)
            mutated.mutations.append("status of a running run")
        if rng.random() < 0.5:
            copy = copy_run(originals.run, area / "runs" / "earlier")
            MutatedRun(copy, outside, originals.others, rng).mutate()
        resumed, more, longest = _resume(mutated, originals, area, figures)
        failures += [f"resume: {failure}" for failure in more]
        seconds = max(seconds, longest)
    return FolderResult(mutated.mutations, read, resumed, failures, seconds)


def _make_outside(folder: Path) -> Path:
    """The user's own files."""
    (folder / "mirror").mkdir(parents=True)
    (folder / "files").write_text("files")
    (folder / "mirror" / "cell.json").write_text("{}")
    (folder / "plugin.py").write_text(PLUGIN)
    (folder / "thesis.txt").write_bytes(pickled_marker(folder))
    return folder


def _resume(
    mutated: MutatedRun, originals: Originals, area: Path, figures: bool
) -> tuple[str, list[str], float]:
    """Resume a run; return the outcome, failures, and the processor time."""
    folder = mutated.folder
    before = _around(area)
    attempt = resume_guarded(folder, figures)
    failures = list(attempt.failures)
    if _around(area) != before:
        failures.append("files outside the run have changed")
    if isinstance(attempt.result, UserError):
        return attempt.result.code, failures, attempt.seconds
    if attempt.result is None:
        return "failed", failures, attempt.seconds
    again = guarded(lambda: read_everything(folder, CELLS), folder)
    failures += [f"then read: {failure}" for failure in again.failures]
    if isinstance(again.result, UserError):
        failures.append(f"then read: {again.result}")
    elif again.result is not None:
        changed = changed_numbers(again.result, originals.expected, mutated.resealed, True)
        failures += [f"then {name} returns something else" for name in changed]
        return _outcome(again.result, originals.expected), failures, attempt.seconds
    return "failed", failures, attempt.seconds


def _around(area: Path) -> dict[str, Any]:
    """Everything beside the run."""
    own = ("runs/small", "runs")
    return {
        name: entry
        for name, entry in snapshot(area).items()
        if name not in own and not name.startswith("runs/small/")
    }


def _outcome(found: dict[str, str], expected: dict[str, str]) -> str:
    """Whether all readers agree with the untouched run, some were refused, or some differ."""
    if found == expected:
        return "the same"
    numbers = [name for name in expected if name not in ("status", "provenance", "claims")]
    if any(value.startswith("refused") for value in found.values()):
        return "in part refused"
    same = all(found[name] == expected[name] for name in numbers)
    return "the same numbers" if same else "other numbers, re-sealed"


def with_figures(seed: int) -> bool:
    """Whether the folder of this seed is resumed with the figures of its report: 1 of 100."""
    return seed % 100 == 55


def run_range(first: int, number: int, originals: Originals, folder: Path, connection: Any) -> None:
    """Try the folders of these seeds and send every result, in a process of its own."""
    import matplotlib
    import torch

    matplotlib.use("Agg")
    torch.set_num_threads(1)
    warm_up(originals, folder / "area")
    limit_memory()
    os.chdir(folder)
    connection.send(None)
    for seed in range(first, first + number):
        connection.send((seed, try_folder(seed, originals, folder / "area", with_figures(seed))))
    connection.close()


def warm_up(originals: Originals, area: Path) -> None:
    """Import what readers and reports import at their first use."""
    shutil.rmtree(area, ignore_errors=True)
    folder = copy_run(originals.run, area / "small")
    (folder / "cells" / "mirror" / "metrics.parquet").write_bytes(b"")
    read_everything(folder, CELLS)
    resume_guarded(folder, figures=True)


class _Shards:
    """Runs shards in processes; a process that dies is a failure of one folder."""

    def __init__(self, parent: Path) -> None:
        self.parent, self.results = parent, dict[int, FolderResult]()
        self.originals = make_originals(parent)

    def run(self, shard: range) -> None:
        """Try the folders of a shard."""
        first = shard.start
        while first < shard.stop:
            with tempfile.TemporaryDirectory(dir=self.parent) as name:
                first = self._run_process(first, shard.stop, Path(name))

    def _run_process(self, first: int, stop: int, folder: Path) -> int:
        """Try folders in a process; return the seed to continue with."""
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        arguments = (first, stop - first, self.originals, folder, sender)
        process = context.Process(target=run_range, args=arguments)
        process.start()
        sender.close()
        receiver.recv()  # an error of this file ends the program
        seed = first
        try:
            while seed < stop:
                seed, result = receiver.recv()
                self.results[seed] = result
                if result.failures:
                    print(seed, result, file=sys.stderr, flush=True)
                seed += 1
        except EOFError:
            process.join()
            failure = f"the process died with exit code {process.exitcode}"
            self.results[seed] = FolderResult([], "failed", "", [failure], 0.0)
            seed += 1
        process.join()
        return seed


def main(num_folders: int = 10_000, jobs: int = 2, first: int = 0) -> None:
    """Try all folders in processes and write the results."""
    start = time.monotonic()
    base = MEMORY_FOLDER if MEMORY_FOLDER.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="mores-folders-", dir=base) as name:
        shards = _Shards(Path(name))
        stop = first + num_folders
        ranges = [
            range(seed, min(seed + FOLDERS_OF_SHARD, stop))
            for seed in range(first, stop, FOLDERS_OF_SHARD)
        ]
        with ThreadPoolExecutor(jobs) as pool:
            for _ in pool.map(shards.run, ranges):
                _write(shards.results, start, num_folders >= 10_000)
                print(len(shards.results), "folders", flush=True)
    results = _write(shards.results, start, num_folders >= 10_000)
    print(json.dumps(results, indent=2))
    sys.exit(1 if results["failures"] else 0)


def _write(tried: dict[int, FolderResult], start: float, to_file: bool) -> dict[str, Any]:
    """Write the results so far, of a run of all folders; return them."""
    results = summary(dict(tried))
    results["seconds"] = round(time.monotonic() - start, 1)
    results["machine"] = _machine()
    if to_file:
        text = json.dumps(results, indent=2) + "\n"
        (RESULTS / "mutated_folders.json").write_text(text)
    return results


def summary(results: dict[int, FolderResult]) -> dict[str, Any]:
    """Counts over folders, and the failures by seed."""
    tried = list(results.values())
    plain = [r.resumed for seed, r in results.items() if r.resumed and not with_figures(seed)]
    drawn = [r.resumed for seed, r in results.items() if r.resumed and with_figures(seed)]
    mutations = Counter(name for result in tried for name in result.mutations)
    return {
        "folders": len(tried),
        "read_by_outcome": dict(Counter(result.read for result in tried).most_common()),
        "resumed": len(plain),
        "resumed_by_outcome": dict(Counter(plain).most_common()),
        "resumed_with_figures": len(drawn),
        "resumed_with_figures_by_outcome": dict(Counter(drawn).most_common()),
        "by_mutation": dict(sorted(mutations.items())),
        "failures": {
            f"{seed}, {', '.join(result.mutations)}": "; ".join(result.failures)
            for seed, result in sorted(results.items())
            if result.failures
        },
        "longest_processor_seconds": round(max(result.seconds for result in tried), 2),
    }


def _machine() -> dict[str, Any]:
    from mores.experiments.results.provenance import system_info

    system = system_info()
    return {name: system[name] for name in ("processor", "cores", "python", "versions")}


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

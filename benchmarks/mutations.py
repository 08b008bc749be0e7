"""Load and check mutated scenario files: only success or a `UserError`, and no other effect.

    python -m benchmarks.mutations [FILES [CHECKS [JOBS]]]

100,000 files and 1,000 checks by default; writes benchmarks/results/mutations.json. A generator
with seed i makes file i from the bundled scenarios and from texts with every section: other bytes,
tokens and lines, encodings, values of other types, syntax that scenarios refuse (anchors, tags,
deep nesting, repeated keys), dotted paths, sections of two scenarios in one, overrides.

Each file is loaded under an audit hook. A failure is: an exception other than
`UserError`; a message that is not one printable line of at most 2,000 characters a problem; another
file opened, a module imported or code compiled; more than 10 s of processor time. A check, of tiny
scenarios with one or two other values, may import modules and read files of the package, and is
limited to 4 GiB more memory than the process has at the start.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import mores
from benchmarks.mutated.attempts import Tally, attempt
from benchmarks.mutated.guards import limit_memory
from benchmarks.mutated.mutators import MutatedFile, mutated_file, mutated_values
from benchmarks.mutated.originals import as_text, originals, tiny

RESULTS = Path(__file__).resolve().parent / "results"
CHECKS_SEED = 2**40  # of the first of the checked files
FILES_OF_SHARD, CHECKS_OF_SHARD = 5_000, 100


def load_files(seeds: range, folder: Path) -> Tally:
    """Load the mutated files of these seeds."""
    tally = Tally()
    file = folder / "mutated.yaml"
    _warm_up(file)
    for seed in seeds:
        mutated = mutated_file(Random(seed))
        tally.add(f"{seed}, {mutated.mutation}", mutated, attempt(mutated, file))
    return tally


def check_files(number: int, folder: Path, seed: int = CHECKS_SEED) -> Tally:
    """Check the mutated files after a seed that can be loaded, as many as stated."""
    tally = Tally()
    file = folder / "mutated.yaml"
    _warm_up(file)
    for name in ("graphs", "stages"):
        attempt(MutatedFile(as_text(tiny(name, Random(0))).encode(), (), "none"), file, check=True)
    while sum(tally.outcomes.values()) < number:
        seed += 1
        mutated = mutated_values(Random(seed))
        if b"kind: language" in mutated.data:
            continue  # its first rounds run a transformer, which takes long
        if attempt(mutated, file).outcome == "loaded":
            result = attempt(mutated, file, check=True)
            tally.add(f"{seed}, {mutated.mutation}", mutated, result)
    return tally


def _warm_up(file: Path) -> None:
    """Import what loading imports at its first use."""
    for text in (*originals().values(), "rounds: a", "name: [", "- a"):
        file.write_text(text, encoding="utf-8")
        for overrides in ((), ("rouns=1",), ("env.\udcff=",)):
            try:
                mores.load_scenario(file, overrides)
            except mores.UserError:
                continue


def main(num_files: int = 100_000, num_checks: int = 1_000, jobs: int = 2) -> None:
    """Run both parts in processes and write the results."""
    start = time.monotonic()
    shards = [
        *(
            ("load", n, min(FILES_OF_SHARD, num_files - n))
            for n in range(0, num_files, FILES_OF_SHARD)
        ),
        *(
            ("check", n, min(CHECKS_OF_SHARD, num_checks - n))
            for n in range(0, num_checks, CHECKS_OF_SHARD)
        ),
    ]
    tallies = {"load": Tally(), "check": Tally()}
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        for part, tally in pool.map(_run_shard, shards):
            tallies[part].merge(tally)
            results: dict[str, Any] = {p: _summary(t) for p, t in tallies.items()}
            results["seconds"] = round(time.monotonic() - start, 1)
            results["machine"] = _machine()
            if num_files >= 100_000:
                (RESULTS / "mutations.json").write_text(json.dumps(results, indent=2) + "\n")
            print(part, json.dumps(results[part]), flush=True)
    sys.exit(1 if any(tally.failures for tally in tallies.values()) else 0)


def _run_shard(shard: tuple[str, int, int]) -> tuple[str, Tally]:
    """Load or check a part of the files, in a process of the pool."""
    part, first, number = shard
    with tempfile.TemporaryDirectory(prefix="mores-mutations-") as name:
        folder = Path(name)
        if part == "load":
            tally = load_files(range(first, first + number), folder)
        else:
            limit_memory()
            tally = check_files(number, folder, CHECKS_SEED + first * 2**10)
        left = sorted(path.name for path in folder.iterdir())
        assert left == ["mutated.yaml"], left
    return part, tally


def _summary(tally: Tally) -> dict[str, Any]:
    return {
        "files": sum(tally.outcomes.values()),
        "by_outcome": dict(tally.outcomes.most_common()),
        "by_mutation": dict(sorted(tally.mutations.items())),
        "failures": tally.failures,
        "longest_processor_seconds": round(tally.max_seconds, 2),
    }


def _machine() -> dict[str, Any]:
    from mores.experiments.results.provenance import system_info

    system = system_info()
    return {name: system[name] for name in ("processor", "cores", "python", "versions")}


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

"""What it costs to simulate cells through Ray or submitit, in comparison with `--jobs 2`.

The same cells run through each launcher, two at a time, on this machine: a first time, which starts
everything, and again through the same executor. Processor time of this process and all below it
(workers, daemons of Ray), which other processes on the machine hardly change; wall time for
comparison, with the load of the machine. The minimum over the repeats counts.

    start          first time minus second time, with short cells
    per_cell       of a short cell, in the second time
    overhead       per_cell minus that of the worker processes of `--jobs 2`
    long_cell      of a cell of several seconds
    length         length of a cell from which the overhead is below 10 % of it

    python benchmarks/launchers.py
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from mores.experiments.launchers import open_executor
from mores.experiments.results.provenance import collect_provenance, processor
from mores.experiments.run.cell_execution import CellOutcome
from mores.experiments.run.cell_executor import CellExecutor
from mores.experiments.run.parameter_uncertainty import plan_cells
from mores.experiments.run.run_folder import RunPlan, create_run_folder, write_run_inputs
from mores.experiments.scenario.loading import load_scenario

WORKERS = 2
SCENARIO = """\
name: costs
about: Cells of one length.
env: {{kind: coevolution, num_people: {num_people}}}
rounds: {rounds}
replicates: 8
metrics: [rms_distance]
sweep: {{env.noise_std: {values}}}
"""
LAUNCHERS: dict[str, dict[str, Any]] = {
    "local": {},
    "ray": {},
    "ray_shared_folder": {"shared_folder": True},
    "slurm": {"cluster": "local"},
}


class Cost(NamedTuple):
    """Processor time and wall time, in seconds."""

    processor: float
    wall: float


def processor_seconds() -> float:
    """Processor time of this process, of all processes below it, and of those that have ended."""
    parents: dict[int, int] = {}
    times: dict[int, float] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            parents[int(folder.name)] = int(fields[1])
            times[int(folder.name)] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    below = {os.getpid()}
    while added := {pid for pid, parent in parents.items() if parent in below} - below:
        below |= added
    return sum(times[pid] for pid in below)


def cost(executor: CellExecutor, folder: Path, num_cells: int, long: bool) -> Cost:
    """Cost of so many cells in a new run."""
    values = [n / 100 for n in range(num_cells)]
    rounds, num_people = (600, 60) if long else (4, 10)
    file = folder / "costs.yaml"
    file.write_text(SCENARIO.format(values=values, rounds=rounds, num_people=num_people))
    loaded = load_scenario(file)
    cells, text = plan_cells(loaded)
    run_folder = next(path for n in itertools.count() if not (path := folder / f"run-{n}").exists())
    create_run_folder(loaded.scenario, text, run_folder)
    plan = RunPlan(run_folder, loaded.scenario, cells, range(loaded.scenario.replicates))
    provenance = collect_provenance(text, loaded.scenario.seed, WORKERS)
    write_run_inputs(plan, loaded, text, None, provenance)
    before, start = processor_seconds(), time.perf_counter()
    for event in executor.run_tasks([plan.make_task(cell) for cell in cells], lambda *_: None):
        assert isinstance(event, CellOutcome) and event.error is None, event
    return Cost(processor_seconds() - before, time.perf_counter() - start)


def measure(launcher: str, folder: Path, num_short: int, num_long: int) -> dict[str, float]:
    """Seconds of one repeat."""
    kind = launcher.partition("_")[0]
    options = LAUNCHERS[launcher]
    if kind == "slurm":
        options = {**options, "job_folder": str(folder / "jobs")}
        num_short = num_long = WORKERS  # each cell starts a process
    with open_executor(kind, WORKERS, options) as executor:
        first = cost(executor, folder, num_short, long=False)
        second = cost(executor, folder, num_short, long=False)
        long = cost(executor, folder, num_long, long=True)
    return {
        "start": max(0.0, first.processor - second.processor),
        "per_cell": second.processor / num_short,
        "long_cell": long.processor / num_long,
        "start_wall": max(0.0, first.wall - second.wall),
        "per_cell_wall": second.wall * WORKERS / num_short,
        "long_cell_wall": long.wall * WORKERS / num_long,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--short", type=int, default=32, help="number of short cells")
    parser.add_argument("--long", type=int, default=4, help="number of long cells")
    parser.add_argument("--launchers", nargs="*", default=list(LAUNCHERS), choices=LAUNCHERS)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/launchers.json"))
    arguments = parser.parse_args()
    rows: dict[str, dict[str, float]] = {}
    for _ in range(arguments.repeats):
        for launcher in arguments.launchers:  # in turns
            with tempfile.TemporaryDirectory() as folder:
                row = measure(launcher, Path(folder), arguments.short, arguments.long)
            print(launcher, {name: round(value, 3) for name, value in row.items()}, flush=True)
            before = rows.get(launcher, row)
            rows[launcher] = {name: min(value, before[name]) for name, value in row.items()}
    local = rows["local"]
    for row in rows.values():
        row["overhead"] = row["per_cell"] - local["per_cell"]
        row["long_cell_ratio"] = row["long_cell"] / local["long_cell"]
        row["length"] = 10 * row["overhead"]
    result = {
        "machine": {"processor": processor(), "cores": os.cpu_count(), "load": os.getloadavg()[0]},
        "workers": WORKERS,
        "short_cells": arguments.short,
        "long_cells": arguments.long,
        "repeats": arguments.repeats,
        "rows": {
            launcher: {name: round(value, 3) for name, value in row.items()}
            for launcher, row in rows.items()
        },
    }
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

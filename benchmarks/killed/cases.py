"""Scenarios made small, for runs that are killed."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from pathlib import Path

OWN = Path(__file__).resolve().parents[1] / "learning_bandit.py"
STAGES = """\
name: stages
about: A gambler learns in one stage, and is watched in the next.
env: {kind: learning_bandit}
players: {gambler: {kind: learning_averager}}
rounds: 12
replicates: 3
worlds: 2
every: 4
stages:
  - {name: training, loop: improve, learn: gambler, episodes: 3}
  - {name: test, rounds: 8}
measures: [earned]
arms: {curious: {}, greedy: {players.gambler.explore: 0.0}}
claims:
  - {says: It earns, kind: statistical, measure: earned, arm: curious, stage: test,
     bound: {above: 0}}
"""
UNSURE = """\
name: unsure
about: How far a persuader moves people depends on how much they listen.
env: {kind: coevolution, people: 12, spread: 0.1}
players: {assistant: {kind: persuade, goal: [1.0, 0.0], reach: 1.0}}
rounds: 2
replicates: 3
measures: [centre]
control: twin
arms: {twin: {env.assistants: 0}, persuaded: {}}
uncertain: {parameters: {env.ai_influence: [0.2, 0.6]}, replicates: 2}
claims:
  - {says: It moves them, kind: statistical, measure: causal_drift, arm: persuaded,
     interval: parameters, bound: {above: 0}}
"""
VOTERS_CLAIM = (  # its own ask for hundreds of draws of its parameters: see `unsure`
    "claims=[{says: A mirror draws people together, kind: statistical, measure: spread, "
    "arm: mirror, against: twin, bound: {below: 0}}]"
)


@dataclasses.dataclass(frozen=True)
class Case:
    """A scenario made small: its file or text, and what is changed in it."""

    name: str
    file: str
    changes: tuple[str, ...] = ()
    own: bool = False  # it needs learning_bandit.py


CASES = (
    Case("voters", "voters", ("rounds=5", "replicates=2", "uncertain=null", VOTERS_CLAIM)),
    Case("lock_in", "lock_in", ("rounds=200", "replicates=3")),
    Case("karate", "karate", ("rounds=60", "replicates=2", "every=20", "sample=2")),
    Case("stages", STAGES, own=True),
    Case("unsure", UNSURE),
)


@functools.cache
def text_of(case: Case) -> str:
    """What the scenario's file says: read once, so that all runs are of the same."""
    from mores.experiments.scenario.loading import find_scenario_file

    return (
        case.file
        if "\n" in case.file
        else find_scenario_file(case.file).read_text(encoding="utf-8")
    )


def warm() -> None:
    """Import whatever a run imports; start no thread, as this process will be forked."""
    import matplotlib
    import torch

    matplotlib.use("Agg")
    torch.set_num_threads(1)
    for name in ("matplotlib.pyplot", "pyarrow.parquet", "xarray", "zarr", "mores.experiments.run.cell_execution",
                 "mores.report.page"):  # fmt: skip
        importlib.import_module(name)
    from mores.experiments.results.provenance import system_info
    from mores.registry.plugins import load_plugins

    load_plugins([OWN])
    system_info()  # reads all source once: what is changed in it meanwhile is not run
    for case in CASES:
        text_of(case)

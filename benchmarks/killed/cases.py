"""Small scenarios for runs that are killed."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from pathlib import Path

PLUGIN = Path(__file__).resolve().parents[1] / "learning_bandit.py"
STAGES = """\
name: stages
about: A gambler trains in one stage and is evaluated in the next.
env: {kind: learning_bandit}
policies: {gambler: {kind: learning_averager}}
rounds: 12
replicates: 3
worlds: 2
record_every: 4
stages:
  - {name: training, loop: train, roles_to_train: gambler, episodes: 3}
  - {name: test, rounds: 8}
metrics: [earned]
arms: {curious: {}, greedy: {policies.gambler.explore: 0.0}}
claims:
  - {statement: It earns, kind: statistical, metric: earned, arm: curious, stage: test,
     bound: {above: 0}}
"""
UNCERTAIN = """\
name: uncertain
about: The effect of a persuader depends on the influence of an assistant.
env: {kind: coevolution, num_people: 12, initial_std: 0.1}
policies: {assistant: {kind: persuader, goal: [1.0, 0.0], goal_weight: 1.0}}
rounds: 2
replicates: 3
metrics: [mean_value]
control: twin
arms: {twin: {env.num_assistants: 0}, persuaded: {}}
uncertainty: {parameters: {env.ai_influence: [0.2, 0.6]}, replicates: 2}
claims:
  - {statement: It moves them, kind: statistical, metric: effect_vs_control, arm: persuaded,
     interval: parameters, bound: {above: 0}}
"""
VOTERS_CLAIM = (  # the scenario's own claims need hundreds of parameter draws: see `uncertain`
    "claims=[{statement: A mirror draws people together, kind: statistical, metric: rms_distance, "
    "arm: mirror, compare_to: twin, bound: {below: 0}}]"
)


@dataclasses.dataclass(frozen=True)
class Case:
    """A small scenario: its file or text, and overrides.

    With an `extension`, a finished run is extended by these overrides, and killed meanwhile.
    """

    name: str
    file: str
    overrides: tuple[str, ...] = ()
    needs_plugin: bool = False  # learning_bandit.py
    extension: tuple[str, ...] = ()


CASES = (
    Case("voters", "voters", ("rounds=5", "replicates=2", "uncertainty=null", VOTERS_CLAIM)),
    Case("lock_in", "lock_in", ("rounds=200", "replicates=3")),
    Case(
        "karate", "karate", ("rounds=60", "replicates=2", "record_every=20", "trajectory.worlds=2")
    ),
    Case("stages", STAGES, needs_plugin=True),
    Case("uncertain", UNCERTAIN),
    Case(
        "more replicates and an arm",
        STAGES,
        needs_plugin=True,
        extension=("replicates=5", "arms.eager={policies.gambler.explore: 0.5}"),
    ),
    Case(
        "more rounds",
        "karate",
        ("rounds=60", "replicates=2", "record_every=20"),
        extension=("rounds=70",),
    ),
)


@functools.cache
def scenario_text(case: Case) -> str:
    """Text of the scenario, read once, so that all runs have the same."""
    from mores.experiments.scenario.loading import find_scenario_file

    return (
        case.file
        if "\n" in case.file
        else find_scenario_file(case.file).read_text(encoding="utf-8")
    )


def import_all() -> None:
    """Import all modules of a run; start no thread, since this process will be forked."""
    import matplotlib
    import torch

    matplotlib.use("Agg")
    torch.set_num_threads(1)
    for name in ("matplotlib.pyplot", "pyarrow.parquet", "xarray", "zarr", "scipy.stats",
                 "mores.experiments.run.cell_execution", "mores.report.page"):  # fmt: skip
        importlib.import_module(name)
    from mores.experiments.results.provenance import system_info
    from mores.registry.plugins import load_plugins

    load_plugins([PLUGIN])
    system_info()  # reads all source once: later changes are not run
    for case in CASES:
        scenario_text(case)

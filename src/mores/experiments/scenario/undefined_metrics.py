"""Metrics that are NaN throughout a scenario, for a remark of `mores check`."""

from __future__ import annotations

import time
from collections.abc import Iterable

from mores.experiments.scenario.cell import BuiltCell, BuiltStage
from mores.experiments.scenario.specification import Scenario
from mores.sim.metric_tracker import MetricTracker
from mores.sim.simulator import Simulator

MAX_SECONDS = 3.0


def undefined_metrics(scenario: Scenario, cells: Iterable[BuiltCell]) -> list[str]:
    """Names of the metrics that are NaN in one world in every round of every cell.

    No policy trains. A simulation ends as soon as all metrics have been a number once; none is
    reported if that takes more than `MAX_SECONDS`.
    """
    names, deadline = set(scenario.metric_names), time.monotonic() + MAX_SECONDS
    for built in cells:
        for stage in built.stages:
            if names and stage.stage.loop != "fit_offline":
                names = _undefined(scenario, names, stage, built, deadline)
    if time.monotonic() > deadline:
        return []
    return [name for name in scenario.metric_names if name in names]


def _undefined(
    scenario: Scenario, names: set[str], stage: BuiltStage, built: BuiltCell, deadline: float
) -> set[str]:
    """Those of the names that are NaN in every round of a stage's episode."""
    simulator = Simulator(
        stage.environment,
        stage.policies,
        worlds=1,
        rounds=stage.rounds,
        population=built.population,
        roles_to_train=(),
    )
    simulator.reset(scenario.seed)
    tracker = MetricTracker(
        simulator, {name: spec for name, spec in scenario.metric_specs.items() if name in names}
    )
    while True:
        values = tracker.values()
        names = {name for name in names if bool(values[name].isnan().all())}
        if not names or simulator.all_finished or time.monotonic() > deadline:
            return names
        tracker.step()

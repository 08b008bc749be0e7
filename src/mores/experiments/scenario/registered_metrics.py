"""Check of a scenario's registered metrics: names, parameters, inputs, shapes over one round."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mores.core.errors import UserError, describe_exception, printable
from mores.core.metric import Metric
from mores.experiments.scenario.cell import BuiltCell, BuiltStage, make_component
from mores.experiments.scenario.claim_inputs import metric_compared_with_control
from mores.experiments.scenario.overrides import Origin
from mores.experiments.scenario.source_locations import (
    Problem,
    ScenarioError,
    SourceMap,
    problem_at_path,
)
from mores.experiments.scenario.specification import Scenario
from mores.sim.metric_tracker import MetricTracker
from mores.sim.simulator import Simulator


def checked_registered_metrics(
    scenario: Scenario,
    source_map: SourceMap,
    built_stage: BuiltStage,
    built: BuiltCell,
    own: Mapping[str, Tensor],
    problems: list[Problem],
) -> Mapping[str, Tensor]:
    """Metrics of one world after one round: the environment's own and the scenario's others.

    Args:
        scenario: the scenario.
        source_map: of its file.
        built_stage: the stage to check, whose environment has been checked for a round.
        built: its cell.
        own: the environment's own metrics.
        problems: receives what is wrong.
    """
    values = dict(own)
    for i, (name, spec) in enumerate(scenario.metric_specs.items()):
        if (spec == name and name in own) or metric_compared_with_control(name) is not None:
            continue
        path = ("metrics", i)
        try:
            metric: str | Metric = name
            if not isinstance(spec, str):
                metric = make_component("metric", spec, path, Origin(source_map, {}))
            values[name] = _value_after_one_round(name, metric, built_stage, built, scenario.seed)
        except ScenarioError as error:
            problems += error.problems
        except UserError as error:
            message = printable(error, 300)
            problems.append(problem_at_path(source_map, message, *path, code=error.code))
        except Exception as error:
            message = f"{name}: fails: {describe_exception(error)}"
            problems.append(problem_at_path(source_map, message, *path, code="failed"))
    return values


def _value_after_one_round(
    name: str, metric: str | Metric, built_stage: BuiltStage, built: BuiltCell, seed: int
) -> Tensor:
    """The metric of one world; no policy trains.

    Raises:
        UserError: it changes its shape, returns other numbers when it is repeated, or depends on
            other worlds, by more than rounding.
    """

    def simulated(replicates: list[int]) -> Tensor:
        simulator = Simulator(
            built_stage.environment,
            built_stage.policies,
            worlds=replicates,
            rounds=2,
            population=built.population,
            roles_to_train=(),
        )
        simulator.reset(seed)
        tracker = MetricTracker(simulator, {name: metric})
        tracker.values()
        tracker.step()
        after = tracker.values()[name].clone()
        _check_repeated(name, after, tracker.values()[name])
        return after

    alone, together = simulated([1]), simulated([0, 1])[1:]
    if not _are_close(alone, together):
        _check_repeated(name, together, simulated([0, 1])[1:])
        raise UserError(
            f"{name}: worlds depend on each other: world 1 alone gives {_first(alone)}, with world "
            f"0 beside it {_first(together)}; do not sum over dimension 0",
            code="world_leak",
            path="metrics",
        )
    return alone


def _check_repeated(name: str, first: Tensor, second: Tensor) -> None:
    """Check that a metric of the same rounds has the same value again."""
    if not _are_close(first, second):
        raise UserError(
            f"{name}: returns other numbers when it is repeated with the same seed: it must "
            "depend on its inputs only",
            code="unseeded",
            path="metrics",
        )


def _are_close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-3, atol=1e-6, equal_nan=True)


def _first(value: Tensor) -> str:
    return f"{float(value.flatten()[0]):.6g}"

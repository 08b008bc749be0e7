"""Checks of a scenario's metrics: names, parameters, inputs, shapes, and values that are NaN."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from mores import registry
from mores.core.component_names import NamedDimensions, component_names, split_component
from mores.core.errors import UserError, describe_exception, did_you_mean, printable
from mores.core.metric import Metric
from mores.experiments.scenario.cell import BuiltCell, BuiltStage, Components
from mores.experiments.scenario.claim_inputs import metric_compared_with_control
from mores.experiments.scenario.source_locations import Problem, problems_into
from mores.experiments.scenario.specification import Scenario
from mores.sim.metric_tracker import MetricSpec, MetricTracker
from mores.sim.simulator import Simulator

MAX_SECONDS = 3.0  # of the search for undefined metrics


class StageMetrics(NamedTuple):
    """Metrics of one world of a stage, and names of the components of vectors.

    Attributes:
        values: by name, `[world]` or `[world, n]`.
        component_names: by name of the metric, where its components have names.
    """

    values: Mapping[str, Tensor]
    component_names: Mapping[str, tuple[str, ...]]


def checked_metrics(
    scenario: Scenario,
    built: BuiltCell,
    stage_index: int,
    own: Mapping[str, Tensor],
    problems: list[Problem],
) -> StageMetrics:
    """Metrics of one world after one round: the environment's own and the scenario's others.

    The others are omitted if there are problems before.

    Args:
        scenario: the scenario.
        built, stage_index: the stage to check, whose environment has been checked for a round.
        own: the environment's own metrics.
        problems: receives what is wrong.
    """
    specs: dict[str, MetricSpec] = {}
    if problems:
        return _with_names(built, stage_index, own, {})
    source_map, places = built.cell.source_map, list(scenario.metric_specs)
    for i, (name, spec) in enumerate(scenario.metric_specs.items()):
        is_own = (spec == name and name in own) or metric_compared_with_control(name) is not None
        with problems_into(problems):
            if isinstance(spec, str):
                made = spec
            else:
                made = Components().make("metric", spec, ("metrics", i), source_map)
            if not is_own:
                specs[name] = made
    values = dict(own)

    def check(chosen: Mapping[str, MetricSpec]) -> None:
        try:
            stage = built.stages[stage_index]
            values.update(_values_after_one_round(scenario, built, stage, chosen))
        except Exception as error:
            if len(chosen) > 1:  # find the metric that fails
                for name, spec in chosen.items():
                    check({name: spec})
                return
            name = next(iter(chosen))
            message, code = f"{name}: fails: {describe_exception(error)}", "failed"
            if isinstance(error, UserError):
                lacking = _lacking_policy(chosen[name], built, stage_index)
                message, code = lacking or printable(error, 300), error.code
            problem = source_map.problem(message, "metrics", places.index(name), code=code)
            problems.append(problem)

    if specs:
        check(specs)
    return _with_names(built, stage_index, values, specs)


def _lacking_policy(spec: MetricSpec, built: BuiltCell, stage_index: int) -> str | None:
    """Message for `ROLE.NAME` of a policy that has no such metric. None for other metrics."""
    role, _, name = spec.rpartition(".") if isinstance(spec, str) else ("", "", "")
    stage = built.stages[stage_index]
    policy = stage.policies.get(role)
    if policy is None or name in policy.metric_names:
        return None
    kind = registry.kind_of("policy", policy) or type(policy).__name__
    if policy.metric_names:
        return f"the policy {kind} of {role} has no metric {name!r}" + did_you_mean(
            name, policy.metric_names
        )
    return (
        f"the arm {built.cell.arm} has no metric {spec}: its policy of {role}, {kind}, has no "
        "metrics (language models do); remove it here: the report lists it for arms that have it"
    )


def _with_names(
    built: BuiltCell,
    stage_index: int,
    values: Mapping[str, Tensor],
    specs: Mapping[str, MetricSpec],
) -> StageMetrics:
    """Metrics with the names of their components; `specs`: those that are registered."""
    environment = built.stages[stage_index].environment
    metrics: dict[str, Metric | None] = dict.fromkeys(values)
    for name, spec in specs.items():
        if name not in values:
            continue  # its problem is reported
        if isinstance(spec, str):
            if spec not in registry.REGISTRIES["metric"]:
                continue  # the return of a role
            spec = registry.make("metric", spec, {})
        metrics[name] = spec if isinstance(spec, Metric) else None
    names = NamedDimensions.of(environment, built.population)
    return StageMetrics(values, component_names(environment, metrics, names))


def _values_after_one_round(
    scenario: Scenario, built: BuiltCell, stage: BuiltStage, specs: Mapping[str, MetricSpec]
) -> dict[str, Tensor]:
    """The metrics of one world.

    Raises:
        UserError: one changes its shape, returns different numbers when it is repeated, or depends
            on other worlds, by more than rounding.
    """

    def simulated(replicates: list[int]) -> dict[str, Tensor]:
        _, tracker = _start_episode(scenario, built, stage, specs, replicates, rounds=2)
        tracker.values()
        tracker.step()
        after = {name: value.clone() for name, value in tracker.values().items()}
        for name, value in tracker.values().items():
            _check_repeated(name, after[name], value)
        return {name: value[-1:] for name, value in after.items()}

    alone, together = simulated([1]), simulated([0, 1])
    for name, value in alone.items():
        if not _are_close(value, together[name]):
            _check_repeated(name, together[name], simulated([0, 1])[name])
            first, second = (f"{float(each.flatten()[0]):.6g}" for each in (value, together[name]))
            raise UserError(
                f"{name}: worlds depend on each other: world 1 alone gives {first}, with world "
                f"0 beside it {second}; do not sum over dimension 0",
                code="world_leak",
                path="metrics",
            )
    return alone


def _start_episode(
    scenario: Scenario,
    built: BuiltCell,
    stage: BuiltStage,
    specs: Mapping[str, MetricSpec],
    replicates: list[int],
    rounds: int,
) -> tuple[Simulator, MetricTracker]:
    """The start of a stage's episode in which no policy trains."""
    simulator = Simulator(
        stage.environment,
        stage.policies_to_check(),
        worlds=replicates,
        rounds=rounds,
        population=built.population,
        roles_to_train=(),
    )
    simulator.reset(scenario.seed)
    return simulator, MetricTracker(simulator, specs)


def _check_repeated(name: str, first: Tensor, second: Tensor) -> None:
    """Check that a metric of the same rounds has the same value again."""
    if not _are_close(first, second):
        raise UserError(
            f"{name}: returns different numbers when it is repeated with the same seed: it must "
            "depend on its inputs only",
            code="unseeded",
            path="metrics",
        )


def _are_close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-3, atol=1e-6, equal_nan=True)


def undefined_metrics(scenario: Scenario, cells: Iterable[BuiltCell]) -> list[str]:
    """Names of the metrics that are NaN in one world in every round of every cell.

    No policy trains. A simulation ends as soon as all metrics have been a number once; none is
    reported if that takes more than `MAX_SECONDS`.
    """
    undefined, deadline = scenario.metric_specs, time.monotonic() + MAX_SECONDS
    for built in cells:
        for stage in built.stages:
            if stage.stage.loop == "fit_offline" or not undefined:
                continue
            simulator, tracker = _start_episode(
                scenario, built, stage, undefined, [0], stage.rounds
            )
            while True:
                values = tracker.values()
                undefined = {n: s for n, s in undefined.items() if values[n].isnan().all()}
                if time.monotonic() > deadline:
                    return []
                if not undefined or simulator.all_finished:
                    break
                tracker.step()
    return list(undefined)


def may_have_bounds(scenario: Scenario, metric: str, cells: Iterable[BuiltCell]) -> bool:
    """Whether an environment, or the class of a registered metric, declares bounds of a metric."""
    name = split_component(metric)[0]
    spec = scenario.metric_specs.get(name, name)
    kind = spec if isinstance(spec, str) else spec["kind"]
    if any(name in each.environment.metric_bounds for cell in cells for each in cell.stages):
        return True
    registered = kind in registry.REGISTRIES["metric"]
    return registered and registry.class_of("metric", kind).bounds is not Metric.bounds

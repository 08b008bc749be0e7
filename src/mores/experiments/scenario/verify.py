"""Checks of metrics and claims: their arms, metrics, rounds and analytic values exist."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mores.experiments.scenario.cell import BuiltCell, BuiltStage, Cell
from mores.experiments.scenario.claim_inputs import (
    EFFECT_VS_CONTROL,
    claim_arm,
    metric_compared_with_control,
    required_arms,
)
from mores.experiments.scenario.conditions import DEFAULT_ARM, MAX_CELLS
from mores.experiments.scenario.first_round_check import FirstRoundCheck
from mores.experiments.scenario.registered_metrics import checked_registered_metrics
from mores.experiments.scenario.source_locations import (
    Problem,
    SourceMap,
    problem_at_path,
    suggestion,
)
from mores.experiments.scenario.specification import Claim, Scenario
from mores.experiments.scenario.stages import Sensitivity, Stage, Target
from mores.experiments.scenario.verify_training import no_update_problems, offline_dataset_problems

_INDEX_PATTERN = re.compile(r"\[(0|[1-9][0-9]{0,8})\]$")
MAX_RECORDED_VALUES = 2**29  # of each metric in a cell: 2 GiB


def claim_problems(scenario: Scenario, source_map: SourceMap) -> list[Problem]:
    """Problems of metrics and claims that the file alone reveals."""
    problems: list[Problem] = []

    def report(code: str, message: str, *path: str | int) -> None:
        problems.append(problem_at_path(source_map, message, *path, code=code))

    replicates = scenario.replicates
    if scenario.uncertainty is not None:
        replicates = max(replicates, scenario.uncertainty.replicates)
    records = [
        s.episodes * (scenario.rounds_per_episode(s) // scenario.record_every + 1)
        for s in scenario.stages_or_default
    ]
    size = replicates * scenario.worlds * sum(records)
    if size > MAX_RECORDED_VALUES:
        message = f"{size:.1e} values of each metric are too many: raise record_every, or lower it"
        report("too_large", message, "replicates")

    for i, name in enumerate(scenario.metric_names):
        compared = metric_compared_with_control(name)
        if compared is not None:
            message = f"{name} is computed for claims only, from {compared}: list that here"
            report("invalid_value", message, "metrics", i)
    for i, claim in enumerate(scenario.claims):
        stage = scenario.stage(claim.stage)
        problems += _estimand_problems(scenario, source_map, claim, stage, "claims", i)
        if stage.loop == "fit_offline":
            message = f"{stage.name} simulates no episodes: name another stage"
            report("invalid_value", message, "claims", i)
    if all(stage.loop == "fit_offline" for stage in scenario.stages_or_default):
        report(
            "missing",
            "at least one stage must simulate episodes (loop rollout, train or search)",
            "stages",
        )
    problems += _cell_count_problems(scenario, source_map)
    for path, estimand in _targets_and_sensitivity(scenario):
        problems += _estimand_problems(scenario, source_map, estimand, scenario.stage(None), *path)
    return problems


def _estimand_problems(
    scenario: Scenario,
    source_map: SourceMap,
    estimand: Claim | Target | Sensitivity,
    stage: Stage,
    *path: str | int,
) -> list[Problem]:
    """Problems of the arms, the metric and the round of an estimand at a path."""
    problems: list[Problem] = []

    def report(code: str, message: str, *key: str) -> None:
        problems.append(problem_at_path(source_map, message, *path, *key, code=code))

    arms, arm = list(scenario.arms) or [DEFAULT_ARM], claim_arm(scenario, estimand)
    compared = metric_compared_with_control(estimand.metric)
    if isinstance(estimand, Sensitivity) and estimand.arm is None and len(arms) > 1:
        report("missing", "name an arm")  # the control is a poor default
    elif arm is None:
        report("missing", "name an arm, or a control of the scenario")
    elif arm not in arms:
        report("unknown_name", f"there is no arm {arm!r}{suggestion(arm, scenario.arms)}", "arm")
    for key in ("compare_to", "ablation"):
        other = getattr(estimand, key, None)
        if other is None:
            continue
        if other not in arms:
            near = suggestion(other, scenario.arms) or "; the scenario has no arms"
            report("unknown_name", f"there is no arm {other!r}{near}", key)
        elif other == arm:
            report("conflict", "must differ from arm", key)
        elif key == "ablation" and compared is not None and other == scenario.control:
            message = f"must not be the control, where {estimand.metric} is 0: name another arm"
            report("conflict", message, key)
    recorded, _ = _split_metric(compared or estimand.metric)
    if recorded not in scenario.metric_names and estimand.metric != EFFECT_VS_CONTROL:
        shown = compared or estimand.metric
        near = suggestion(shown, dict.fromkeys([*scenario.metric_names, EFFECT_VS_CONTROL]))
        message = f"{shown!r} is not among the metrics of the scenario{near}"
        report("unknown_name", message, "metric")
    elif recorded not in scenario.metric_names:
        message = f"{estimand.metric} needs {recorded}: list it among the metrics"
        report("missing", message, "metric")
    if compared is not None and scenario.control is None:
        report("missing", f"{estimand.metric} needs a control: name one", "metric")
    if compared is not None and arm is not None and arm == scenario.control:
        report("conflict", "compares the control with itself: name another arm", "metric")
    rounds = scenario.rounds_per_episode(stage)
    if estimand.at_round is not None and estimand.at_round > rounds:
        message = f"must be at most {rounds}, the number of rounds, not {estimand.at_round}"
        report("out_of_range", message, "at_round")
    return problems


def cell_problems(
    scenario: Scenario,
    source_map: SourceMap,
    cell: Cell,
    built: BuiltCell,
    first_round_check: FirstRoundCheck,
) -> list[Problem]:
    """Problems of a cell that its first rounds reveal: classes, metrics, analytic values."""
    problems: list[Problem] = []
    # Stages often share their objects: these are checked once.
    checked: dict[tuple[int, ...], Mapping[str, Any] | None] = {}
    for index, built_stage in enumerate(built.stages):
        environment, policies = built_stage.environment, built_stage.policies
        for role in environment.roles:
            if role.name not in policies:
                message = f"the role {role.name!r} has no policy: name one"
                problem = cell.origin.problem(("policies",), message, at_key=True, code="missing")
                problems.append(problem)
        problems += offline_dataset_problems(source_map, built, index)
        problems += no_update_problems(scenario, source_map, cell, built, index)
        key = (id(environment), *map(id, policies.values()))
        if key not in checked:
            checked[key] = _checked_metrics(
                scenario, source_map, index, built, first_round_check, problems
            )
        metrics = checked[key]
        if metrics is not None and built_stage.stage.loop != "fit_offline":
            problems += _metric_problems(scenario, source_map, cell, built_stage, built, metrics)
    return list(dict.fromkeys(problems))


def _targets_and_sensitivity(
    scenario: Scenario,
) -> list[tuple[tuple[str | int, ...], Target | Sensitivity]]:
    """Targets and the sensitivity analysis, with their paths."""
    estimands: list[tuple[tuple[str | int, ...], Target | Sensitivity]] = []
    if scenario.calibration is not None:
        targets = enumerate(scenario.calibration.targets)
        estimands += [(("calibration", "targets", i), target) for i, target in targets]
    if scenario.uncertainty is not None and scenario.uncertainty.sensitivity is not None:
        estimands.append((("uncertainty", "sensitivity"), scenario.uncertainty.sensitivity))
    return estimands


def _cell_count_problems(scenario: Scenario, source_map: SourceMap) -> Iterator[Problem]:
    """Problems of too many cells at uncertain parameters."""
    uncertainty = scenario.uncertainty
    if uncertainty is None:
        return
    claims = [claim for claim in scenario.claims if claim.interval == "parameters"]
    draws = uncertainty.draws * len(required_arms(scenario, claims))
    counts: dict[tuple[str, ...], int] = {("uncertainty", "draws"): draws}
    sensitivity = uncertainty.sensitivity
    if sensitivity is not None:
        extra = 2 if sensitivity.method == "sobol" else 1
        points = sensitivity.num_samples_or_default * (len(uncertainty.parameters) + extra)
        cells = points * len(required_arms(scenario, [sensitivity]))
        counts["uncertainty", "sensitivity", "num_samples"] = cells
    for path, cells in counts.items():
        if cells > MAX_CELLS:
            message = f"gives {cells:,} cells; at most {MAX_CELLS:,} are allowed"
            yield problem_at_path(source_map, message, *path, code="too_large")


def _metric_problems(
    scenario: Scenario,
    source_map: SourceMap,
    cell: Cell,
    built_stage: BuiltStage,
    built: BuiltCell,
    metrics: Mapping[str, Any],
) -> list[Problem]:
    """Problems of metrics and analytic values that a stage of a cell lacks."""
    problems: list[Problem] = []
    kind = cell.env["kind"]

    def report(code: str, message: str, *path: str | int) -> None:
        problems.append(problem_at_path(source_map, message, *path, code=code))

    if built_stage.stage.name == scenario.stages_or_default[-1].name:
        for path, estimand in _targets_and_sensitivity(scenario):
            message = _metric_index_error(estimand.metric, metrics, cell.arm)
            if message and cell.arm in (claim_arm(scenario, estimand), estimand.compare_to):
                report("unknown_name", message, *path, "metric")
    for i, claim in enumerate(scenario.claims):
        if scenario.stage(claim.stage).name != built_stage.stage.name:
            continue
        if cell.arm not in (claim_arm(scenario, claim), claim.compare_to, claim.ablation):
            continue
        message = _metric_index_error(claim.metric, metrics, cell.arm)
        if message:
            report("unknown_name", message, "claims", i, "metric")
        resamples = built.population is not None and built.population.resamples_people
        if claim.interval == "people" and not resamples:
            message = f"people: needs population.resample: true in the arm {cell.arm}"
            report("conflict", message, "claims", i, "interval")
        if claim.analytic is not None:
            environment = built_stage.environment
            known = environment.analytic_values(built_stage.policies, built_stage.rounds)
            if claim.analytic not in known:
                near = suggestion(claim.analytic, known) or "; it has none"
                message = f"{kind} has no analytic value {claim.analytic!r} in {cell.arm}{near}"
                report("unknown_name", message, "claims", i, "analytic")
            elif claim.kind == "reward_implied" and claim.analytic not in environment.solver_values:
                message = f"reward_implied: {claim.analytic!r} is not the value of an exact solver"
                report("unsupported", message, "claims", i, "kind")
    return problems


def _metric_index_error(metric: str, metrics: Mapping[str, Any], arm: str) -> str | None:
    """Message for an invalid index of a metric in an arm. None if it is valid."""
    name, index = _split_metric(metric_compared_with_control(metric) or metric)
    if name not in metrics or index < 0:
        return None
    size = metrics[name].shape[1] if metrics[name].dim() > 1 else 0
    if index < size:
        return None
    vector = f"has {size} component{'s' if size > 1 else ''} in {arm}, counted from 0"
    return f"{name} {vector if size else 'is a single number without index'}"


def _checked_metrics(
    scenario: Scenario,
    source_map: SourceMap,
    stage_index: int,
    built: BuiltCell,
    first_round_check: FirstRoundCheck,
    problems: list[Problem],
) -> Mapping[str, Any] | None:
    """Metrics that a stage has, from its first rounds. `None` if the environment has none."""
    metrics = first_round_check.check(built, stage_index, problems)
    if problems or metrics is None:
        return metrics
    stage = built.stages[stage_index]
    return checked_registered_metrics(scenario, source_map, stage, built, metrics, problems)


def _split_metric(metric: str) -> tuple[str, int]:
    """Name and component: (`mean_value`, 1) of `mean_value[1]`; -1 without index: all."""
    match = _INDEX_PATTERN.search(metric)
    return (metric[: match.start()], int(match[1])) if match else (metric, -1)

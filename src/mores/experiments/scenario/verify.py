"""Checks of metrics and claims: their arms, metrics, rounds and analytic values exist."""

from __future__ import annotations

from collections.abc import Iterator

from mores.core.component_names import component_index, split_component
from mores.core.errors import did_you_mean, printable
from mores.experiments.scenario.cell import BuiltCell, BuiltStage
from mores.experiments.scenario.claim_inputs import (
    EFFECT_VS_CONTROL,
    Estimand,
    arms_of,
    claim_arm,
    estimands,
    metric_compared_with_control,
    required_arms,
)
from mores.experiments.scenario.conditions import MAX_CELLS
from mores.experiments.scenario.figure_check import FigureCheck
from mores.experiments.scenario.first_round_check import FirstRoundCheck
from mores.experiments.scenario.metric_check import StageMetrics, checked_metrics
from mores.experiments.scenario.source_locations import KeyPath, Problem, SourceMap
from mores.experiments.scenario.specification import Claim, Scenario
from mores.experiments.scenario.stages import Sensitivity, Stage
from mores.experiments.scenario.verify_training import no_update_problems, offline_dataset_problems

MAX_RECORDED_VALUES = 2**29  # of each metric in a cell: 2 GiB
MAX_TRAJECTORY_VALUES = 2**31  # of people over rounds in a cell: 8 GiB


def claim_problems(scenario: Scenario, source_map: SourceMap) -> list[Problem]:
    """Problems of metrics and claims that the file alone reveals."""
    problems: list[Problem] = []

    def report(message: str, *path: str | int, code: str) -> None:
        problems.append(source_map.problem(message, *path, code=code))

    replicates, uncertainty = scenario.replicates, scenario.uncertainty
    if uncertainty is not None:
        replicates = max(replicates, uncertainty.replicates)
    records = [
        s.episodes * (scenario.rounds_per_episode(s) // scenario.record_every + 1)
        for s in scenario.stages_or_default
    ]
    size = replicates * scenario.worlds * sum(records)
    if size > MAX_RECORDED_VALUES:
        message = f"{size:.1e} values of each metric are too many: raise record_every, or lower it"
        report(message, "replicates", code="too_large")
    for i, name in enumerate(scenario.metric_names):
        compared = metric_compared_with_control(name)
        if compared is not None:
            message = f"{name} is computed for claims only, from {compared}: list that here"
            report(message, "metrics", i, code="invalid_value")
    if all(stage.loop == "fit_offline" for stage in scenario.stages_or_default):
        message = "at least one stage must simulate episodes (loop rollout, train or search)"
        report(message, "stages", code="missing")
    for path, estimand, stage in estimands(scenario):
        if stage.loop == "fit_offline" and isinstance(estimand, Claim):
            message = f"{stage.name} simulates no episodes: name another stage"
            report(message, *path, code="invalid_value")
        for key, code, message in _estimand_errors(scenario, estimand, stage):
            report(message, *path, *key, code=code)
    for path, cells in _cell_counts(scenario).items():
        if cells > MAX_CELLS:
            message = f"gives {cells:,} cells; at most {MAX_CELLS:,} are allowed"
            report(message, *path, code="too_large")
    return problems


def _estimand_errors(
    scenario: Scenario, estimand: Estimand, stage: Stage
) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    """Key, code and message of what is wrong with an estimand's arms, metric and round."""
    arms, arm = scenario.arm_names, claim_arm(scenario, estimand)
    metric, compared = estimand.metric, metric_compared_with_control(estimand.metric)
    if isinstance(estimand, Sensitivity) and estimand.arm is None and len(arms) > 1:
        yield (), "missing", "name an arm"  # the control is a poor default
    elif arm is None:
        yield (), "missing", "name an arm, or a control of the scenario"
    elif arm not in arms:
        near = did_you_mean(arm, scenario.arms)
        yield ("arm",), "unknown_name", f"there is no arm {arm!r}{near}"
    for index, other in enumerate(getattr(estimand, "references", None) or ()):
        if other not in arms:
            near = did_you_mean(other, scenario.arms) or "; the scenario has no arms"
            yield ("references", index), "unknown_name", f"there is no arm {other!r}{near}"
        elif other == (arm, estimand.compare_to)[index]:
            message = "must differ from the arm that it is subtracted from"
            yield ("references", index), "conflict", message
    beliefs = getattr(estimand, "stated_belief", None)
    controls = [] if beliefs is None else list(beliefs)
    for key, other in controls:
        if other not in arms:
            near = did_you_mean(other, scenario.arms) or "; the scenario has no arms"
            yield ("stated_belief", key), "unknown_name", f"there is no arm {other!r}{near}"
        elif len({arm, *(name for _, name in controls)}) < 3:
            message = "must differ from arm, and from each other"
            yield ("stated_belief", key), "conflict", message
    for key in ("compare_to", "ablation"):
        other = getattr(estimand, key, None)
        if other is None:
            continue
        if other not in arms:
            near = did_you_mean(other, scenario.arms) or "; the scenario has no arms"
            yield (key,), "unknown_name", f"there is no arm {other!r}{near}"
        elif other == arm:
            yield (key,), "conflict", "must differ from arm"
        elif key == "ablation" and compared is not None and other == scenario.control:
            message = f"must not be the control, where {metric} is 0: name another arm"
            yield (key,), "conflict", message
    recorded, _ = split_component(compared or metric)
    if recorded not in scenario.metric_names and metric != EFFECT_VS_CONTROL:
        near = did_you_mean(compared or metric, {*scenario.metric_names, EFFECT_VS_CONTROL})
        message = f"{compared or metric!r} is not among the metrics of the scenario{near}"
        yield ("metric",), "unknown_name", message
    elif recorded not in scenario.metric_names:
        yield ("metric",), "missing", f"{metric} needs {recorded}: list it among the metrics"
    if compared is not None and scenario.control is None:
        yield ("metric",), "missing", f"{metric} needs a control: name one"
    elif compared is not None and arm == scenario.control:
        yield ("metric",), "conflict", "compares the control with itself: name another arm"
    rounds, at_round = scenario.rounds_per_episode(stage), estimand.at_round
    if at_round is not None and at_round > rounds:
        message = f"must be at most {rounds}, the number of rounds, not {at_round}"
        yield ("at_round",), "out_of_range", message


def _cell_counts(scenario: Scenario) -> dict[KeyPath, int]:
    """Numbers of cells at uncertain parameters, by the path of the key that sets them."""
    uncertainty = scenario.uncertainty
    if uncertainty is None:
        return {}
    claims = [claim for claim in scenario.claims if claim.interval == "parameters"]
    draws = uncertainty.draws * len(required_arms(scenario, claims))
    counts: dict[KeyPath, int] = {("uncertainty", "draws"): draws}
    sensitivity = uncertainty.sensitivity
    if sensitivity is not None:
        extra = 2 if sensitivity.method == "sobol" else 1
        points = sensitivity.num_samples_or_default * (len(uncertainty.parameters) + extra)
        cells = points * len(required_arms(scenario, [sensitivity]))
        counts["uncertainty", "sensitivity", "num_samples"] = cells
    return counts


def cell_problems(
    scenario: Scenario, built: BuiltCell, first_round_check: FirstRoundCheck, figures: FigureCheck
) -> list[Problem]:
    """Problems of a cell that its first rounds reveal: classes, metrics, analytic values."""
    problems: list[Problem] = []
    # Stages often share their objects: these are checked once.
    checked: dict[tuple[int, ...], StageMetrics | None] = {}
    for index, built_stage in enumerate(built.stages):
        environment, policies = built_stage.environment, built_stage.policies
        for role in environment.roles:
            if role.name not in policies:
                message = f"the role {role.name!r} has no policy: name one"
                source_map = built.cell.source_map
                problems.append(
                    source_map.problem(message, "policies", code="missing", at_key=True)
                )
        problems += offline_dataset_problems(built, index)
        problems += no_update_problems(scenario, built, index)
        key = (id(environment), *map(id, policies.values()))
        if key not in checked:
            own = first_round_check.check(built, index, problems)
            checked[key] = None
            if own is not None:
                checked[key] = checked_metrics(scenario, built, index, own, problems)
        metrics = checked[key]
        if metrics is not None and built_stage.stage.loop != "fit_offline":
            problems += _metric_problems(scenario, built, built_stage, metrics)
            problems += _figure_problems(built, built_stage, metrics, figures)
    if not problems:
        problems += _trajectory_problems(scenario, built)
    return problems


def _trajectory_problems(scenario: Scenario, built: BuiltCell) -> Iterator[Problem]:
    """The problem that the last stage's people over rounds are too many numbers."""
    if built.cell.purpose != "arm":
        return
    stage, options = built.stages[-1], scenario.trajectory
    num_worlds = min(options.worlds, scenario.replicates * scenario.worlds)
    rounds = len(options.recorded_rounds(stage.rounds))
    size = num_worlds * rounds * stage.environment.elements_per_world
    if size > MAX_TRAJECTORY_VALUES:
        message = f"{size:.1e} numbers are too many: store fewer worlds or rounds"
        yield built.cell.source_map.problem(message, "trajectory", code="too_large")


def _metric_problems(
    scenario: Scenario, built: BuiltCell, built_stage: BuiltStage, metrics: StageMetrics
) -> Iterator[Problem]:
    """Problems of metrics and analytic values that a stage of a cell lacks."""
    arm, source_map = built.cell.arm, built.cell.source_map
    for path, estimand, stage in estimands(scenario):
        used = arms_of(scenario, estimand)
        if stage.name != built_stage.stage.name or arm not in used:
            continue
        message = _component_error(estimand.metric, metrics, arm)
        if message:
            yield source_map.problem(message, *path, "metric", code="unknown_name")
        if not isinstance(estimand, Claim):
            continue
        resamples = built.population is not None and built.population.resamples_people
        if estimand.interval == "people" and not resamples:
            message = f"people: needs population.resample: true in the arm {arm}"
            yield source_map.problem(message, *path, "interval", code="conflict")
        if estimand.interval == "components" and not _is_vector(estimand.metric, metrics):
            message = f"components: {estimand.metric} is a single number in {arm}"
            yield source_map.problem(message, *path, "interval", code="conflict")
        if (name := estimand.analytic) is None:
            continue
        environment = built_stage.environment
        known = environment.analytic_values(built_stage.policies, built_stage.rounds)
        if name not in known:
            near = did_you_mean(name, known) or "; it has none"
            message = f"{built.cell.env['kind']} has no analytic value {name!r} in {arm}{near}"
            yield source_map.problem(message, *path, "analytic", code="unknown_name")
        elif estimand.kind == "reward_implied" and name not in environment.solver_values:
            message = f"reward_implied: {name!r} is not the value of an exact solver"
            yield source_map.problem(message, *path, "kind", code="unsupported")


def _figure_problems(
    built: BuiltCell, built_stage: BuiltStage, metrics: StageMetrics, figures: FigureCheck
) -> Iterator[Problem]:
    """Problems of components and analytic values that figures read and a stage of a cell lacks."""
    arm, source_map = built.cell.arm, built.cell.source_map
    for path, requirement in figures.of_stage(arm, built_stage.stage.name):
        found = {
            (*path, *requirement.metric_path): _component_error(requirement.metric, metrics, arm)
        }
        if (name := requirement.analytic) is not None:
            known = built_stage.environment.analytic_values(
                built_stage.policies, built_stage.rounds
            )
            near = did_you_mean(name, known) or "; it has none"
            message = f"{built.cell.env['kind']} has no analytic value {name!r} in {arm}{near}"
            found[(*path, "analytic")] = None if name in known else message
        for place, message in found.items():
            if message and place not in figures.refused:  # once, not in every arm
                figures.refused.add(place)
                yield source_map.problem(message, *place, code="unknown_name")


def _is_vector(metric: str, metrics: StageMetrics) -> bool:
    """Whether a metric is recorded and has several components."""
    if metric_compared_with_control(metric) is not None:
        return False
    name, component = split_component(metric)
    value = metrics.values.get(name)
    return component is None and (value is None or (value.dim() > 1 and value.shape[1] > 1))


def _component_error(metric: str, metrics: StageMetrics, arm: str) -> str | None:
    """Message for an unknown component of a metric in an arm. None if it is known."""
    name, component = split_component(metric_compared_with_control(metric) or metric)
    if name not in metrics.values or component is None:
        return None
    value, names = metrics.values[name], metrics.component_names.get(name, ())
    size = value.shape[1] if value.dim() > 1 else 0
    if not size:
        return f"{name} is a single number without index"
    if component_index(component, names, size) is not None:
        return None
    if len(names) == size:
        near = did_you_mean(component, names)
        return f"{name} has no component {printable(component, 40)!r} in {arm}{near}"
    return f"{name} has {size} component{'s' if size > 1 else ''} in {arm}, counted from 0"

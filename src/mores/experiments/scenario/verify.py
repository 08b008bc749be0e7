"""Whether measures and claims speak of what there is: arms, measures, rounds, predictions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mores.core.check_metrics import checked_metrics
from mores.core.errors import UserError
from mores.core.random_streams import RandomStreams
from mores.experiments.scenario.cell import BuiltCell, BuiltStage, Cell
from mores.experiments.scenario.claim_inputs import DERIVED_METRICS, claim_arm, required_arms
from mores.experiments.scenario.conditions import DEFAULT_ARM, MAX_CELLS
from mores.experiments.scenario.first_round_check import check_first_round, describe_exception
from mores.experiments.scenario.source_locations import (
    Problem,
    SourceMap,
    printable,
    problem_at_path,
    suggestion,
)
from mores.experiments.scenario.specification import Claim, Scenario
from mores.experiments.scenario.stages import Sensitivity, Stage, Target
from mores.experiments.scenario.verify_training import no_update_problems, offline_dataset_problems

_INDEX_PATTERN = re.compile(r"\[(0|[1-9][0-9]{0,8})\]$")
MAX_RECORDED_VALUES = 2**29  # of each measure in a cell: 2 GiB
MAX_OBSERVATION_VALUES = 2**31  # that the seats of one world may see: 8 GiB


def claim_problems(scenario: Scenario, source_map: SourceMap) -> list[Problem]:
    """What is wrong with measures and claims as the file alone tells."""
    problems: list[Problem] = []

    def wrong(code: str, message: str, *path: str | int) -> None:
        problems.append(problem_at_path(source_map, message, *path, code=code))

    replicates = scenario.replicates
    if scenario.uncertainty is not None:
        replicates = max(replicates, scenario.uncertainty.replicates)
    each = [
        s.episodes * (scenario.rounds_per_episode(s) // scenario.record_every + 1)
        for s in scenario.stages_or_default
    ]
    kept = replicates * scenario.worlds * sum(each)
    if kept > MAX_RECORDED_VALUES:
        message = f"{kept:.1e} numbers of each measure are too many: raise every, or lower it"
        wrong("too_large", message, "replicates")

    for i, name in enumerate(scenario.metrics):
        if name in DERIVED_METRICS:
            message = (
                f"{name} is for claims, and computed from {DERIVED_METRICS[name]}: list that here"
            )
            wrong("invalid_value", message, "metrics", i)
    for i, claim in enumerate(scenario.claims):
        stage = scenario.stage(claim.stage)
        problems += _estimand_problems(scenario, source_map, claim, stage, "claims", i)
        if stage.loop == "fit_offline":
            message = f"nobody plays in {stage.name}: name another stage"
            wrong("invalid_value", message, "claims", i)
    if all(stage.loop == "fit_offline" for stage in scenario.stages_or_default):
        wrong("missing", "somebody must play in some stage", "stages")
    problems += _cell_count_problems(scenario, source_map)
    for path, look in _targets_and_sensitivity(scenario):
        problems += _estimand_problems(scenario, source_map, look, scenario.stage(None), *path)
    return problems


def _estimand_problems(
    scenario: Scenario,
    source_map: SourceMap,
    estimand: Claim | Target | Sensitivity,
    stage: Stage,
    *path: str | int,
) -> list[Problem]:
    """What is wrong with the arms, the measure and the round of what stands at a path."""
    problems: list[Problem] = []

    def wrong(code: str, message: str, *key: str) -> None:
        problems.append(problem_at_path(source_map, message, *path, *key, code=code))

    arms, arm = list(scenario.arms) or [DEFAULT_ARM], claim_arm(scenario, estimand)
    if isinstance(estimand, Sensitivity) and estimand.arm is None and len(arms) > 1:
        wrong("missing", "does not say which arm: name one")  # of the control: says nothing
    elif arm is None:
        wrong("missing", "does not say which arm; name one, or a control")
    elif arm not in arms:
        wrong("unknown_name", f"there is no arm {arm!r}{suggestion(arm, scenario.arms)}", "arm")
    if estimand.compare_to is not None and estimand.compare_to not in arms:
        near = suggestion(estimand.compare_to, scenario.arms) or "; the scenario has no arms"
        wrong("unknown_name", f"there is no arm {estimand.compare_to!r}{near}", "compare_to")
    elif estimand.compare_to is not None and estimand.compare_to == arm:
        wrong("conflict", "is the arm itself; compare with another", "compare_to")
    ablation = estimand.ablation if isinstance(estimand, Claim) else None
    if ablation is not None and ablation not in arms:
        near = suggestion(ablation, scenario.arms) or "; the scenario has no arms"
        wrong("unknown_name", f"there is no arm {ablation!r}{near}", "ablation")
    elif ablation is not None and ablation == arm:
        wrong("conflict", "is the arm itself: what is left there says nothing", "ablation")
    elif (
        ablation is not None and estimand.metric in DERIVED_METRICS and ablation == scenario.control
    ):
        message = f"is the control, and {estimand.metric} is nothing there: name another arm"
        wrong("conflict", message, "ablation")
    if _metric_name(estimand.metric) not in [*scenario.metrics, *DERIVED_METRICS]:
        near = suggestion(estimand.metric, dict.fromkeys([*scenario.metrics, *DERIVED_METRICS]))
        message = f"{estimand.metric!r} is not among the scenario's measures{near}"
        wrong("unknown_name", message, "metric")
    for message in _derived_metric_errors(scenario, estimand.metric):
        wrong("missing", message, "metric")
    if estimand.metric in DERIVED_METRICS and arm is not None and arm == scenario.control:
        wrong("conflict", "is about the control itself: name another arm", "metric")
    rounds = scenario.rounds_per_episode(stage)
    if estimand.at_round is not None and estimand.at_round > rounds:
        message = f"must be at most {rounds}, the number of rounds, not {estimand.at_round}"
        wrong("out_of_range", message, "at")
    return problems


def cell_problems(
    scenario: Scenario, source_map: SourceMap, cell: Cell, built: BuiltCell
) -> list[Problem]:
    """What is wrong with a cell once its first world begins: seats, measures, predictions."""
    problems: list[Problem] = []
    begun: dict[tuple[int, ...], Mapping[str, Any] | None] = {}  # one often serves several stages
    for number, staged in enumerate(built.stages):
        for role in staged.environment.roles:
            if role.name not in staged.policies:
                message = f"nobody plays {role.name!r}: name a player for it"
                found = cell.origin.problem(("policies",), message, at_key=True, code="missing")
                problems.append(found)
        problems += offline_dataset_problems(source_map, built, number)
        problems += no_update_problems(scenario, source_map, cell, built, number)
        who = (id(staged.environment), *map(id, staged.policies.values()))
        if who not in begun:
            begun[who] = _checked_initial_metrics(cell, staged, built, scenario.seed, problems)
        measures = begun[who]
        if measures is not None and staged.stage.loop != "fit_offline":
            problems += _metric_problems(scenario, source_map, cell, staged, built, measures)
    return list(dict.fromkeys(problems))


def _targets_and_sensitivity(
    scenario: Scenario,
) -> list[tuple[tuple[str | int, ...], Target | Sensitivity]]:
    """Targets and the sensitivity analysis, with where they stand."""
    looks: list[tuple[tuple[str | int, ...], Target | Sensitivity]] = []
    if scenario.calibration is not None:
        targets = enumerate(scenario.calibration.targets)
        looks += [(("calibration", "targets", i), target) for i, target in targets]
    if scenario.uncertainty is not None and scenario.uncertainty.sensitivity is not None:
        looks.append((("uncertainty", "sensitivity"), scenario.uncertainty.sensitivity))
    return looks


def _cell_count_problems(scenario: Scenario, source_map: SourceMap) -> Iterator[Problem]:
    """More cells at uncertain parameters than can be run."""
    uncertain = scenario.uncertainty
    if uncertain is None:
        return
    claims = [claim for claim in scenario.claims if claim.interval == "parameters"]
    draws = uncertain.draws * len(required_arms(scenario, claims))
    counts: dict[tuple[str, ...], int] = {("uncertainty", "draws"): draws}
    asked = uncertain.sensitivity
    if asked is not None:
        more = 2 if asked.method == "sobol" else 1
        points = asked.num_samples_or_default * (len(uncertain.parameters) + more)
        cells = points * len(required_arms(scenario, [asked]))
        counts["uncertainty", "sensitivity", "size"] = cells
    for path, cells in counts.items():
        if cells > MAX_CELLS:
            message = f"makes {cells:,} cells; at most {MAX_CELLS:,} are run"
            yield problem_at_path(source_map, message, *path, code="too_large")


def _metric_problems(
    scenario: Scenario,
    source_map: SourceMap,
    cell: Cell,
    built_stage: BuiltStage,
    built: BuiltCell,
    metrics: Mapping[str, Any],
) -> list[Problem]:
    """Measures and predictions that are asked for and are not there."""
    problems: list[Problem] = []

    def wrong(code: str, message: str, *path: str | int) -> None:
        problems.append(problem_at_path(source_map, message, *path, code=code))

    for i, name in enumerate(scenario.metrics):
        if name not in metrics and name not in DERIVED_METRICS:
            near = suggestion(name, metrics)
            message = f"{cell.env['kind']} has no measure {name!r}{near}"
            wrong("unknown_name", message, "metrics", i)
    if built_stage.stage.name == scenario.stages_or_default[-1].name:
        problems += _metric_index_problems(scenario, source_map, cell.arm, metrics)
    for i, claim in enumerate(scenario.claims):
        if scenario.stage(claim.stage).name != built_stage.stage.name:
            continue
        if cell.arm not in (claim_arm(scenario, claim), claim.compare_to, claim.ablation):
            continue
        message = _metric_index_error(claim.metric, metrics, cell.arm)
        if message:
            wrong("unknown_name", message, "claims", i, "metric")
        resample = getattr(built.population, "resample", False)
        if claim.interval == "people" and resample is not True:
            message = f"people needs people.resample to be true, and in {cell.arm} it is not"
            wrong("conflict", message, "claims", i, "interval")
        if claim.analytic is not None:
            known = built_stage.environment.analytic_values(
                built_stage.policies, built_stage.rounds
            )
            if claim.analytic not in known:
                near = suggestion(claim.analytic, known) or "; it makes none"
                message = f"{cell.env['kind']} predicts no {claim.analytic!r} in {cell.arm}{near}"
                wrong("unknown_name", message, "claims", i, "analytic")
            elif (
                claim.kind == "reward_implied"
                and claim.analytic not in built_stage.environment.solver_values
            ):
                message = f"reward_implied: no exact solver computes {claim.analytic!r}"
                wrong("unsupported", message, "claims", i, "kind")
    return problems


def _metric_index_problems(
    scenario: Scenario, source_map: SourceMap, arm: str, metrics: Mapping[str, Any]
) -> list[Problem]:
    """Targets and results of a sensitivity analysis that ask for a number that is not there."""
    problems = []
    for path, look in _targets_and_sensitivity(scenario):
        message = _metric_index_error(look.metric, metrics, arm)
        if arm in (claim_arm(scenario, look), look.compare_to) and message:
            problems.append(
                problem_at_path(source_map, message, *path, "metric", code="unknown_name")
            )
    return problems


def _metric_index_error(metric: str, metrics: Mapping[str, Any], arm: str) -> str | None:
    """What is wrong with the index of a measure in an arm."""
    size = _metric_size(metrics.get(_metric_name(metric)))
    if size is None or _metric_index(metric) < size:
        return None
    many = f"{size} number{'s' if size > 1 else ''} in {arm}, counted from 0"
    numbers = many if size else "one number"
    return f"{_metric_name(metric)} is {numbers}"


def _checked_initial_metrics(
    cell: Cell, built_stage: BuiltStage, built: BuiltCell, seed: int, problems: list[Problem]
) -> Mapping[str, Any] | None:
    """Begin one world as the table does, and look at its measures."""
    numbers = sum(
        role.num_agents * role.observation_space.size for role in built_stage.environment.roles
    )
    if numbers > MAX_OBSERVATION_VALUES:
        message = f"is too large: in one world {numbers:,} numbers are seen"
        problems.append(cell.origin.problem(("env",), message, code="too_large"))
        return None
    draws = RandomStreams.of(seed, [0]).child("start")
    try:
        found = _initial_metrics(cell, built_stage, built, draws, problems)
        if not problems:
            wrong = check_first_round(
                built_stage.environment, built_stage.policies, built.population, seed
            )
            kind = cell.env["kind"]
            problems.extend(
                cell.origin.problem(("env",), f"{kind}: {printable(one, 300)}", code=one.code)
                for one in wrong
            )
        return found
    except Exception as error:
        message, code = (
            f"{cell.env['kind']}: breaks at its start: {describe_exception(error)}",
            "failed",
        )
        if isinstance(error, MemoryError) or "allocate" in str(error):  # PyTorch has no class
            message, code = "is too large: not one world fits into memory", "too_large"
        problems.append(cell.origin.problem(("env",), message, code=code))
        return None


def _initial_metrics(
    cell: Cell,
    built_stage: BuiltStage,
    built: BuiltCell,
    streams: RandomStreams,
    problems: list[Problem],
) -> Mapping[str, Any] | None:
    game, players, population = built_stage.environment, built_stage.policies, built.population
    try:
        start = None if population is None else population.sample_people(streams.child("people"))
    except UserError as error:
        problems.append(cell.origin.problem(("population",), printable(error, 300), code=error.code))
        return None
    for role in game.roles:
        if role.name in players:
            try:
                players[role.name].initial_state(role, game.phases, streams.child(role.name))
            except UserError as error:
                origin = cell.stage_spec(built.stages.index(built_stage)).origin
                path = ("policies", role.name)
                problems.append(
                    origin.component_problem(path, printable(error, 300), code=error.code)
                )
    try:
        return checked_metrics(game, game.reset(streams.child("game"), start), streams.num_worlds)
    except UserError as error:
        problems.append(cell.origin.problem(("env",), printable(error, 300), code=error.code))
    return None


def _metric_name(metric: str) -> str:
    """`centre` of `centre[1]`, which is the second number of it."""
    return _INDEX_PATTERN.sub("", metric)


def _metric_index(metric: str) -> int:
    """1 of `centre[1]`; -1 where all numbers are meant."""
    found = _INDEX_PATTERN.search(metric)
    return int(found[1]) if found else -1


def _metric_size(values: Any) -> int | None:
    """Of how many numbers a measure of a world is; 0: it is one number, without index."""
    return None if values is None else (values.shape[1] if values.dim() > 1 else 0)


def _derived_metric_errors(scenario: Scenario, name: str) -> list[str]:
    """What a derived measure lacks."""
    if name not in DERIVED_METRICS:
        return []
    lacks = []
    if scenario.control is None:
        lacks.append(f"{name} is measured against a control: name one")
    if DERIVED_METRICS[name] not in scenario.metrics:
        lacks.append(f"{name} is computed from {DERIVED_METRICS[name]}: list it among the measures")
    return lacks

"""Dry run: train a scenario's learners for a few rounds in two worlds, before the run starts.

Some errors appear only when stages follow each other: a recipe lacks the feedback that it needs, it
cannot continue from parameters that another recipe trained, a search or a network does not fit the
role. The dry run uses the run's own loops, with at most two episodes of every stage and one epoch
per update (`Learner.dry_run_version`), so it needs no knowledge of any recipe. It has a time limit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import Any

from mores.core.errors import UserError, describe_exception, is_out_of_memory
from mores.core.learner import Learner, parameter_keys
from mores.core.policy import Policy
from mores.core.random_streams import Worlds
from mores.core.threads import single_threaded
from mores.experiments.progress import activity
from mores.experiments.run.cell_runner import CellRunner, Cursor
from mores.experiments.scenario import expansion
from mores.experiments.scenario.cell import BuiltCell, BuiltStage
from mores.experiments.scenario.first_round_check import structure_key
from mores.experiments.scenario.loading import LoadedScenario
from mores.experiments.scenario.source_locations import Problem, ScenarioError, printable
from mores.sim.global_generators import GlobalGenerators, find_draw
from mores.sim.policy_states import is_untrained

MAX_ROUNDS = 256  # of an episode: a longer one is cut, perhaps before any feedback
MAX_SECONDS = 10.0  # time limit; the run itself checks the rest


def check_scenario(loaded: LoadedScenario) -> tuple[BuiltCell, ...]:
    """The cells of a scenario, checked; its learners are trained in a dry run.

    Raises:
        ScenarioError: all problems found.
    """
    generators = GlobalGenerators()
    cells = expansion.build_and_verify(loaded)
    if generators.changed():
        _check_draws(loaded)
    distinct = {
        structure_key(built.cell): built
        for built in reversed(cells)  # the first of those that are equivalent
        if any(stage.roles_to_train or stage.loop == "search" for stage in built.cell.stages)
    }
    if not distinct:
        return cells
    problems: list[Problem] = []
    deadline = time.monotonic() + MAX_SECONDS
    with single_threaded(), activity("dry run of the learners"):
        for built in reversed(distinct.values()):
            problems += _untrained_learners(built) or dry_run_cell(built, loaded, deadline)
    if problems:
        by_message = {problem.message: problem for problem in reversed(problems)}  # first of each
        raise ScenarioError(by_message.values())
    return cells


def _check_draws(loaded: LoadedScenario) -> None:
    """Refuse draws from the generators of the process in constructors and registered metrics."""
    draw = find_draw(lambda: expansion.build_and_verify(loaded), {})
    if draw is not None and not draw.allowed:
        path = {"environment": "env", "": "metrics"}.get(draw.path, draw.path)
        problem = loaded.source_map.problem(str(draw.error), path, code=draw.error.code)
        raise ScenarioError([problem])


class _TimeLimitReached(Exception):
    """The time limit of the dry run has passed."""


def dry_run_cell(built: BuiltCell, loaded: LoadedScenario, deadline: float) -> list[Problem]:
    """Problems that appear when the stages of a cell follow each other, found before a deadline."""
    stages = _short_stages(built)
    if time.monotonic() > deadline or all(s.stage.loop == "fit_offline" for s in stages):
        return []
    short = dataclasses.replace(built, stages=stages)
    changes = {"claims": [], "calibration": None, "uncertainty": None}
    changes["stages"] = [staged.stage for staged in stages]
    scenario = loaded.scenario.model_copy(update=changes)
    worlds = Worlds.grid(1, min(2, scenario.worlds))
    reached = Cursor()

    def check_deadline(cursor: Cursor, stage_ended: bool) -> None:
        nonlocal reached
        reached = cursor
        if time.monotonic() > deadline:
            raise _TimeLimitReached

    def simulate() -> None:
        cell_runner = CellRunner(short, scenario, worlds, len(worlds), lambda _: None)
        cell_runner.on_episode_end = check_deadline
        cell_runner.run(Cursor())

    generators = GlobalGenerators()
    try:
        with contextlib.suppress(_TimeLimitReached):
            simulate()
        if generators.changed():
            deadline, reached = max(deadline, time.monotonic() + MAX_SECONDS), Cursor()
            draw = find_draw(simulate, short.stages[-1].policies)
            if draw is not None and not draw.allowed:
                raise draw.error
    except UserError as error:
        text, code = str(error), error.code
    except Exception as error:
        if is_out_of_memory(error):
            raise
        text, code = f"raises an exception: {describe_exception(error)}", "failed"
    else:
        return []
    stage, _, _, policies, spec = short.stages[reached.stage_index]
    message = f"in stage {stage.name}: {printable(text, 400)}"
    learners = [role for role, policy in policies.items() if isinstance(policy, Learner)]
    for role in stage.roles_to_train or learners:
        if role in policies and role in spec.policies:
            path = ("policies", role)
            return [spec.source_map.component_problem(message, *path, code=code)]
    return [loaded.source_map.problem(message, "stages", reached.stage_index, code=code)]


def _untrained_learners(built: BuiltCell) -> list[Problem]:
    """Learners that act with initial parameters after another policy was trained in their role.

    Trained parameters are shared by policies with the same keys. A learner in a `per_agent` policy
    and the same learner alone have different keys.
    """
    problems = []
    trained: dict[str, list[Policy]] = {}
    for staged in built.stages:
        for role in staged.policies.keys() & set(staged.stage.roles_to_train):
            trained.setdefault(role, []).append(staged.policies[role])
    started: set[str] = set()
    for stage, _, _, policies, spec in built.stages:
        for role in started & policies.keys():
            any_learner = any(parameter_keys(policy) for policy in trained[role])
            if any_learner and is_untrained(role, policies[role], trained[role]):
                message = (
                    f"acts untrained in stage {stage.name}: it never trains, and does not "
                    "continue from parameters of another kind of policy or of other agents (nor a "
                    "learner in per_agent from one alone, or the reverse); if that is intended, "
                    "set learning_rate: 0"
                )
                path = ("policies", role)
                problems.append(
                    spec.source_map.component_problem(message, *path, code="not_trained")
                )
        started |= trained.keys() & set(stage.roles_to_train)
    return problems


def _short_stages(built: BuiltCell) -> tuple[BuiltStage, ...]:
    """At most two episodes of each stage, with cheaper policies.

    An episode that is cut may lack feedback. Policies do not train in it, and a stage that is
    fitted to it is left out with all later stages. One policy in several stages stays one object.
    """
    stages: list[BuiltStage] = []
    cut: set[str] = set()
    replaced: dict[int, Policy] = {}
    for stage, rounds, environment, policies, spec in built.stages:
        offline = stage.loop == "fit_offline"
        if offline and cut & set(stage.dataset_stages or cut):
            break
        changes: dict[str, Any] = {"episodes": min(stage.episodes, 2)}
        changes["rounds"] = min(rounds, MAX_ROUNDS)
        if not offline and rounds > MAX_ROUNDS:
            cut.add(stage.name)
            if stage.loop == "train":
                changes |= {"loop": "rollout", "roles_to_train": []}
        for policy in policies.values():
            short = policy.dry_run_version() if isinstance(policy, Learner) else policy
            replaced.setdefault(id(policy), short)
        policies = {role: replaced[id(policy)] for role, policy in policies.items()}
        stage = stage.model_copy(update=changes)
        stages.append(BuiltStage(stage, changes["rounds"], environment, policies, spec))
    return tuple(stages)

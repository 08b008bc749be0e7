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
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from mores.core.errors import UserError, describe_exception, is_out_of_memory
from mores.core.learner import Learner, parameter_keys
from mores.core.policy import Policy
from mores.core.random_streams import Worlds
from mores.experiments.run.cell_runner import CellRunner, Cursor
from mores.experiments.run.scheduling import single_threaded
from mores.experiments.scenario import expansion
from mores.experiments.scenario.cell import BuiltCell, BuiltStage
from mores.experiments.scenario.first_round_check import structure_key
from mores.experiments.scenario.loading import LoadedScenario
from mores.experiments.scenario.source_locations import (
    Problem,
    ScenarioError,
    SourceMap,
    printable,
    problem_at_path,
)
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
    with single_threaded(), Console(stderr=True).status("dry run of the learners"):
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
        text, code = str(draw.error), draw.error.code
        raise ScenarioError([problem_at_path(loaded.source_map, text, path, code=code)])


class _TimeLimitReached(Exception):
    """The time limit of the dry run has passed."""


def dry_run_cell(built: BuiltCell, loaded: LoadedScenario, deadline: float) -> list[Problem]:
    """Problems that appear when the stages of a cell follow each other, found before a deadline."""
    short = _shortened_cell(built)
    if short is None or time.monotonic() > deadline:
        return []
    stages = [staged.stage for staged in short.stages]
    changes = {"stages": stages, "claims": [], "calibration": None, "uncertainty": None}
    scenario = loaded.scenario.model_copy(update=changes)
    reached = Cursor()

    def check_deadline(cursor: Cursor, stage_ended: bool) -> None:
        nonlocal reached
        reached = cursor
        if time.monotonic() > deadline:
            raise _TimeLimitReached

    def simulate() -> None:
        worlds = Worlds.grid(1, min(2, scenario.worlds))
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
    return [_problem(short, reached.stage_index, text, code, loaded.source_map)]


def _untrained_learners(built: BuiltCell) -> list[Problem]:
    """Learners that act with initial parameters after another policy was trained in their role.

    Trained parameters are shared by policies with the same keys. A learner in a `per_agent` policy
    and the same learner alone have different keys.
    """
    problems: list[Problem] = []
    trained: dict[str, list[Policy]] = {}
    for staged in built.stages:
        for role in staged.stage.roles_to_train:
            if role in staged.policies:
                trained.setdefault(role, []).append(staged.policies[role])
    started: set[str] = set()
    for staged in built.stages:
        for role in started & staged.policies.keys():
            any_learner = any(parameter_keys(policy) for policy in trained[role])
            if any_learner and is_untrained(role, staged.policies[role], trained[role]):
                message = (
                    f"acts untrained in stage {staged.stage.name}: it never trains, and does not "
                    "continue from parameters of another kind of policy or of other agents (nor a "
                    "learner in per_agent from one alone, or the reverse); if that is intended, "
                    "set learning_rate: 0"
                )
                origin, path = staged.spec.origin, ("policies", role)
                problems.append(origin.component_problem(path, message, code="not_trained"))
        started |= trained.keys() & set(staged.stage.roles_to_train)
    return problems


def _shortened_cell(built: BuiltCell) -> BuiltCell | None:
    """The cell with cheaper policies and at most two episodes of each stage.

    An episode that is cut may lack feedback. Policies do not train in it, and a stage that is
    fitted to it is left out with all later stages. None: only offline stages are left.
    """
    stages: list[BuiltStage] = []
    cut: set[str] = set()
    replaced: dict[int, Policy] = {}  # one policy in several stages stays one object
    for staged in built.stages:
        stage, rounds = staged.stage, min(staged.rounds, MAX_ROUNDS)
        changes: dict[str, Any] = {"episodes": min(stage.episodes, 2), "rounds": rounds}
        if stage.loop == "fit_offline" and cut & set(stage.dataset_stages or cut):
            break
        if stage.loop != "fit_offline" and rounds < staged.rounds:
            cut.add(stage.name)
            if stage.loop == "train":
                changes |= {"loop": "rollout", "roles_to_train": []}
        policies = dict(staged.policies)
        for role, policy in policies.items():
            if isinstance(policy, Learner):
                if id(policy) not in replaced:
                    replaced[id(policy)] = policy.dry_run_version()
                policies[role] = replaced[id(policy)]
        stage = stage.model_copy(update=changes)
        stages.append(staged._replace(stage=stage, rounds=rounds, policies=policies))
    if all(staged.stage.loop == "fit_offline" for staged in stages):
        return None
    return dataclasses.replace(built, stages=tuple(stages))


def _problem(
    built: BuiltCell, stage_index: int, text: str, code: str, source_map: SourceMap
) -> Problem:
    """A problem in a stage, located at the policy that trains in it."""
    stage, _, _, policies, spec = built.stages[stage_index]
    message = f"in stage {stage.name}: {printable(text, 400)}"
    roles: Sequence[str] = stage.roles_to_train or [
        r for r, p in policies.items() if isinstance(p, Learner)
    ]
    for role in roles:
        if role in policies and role in spec.policies:
            return spec.origin.component_problem(("policies", role), message, code=code)
    return problem_at_path(source_map, message, "stages", stage_index, code=code)

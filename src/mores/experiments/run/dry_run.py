"""A rehearsal: what a scenario's learners go through, in a few worlds and rounds.

Whether a recipe finds the feedback that it learns from, whether it can go on from what another one
learned, whether a search or a network fits the role: that shows when stages follow each other, and
is told here before anything is played for long. It is the run's own course, with an episode
or two of every stage and players who go over each lesson once (`Policy.dry_run_version`), so that nothing
has to be known of any recipe. It ends after some seconds, whatever is left.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from mores.core.environment import Policy
from mores.core.errors import UserError
from mores.core.random_streams import Worlds
from mores.experiments.run.cell_runner import CellRunner, Cursor
from mores.experiments.run.scheduling import single_threaded
from mores.experiments.scenario import expansion
from mores.experiments.scenario.cell import BuiltCell, Cell
from mores.experiments.scenario.first_round_check import describe_exception
from mores.experiments.scenario.loading import LoadedScenario
from mores.experiments.scenario.source_locations import (
    Problem,
    ScenarioError,
    SourceMap,
    printable,
    problem_at_path,
)
from mores.sim.policy_states import is_untrained

MAX_ROUNDS = 256  # of an episode: a longer one may be cut off before anything is said
MAX_SECONDS = 10.0  # after which what is left is left to the run


def check_scenario(loaded: LoadedScenario) -> tuple[Cell, ...]:
    """Check a scenario, and let its learners rehearse.

    Raises:
        ScenarioError: everything that would go wrong later, as far as this can show it.
    """
    cells = expansion.expand_and_verify(loaded)
    unlike = {
        _equivalence_key(cell): cell
        for cell in reversed(cells)  # the first of those that are alike
        if any(stage.roles_to_train or stage.loop == "search" for stage in cell.stages)
    }
    if not unlike:
        return cells
    problems: list[Problem] = []
    until = time.monotonic() + MAX_SECONDS
    with single_threaded(), Console(stderr=True).status("learners rehearse"):
        for cell in reversed(unlike.values()):
            problems += _untrained_learners(cell) or dry_run_cell(cell, loaded, until)
    if problems:
        alone = {problem.message: problem for problem in reversed(problems)}  # the first of each
        raise ScenarioError(alone.values())
    return cells


class _TimeLimitReached(Exception):
    """It has taken long enough."""


def dry_run_cell(cell: Cell, loaded: LoadedScenario, deadline: float) -> list[Problem]:
    """What goes wrong when the stages of a cell follow each other, until so late."""
    short = _shortened_cell(cell)
    if short is None or time.monotonic() > deadline:
        return []
    scenario = loaded.scenario.model_copy(
        update={
            "stages": list(short.stages),
            "claims": [],
            "calibration": None,
            "uncertainty": None,
        }
    )
    reached = Cursor()

    def passed(at: Cursor, stage_over: bool) -> None:
        nonlocal reached
        reached = at
        if time.monotonic() > deadline:
            raise _TimeLimitReached

    built = _with_dry_run_policies(short.build())
    try:
        worlds = Worlds.grid(1, min(2, scenario.worlds))
        course = CellRunner(short, scenario, built, worlds, len(worlds), lambda share: None)
        course.on_episode_end = passed
        course.run(Cursor())
    except _TimeLimitReached:
        return []
    except UserError as error:
        said, code = str(error), error.code
    except MemoryError:
        raise
    except Exception as error:
        if "allocate" in str(error):  # PyTorch has no class of its own for it
            raise
        said, code = f"breaks: {describe_exception(error)}", "failed"
    else:
        return []
    return [_problem(cell, built, reached.stage_index, said, code, loaded.source_map)]


def _untrained_learners(cell: Cell) -> list[Problem]:
    """Learners that play as they were made, where another kind of player learned in their role.

    What is learned goes on to players that keep it alike. A learner in a cast and the same one
    alone do not: they have other seats.
    """
    problems, stages = [], cell.build().stages
    taught: dict[str, list[Policy]] = {}
    for staged in stages:
        for role in staged.stage.roles_to_train:
            if role in staged.policies:
                taught.setdefault(role, []).append(staged.policies[role])
    began: set[str] = set()
    for number, staged in enumerate(stages):
        for role in began & staged.policies.keys():
            somebody = any(player.parameter_keys for player in taught[role])
            if somebody and is_untrained(role, staged.policies[role], taught[role]):
                message = (
                    f"plays untrained in stage {staged.stage.name}: it never learns, and what was "
                    "learned by another kind of player or at other seats does not go on to it (nor "
                    "from a learner alone to the same one in a cast, or back); if that is meant, "
                    "say so: learning_rate: 0"
                )
                origin = cell.stage_spec(number).origin
                problems.append(
                    origin.component_problem(("policies", role), message, code="not_trained")
                )
        began |= taught.keys() & set(staged.stage.roles_to_train)
    return problems


def _with_dry_run_policies(built_cell: BuiltCell) -> BuiltCell:
    """The same with less work; who is one player in several stages stays one."""
    brief: dict[int, Policy] = {}
    stages = []
    for staged in built_cell.stages:
        players = {
            role: brief.setdefault(id(player), player.dry_run_version())
            for role, player in staged.policies.items()
        }
        stages.append(staged._replace(policies=players))
    return dataclasses.replace(built_cell, stages=tuple(stages))


def _shortened_cell(cell: Cell) -> Cell | None:
    """The cell with an episode or two of each stage; None where nobody plays in what is left.

    Of an episode that is cut off nobody may have been told anything: nobody learns in it, and what
    would be learned from its record is left out with all that follows.
    """
    stages, cut = [], set[str]()
    for stage in cell.stages:
        rounds = cell.rounds if stage.rounds is None else stage.rounds
        changes: dict[str, Any] = {
            "episodes": min(stage.episodes, 2),
            "rounds": min(rounds, MAX_ROUNDS),
        }
        if stage.loop == "fit_offline" and cut & set(stage.dataset_stages or cut):
            break
        if stage.loop != "fit_offline" and rounds > MAX_ROUNDS:
            cut.add(stage.name)
            if stage.loop == "train":
                changes |= {"loop": "rollout", "roles_to_train": []}
        stages.append(stage.model_copy(update=changes))
    if all(stage.loop == "fit_offline" for stage in stages):
        return None
    return dataclasses.replace(cell, stages=tuple(stages))


def _problem(
    cell: Cell, built_cell: BuiltCell, stage_index: int, text: str, code: str, source_map: SourceMap
) -> Problem:
    """What went wrong in a stage, with the place of the player that learns in it."""
    stage, players = built_cell.stages[stage_index].stage, built_cell.stages[stage_index].policies
    asked = cell.stage_spec(stage_index)
    message = f"in stage {stage.name}: {printable(text, 400)}"
    able: Sequence[str] = stage.roles_to_train or [
        r for r, p in players.items() if p.supports("on_episode_start")
    ]
    for role in able:
        if role in players and role in asked.policies:
            return asked.origin.component_problem(("policies", role), message, code=code)
    return problem_at_path(source_map, message, "stages", stage_index, code=code)


def _equivalence_key(cell: Cell) -> str:
    """Cells that differ in nothing but fractions go the same way."""
    told = [
        cell.env,
        cell.population,
        cell.policies,
        cell.rounds,
        [(s.env, s.policies) for s in cell.stages],
    ]
    return json.dumps(_without_floats(told), sort_keys=True)


def _without_floats(part: Any) -> Any:
    if isinstance(part, dict):
        return {name: _without_floats(value) for name, value in part.items()}
    if isinstance(part, (list, tuple)):
        return [_without_floats(value) for value in part]
    return None if isinstance(part, float) else part

"""A rehearsal: what a scenario's learners go through, in a few worlds and rounds.

Whether a recipe finds the feedback that it learns from, whether it can go on from what another one
learned, whether a search or a network fits the role: that shows when stages follow each other, and
is told here before anything is played for long. It is the run's own course, with an episode
or two of every stage and players who go over each lesson once (`Player.briefly`), so that nothing
has to be known of any recipe. It ends after some seconds, whatever is left.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from mores.core.environment import Player
from mores.core.errors import UserError
from mores.core.random_streams import Worlds
from mores.experiments.run.cell_runner import At, Course
from mores.experiments.run.scheduling import one_thread
from mores.experiments.scenario import expansion
from mores.experiments.scenario.cell import Built, Cell
from mores.experiments.scenario.first_round_check import broken
from mores.experiments.scenario.loading import Loaded
from mores.experiments.scenario.source_locations import (
    Places,
    Problem,
    ScenarioError,
    problem_at,
    shown,
)
from mores.sim.policy_states import untrained

MOST_ROUNDS = 256  # of an episode: a longer one may be cut off before anything is said
MOST_SECONDS = 10.0  # after which what is left is left to the run


def check(loaded: Loaded) -> tuple[Cell, ...]:
    """Check a scenario, and let its learners rehearse.

    Raises:
        ScenarioError: everything that would go wrong later, as far as this can show it.
    """
    cells = expansion.check(loaded)
    unlike = {
        _like(cell): cell
        for cell in reversed(cells)  # the first of those that are alike
        if any(stage.learn or stage.loop == "assist" for stage in cell.stages)
    }
    if not unlike:
        return cells
    problems: list[Problem] = []
    until = time.monotonic() + MOST_SECONDS
    with one_thread(), Console(stderr=True).status("learners rehearse"):
        for cell in reversed(unlike.values()):
            problems += _untrained(cell) or rehearsed(cell, loaded, until)
    if problems:
        alone = {problem.message: problem for problem in reversed(problems)}  # the first of each
        raise ScenarioError(alone.values())
    return cells


class _Enough(Exception):
    """It has taken long enough."""


def rehearsed(cell: Cell, loaded: Loaded, until: float) -> list[Problem]:
    """What goes wrong when the stages of a cell follow each other, until so late."""
    short = _shortened(cell)
    if short is None or time.monotonic() > until:
        return []
    scenario = loaded.scenario.model_copy(
        update={"stages": list(short.stages), "claims": [], "calibration": None, "uncertain": None}
    )
    reached = At()

    def passed(at: At, stage_over: bool) -> None:
        nonlocal reached
        reached = at
        if time.monotonic() > until:
            raise _Enough

    built = _briefly(short.build())
    try:
        worlds = Worlds.grid(1, min(2, scenario.worlds))
        course = Course(short, scenario, built, worlds, len(worlds), lambda share: None)
        course.passed = passed
        course.play(At())
    except _Enough:
        return []
    except UserError as error:
        said, code = str(error), error.code
    except MemoryError:
        raise
    except Exception as error:
        if "allocate" in str(error):  # PyTorch has no class of its own for it
            raise
        said, code = f"breaks: {broken(error)}", "failed"
    else:
        return []
    return [_problem(cell, built, reached.stage, said, code, loaded.places)]


def _untrained(cell: Cell) -> list[Problem]:
    """Learners that play as they were made, where another kind of player learned in their role.

    What is learned goes on to players that keep it alike. A learner in a cast and the same one
    alone do not: they have other seats.
    """
    problems, stages = [], cell.build().stages
    taught: dict[str, list[Player]] = {}
    for staged in stages:
        for role in staged.stage.learn:
            if role in staged.players:
                taught.setdefault(role, []).append(staged.players[role])
    began: set[str] = set()
    for number, staged in enumerate(stages):
        for role in began & staged.players.keys():
            somebody = any(player.places for player in taught[role])
            if somebody and untrained(role, staged.players[role], taught[role]):
                message = (
                    f"plays untrained in stage {staged.stage.name}: it never learns, and what was "
                    "learned by another kind of player or at other seats does not go on to it (nor "
                    "from a learner alone to the same one in a cast, or back); if that is meant, "
                    "say so: learning_rate: 0"
                )
                origin = cell.asked(number).origin
                problems.append(origin.part(("players", role), message, code="not_trained"))
        began |= taught.keys() & set(staged.stage.learn)
    return problems


def _briefly(built: Built) -> Built:
    """The same with less work; who is one player in several stages stays one."""
    brief: dict[int, Player] = {}
    stages = []
    for staged in built.stages:
        players = {
            role: brief.setdefault(id(player), player.briefly())
            for role, player in staged.players.items()
        }
        stages.append(staged._replace(players=players))
    return dataclasses.replace(built, stages=tuple(stages))


def _shortened(cell: Cell) -> Cell | None:
    """The cell with an episode or two of each stage; None where nobody plays in what is left.

    Of an episode that is cut off nobody may have been told anything: nobody learns in it, and what
    would be learned from its record is left out with all that follows.
    """
    stages, cut = [], set[str]()
    for stage in cell.stages:
        rounds = cell.rounds if stage.rounds is None else stage.rounds
        changes: dict[str, Any] = {
            "episodes": min(stage.episodes, 2),
            "rounds": min(rounds, MOST_ROUNDS),
        }
        if stage.loop == "fit" and cut & set(stage.record or cut):
            break
        if stage.loop != "fit" and rounds > MOST_ROUNDS:
            cut.add(stage.name)
            if stage.loop == "improve":
                changes |= {"loop": "play", "learn": []}
        stages.append(stage.model_copy(update=changes))
    if all(stage.loop == "fit" for stage in stages):
        return None
    return dataclasses.replace(cell, stages=tuple(stages))


def _problem(
    cell: Cell, built: Built, number: int, said: str, code: str, places: Places
) -> Problem:
    """What went wrong in a stage, with the place of the player that learns in it."""
    stage, players = built.stages[number].stage, built.stages[number].players
    asked = cell.asked(number)
    message = f"in stage {stage.name}: {shown(said, 400)}"
    able: Sequence[str] = stage.learn or [r for r, p in players.items() if p.can("again")]
    for role in able:
        if role in players and role in asked.players:
            return asked.origin.part(("players", role), message, code=code)
    return problem_at(places, message, "stages", number, code=code)


def _like(cell: Cell) -> str:
    """Cells that differ in nothing but fractions go the same way."""
    told = [
        cell.env,
        cell.people,
        cell.players,
        cell.rounds,
        [(s.env, s.players) for s in cell.stages],
    ]
    return json.dumps(_without_fractions(told), sort_keys=True)


def _without_fractions(part: Any) -> Any:
    if isinstance(part, dict):
        return {name: _without_fractions(value) for name, value in part.items()}
    if isinstance(part, (list, tuple)):
        return [_without_fractions(value) for value in part]
    return None if isinstance(part, float) else part

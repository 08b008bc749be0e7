"""A rehearsal: what a scenario's learners go through, in a few worlds and rounds.

Whether a recipe finds the feedback that it learns from, whether it can go on from what another one
learned, whether a search or a network fits the role: that shows when stages follow each other, and
is told here before anything is played for long. It is the run's own course, with an episode
or two of every stage, so that nothing has to be known of any recipe.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from mores.draws import Worlds
from mores.errors import UserError
from mores.run.course import At, Course
from mores.run.memories import key_of
from mores.run.playing import one_thread
from mores.scenario import expand
from mores.scenario.cell import Built, Cell
from mores.scenario.load import Loaded
from mores.scenario.places import Places, Problem, ScenarioError, problem_at, shown
from mores.scenario.probe import broken

MOST_ROUNDS = 256  # of an episode: a longer one may be cut off before anything is said
MOST_CELLS = 64  # that are rehearsed: more would mostly say the same


def check(loaded: Loaded) -> tuple[Cell, ...]:
    """Check a scenario, and let its learners rehearse.

    Raises:
        ScenarioError: everything that would go wrong later, as far as this can show it.
    """
    cells = expand.check(loaded)
    problems: list[Problem] = []
    alike: set[str] = set()
    with one_thread():
        for cell in cells:
            if not any(stage.learn or stage.loop == "assist" for stage in cell.stages):
                continue
            like = _like(cell)
            if like not in alike and len(alike) < MOST_CELLS:
                alike.add(like)
                problems += _untrained(cell) or rehearsed(cell, loaded)
    if problems:
        alone = {problem.message: problem for problem in reversed(problems)}  # the first of each
        raise ScenarioError(alone.values())
    return cells


def rehearsed(cell: Cell, loaded: Loaded) -> list[Problem]:
    """What goes wrong when the stages of a cell follow each other."""
    short = _shortened(cell)
    if short is None:
        return []
    scenario = loaded.scenario.model_copy(
        update={"stages": list(short.stages), "claims": [], "calibration": None, "uncertain": None}
    )
    reached = At()

    def passed(at: At, stage_over: bool) -> None:
        nonlocal reached
        reached = at

    built = short.build()
    try:
        worlds = Worlds.grid(1, min(2, scenario.worlds))
        course = Course(short, scenario, built, worlds, len(worlds), lambda share: None)
        course.passed = passed
        course.play(At())
    except UserError as error:
        return [_problem(cell, built, reached.stage, str(error), loaded.places)]
    except MemoryError:
        raise
    except Exception as error:
        if "allocate" in str(error):  # PyTorch has no class of its own for it
            raise
        said = f"breaks: {broken(error)}"
        return [_problem(cell, built, reached.stage, said, loaded.places)]
    return []


def _untrained(cell: Cell) -> list[Problem]:
    """Learners that play as they were made, where another kind of player learned in their role.

    What is learned goes on to players that keep it alike. A learner in a cast and the same one
    alone do not: they have other seats.
    """
    problems, stages = [], cell.build().stages
    learned = [
        {key_of(role, s.players[role]): role for role in s.stage.learn if role in s.players}
        for s in stages
    ]
    ever = {key for keys in learned for key in keys}
    for number, (_, _, _, players) in enumerate(stages):
        before = {role for keys in learned[:number] for role in keys.values()}
        for role in before & players.keys():
            player = players[role]
            able = (player.can("learn") or player.can("fit")) and not player.still
            if able and key_of(role, player) not in ever:
                message = (
                    f"plays untrained in stage {stages[number].stage.name}: it never learns, and "
                    "what another kind of player learned before does not go on to it (nor from a "
                    "learner alone to the same one in a cast, or back)"
                )
                problems.append(cell.asked(number).origin.part(("players", role), message))
    return problems


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


def _problem(cell: Cell, built: Built, number: int, said: str, places: Places) -> Problem:
    """What went wrong in a stage, with the place of the player that learns in it."""
    stage, players = built.stages[number].stage, built.stages[number].players
    asked = cell.asked(number)
    message = f"in stage {stage.name}: {shown(said, 400)}"
    able: Sequence[str] = stage.learn or [r for r, p in players.items() if p.can("again")]
    for role in able:
        if role in players and role in asked.players:
            return asked.origin.part(("players", role), message)
    return problem_at(places, message, "stages", number)


def _like(cell: Cell) -> str:
    """Cells that differ in nothing but fractions go the same way."""
    told = [cell.env, cell.people, cell.players, [(s.env, s.players) for s in cell.stages]]
    return json.dumps(_without_fractions(told), sort_keys=True)


def _without_fractions(part: Any) -> Any:
    if isinstance(part, dict):
        return {name: _without_fractions(value) for name, value in part.items()}
    if isinstance(part, (list, tuple)):
        return [_without_fractions(value) for value in part]
    return None if isinstance(part, float) else part

"""Play one cell of an experiment, and keep what was measured in it.

A cell is one arm at one point. It is played in chunks of worlds, so that memory is bounded whatever
the number of replicates; a world's numbers do not depend on the chunk it is in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mores.core.random_streams import Worlds
from mores.experiments.results.cell_result import Record
from mores.experiments.run.cell_runner import Course
from mores.experiments.run.checkpoint_state import begin
from mores.experiments.run.checkpoint_store import Working
from mores.experiments.scenario.cell import Built, Cell
from mores.experiments.scenario.specification import Scenario

CHUNK = 2**23  # numbers that a chunk of worlds may need at once


def play_cell(
    cell: Cell,
    scenario: Scenario,
    replicates: Sequence[int],
    tick: Callable[[float], None],
    built: Built | None = None,
    working: Working | None = None,
) -> Record:
    """Play a cell, from its start or from where it stood when it was stopped.

    Args:
        cell: which.
        scenario: what it belongs to.
        replicates: which replicates; at points of uncertain parameters there are others.
        tick: told how much of the cell was played since it was last called, in all 1.
        built: its objects, if they are there already.
        working: keeps how far it is, if anybody does.
    """
    built = built or cell.build()
    if cell.purpose != "arm" and scenario.uncertain is not None:
        replicates = _replicates_at(cell, scenario.uncertain.replicates)
    worlds = Worlds.grid(replicates, scenario.worlds)
    size = max(1, CHUNK // max(1, *(staged.game.working_size for staged in built.stages)))
    if any(staged.stage.learn for staged in built.stages):
        size = max(1, size // scenario.worlds) * scenario.worlds  # those of a replicate together
    course = Course(cell, scenario, built, worlds, size, tick)
    at = begin(course, working)
    return course.play(at)


def _replicates_at(cell: Cell, count: int) -> range:
    """The replicates at a point of uncertain parameters.

    Every draw has chance events of its own, so that what chance does is in the interval over
    draws. The points of a sensitivity analysis share theirs: it asks what the parameters do.
    """
    first = cell.number * count if cell.purpose == "draw" else 0
    return range(first, first + count)

"""Play one cell of an experiment, and keep what was measured in it.

A cell is one arm at one point. It is played in chunks of worlds, so that memory is bounded whatever
the number of replicates; a world's numbers do not depend on the chunk it is in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mores.core.random_streams import Worlds
from mores.experiments.results.cell_result import CellResult
from mores.experiments.run.cell_runner import CellRunner
from mores.experiments.run.checkpoint_state import restore_or_start
from mores.experiments.run.checkpoint_store import CheckpointStore
from mores.experiments.scenario.cell import BuiltCell, Cell
from mores.experiments.scenario.specification import Scenario

MAX_CHUNK_ELEMENTS = 2**23  # numbers that a chunk of worlds may need at once


def run_cell(
    cell: Cell,
    scenario: Scenario,
    replicates: Sequence[int],
    callback: Callable[[float], None],
    built_cell: BuiltCell | None = None,
    checkpoint_store: CheckpointStore | None = None,
) -> CellResult:
    """Play a cell, from its start or from where it stood when it was stopped.

    Args:
        cell: which.
        scenario: what it belongs to.
        replicates: which replicates; at points of uncertain parameters there are others.
        callback: told how much of the cell was played since it was last called, in all 1.
        built_cell: its objects, if they are there already.
        checkpoint_store: keeps how far it is, if anybody does.
    """
    built_cell = built_cell or cell.build()
    if cell.purpose != "arm" and scenario.uncertainty is not None:
        replicates = _replicates_at_point(cell, scenario.uncertainty.replicates)
    worlds = Worlds.grid(replicates, scenario.worlds)
    size = max(
        1,
        MAX_CHUNK_ELEMENTS
        // max(1, *(staged.environment.elements_per_world for staged in built_cell.stages)),
    )
    if any(staged.stage.roles_to_train for staged in built_cell.stages):
        size = max(1, size // scenario.worlds) * scenario.worlds  # those of a replicate together
    course = CellRunner(cell, scenario, built_cell, worlds, size, callback)
    at = restore_or_start(course, checkpoint_store)
    return course.run(at)


def _replicates_at_point(cell: Cell, num_replicates: int) -> range:
    """The replicates at a point of uncertain parameters.

    Every draw has chance events of its own, so that what chance does is in the interval over
    draws. The points of a sensitivity analysis share theirs: it asks what the parameters do.
    """
    first = cell.index * num_replicates if cell.purpose == "draw" else 0
    return range(first, first + num_replicates)

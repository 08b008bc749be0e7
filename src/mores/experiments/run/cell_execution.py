"""Simulate one cell of an experiment and record its metrics.

A cell is one arm at one point of the sweep. Its worlds are simulated in chunks, which bounds memory
for any number of replicates; a world's numbers do not depend on its chunk.
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

MAX_CHUNK_ELEMENTS = 2**23  # numbers that a chunk of worlds may need at a time


def run_cell(
    cell: Cell,
    scenario: Scenario,
    replicates: Sequence[int],
    callback: Callable[[float], None],
    built_cell: BuiltCell | None = None,
    checkpoint_store: CheckpointStore | None = None,
) -> CellResult:
    """Simulate a cell, from its start or from its last checkpoint.

    Args:
        cell: the cell.
        scenario: its scenario.
        replicates: of an arm; points of uncertain parameters have replicates of their own.
        callback: called with the fraction of the cell simulated since its last call; the sum is 1.
        built_cell: its objects, if they exist already.
        checkpoint_store: reads and writes checkpoints of the cell; by default there are none.
    """
    built_cell = built_cell or cell.build()
    if cell.purpose != "arm" and scenario.uncertainty is not None:
        replicates = _replicates_at_point(cell, scenario.uncertainty.replicates)
    worlds = Worlds.grid(replicates, scenario.worlds)
    chunk_size = max(
        1,
        MAX_CHUNK_ELEMENTS
        // max(1, *(staged.environment.elements_per_world for staged in built_cell.stages)),
    )
    if any(staged.stage.roles_to_train for staged in built_cell.stages):
        chunk_size = max(1, chunk_size // scenario.worlds) * scenario.worlds  # whole replicates
    cell_runner = CellRunner(cell, scenario, built_cell, worlds, chunk_size, callback)
    cursor = restore_or_start(cell_runner, checkpoint_store)
    return cell_runner.run(cursor)


def _replicates_at_point(cell: Cell, num_replicates: int) -> range:
    """The replicates at a point of uncertain parameters.

    Every draw has random events of its own, so that their effect is in the interval over draws. The
    points of a sensitivity analysis share theirs: it measures the effect of parameters alone.
    """
    first = cell.index * num_replicates if cell.purpose == "draw" else 0
    return range(first, first + num_replicates)

"""Simulate one cell of an experiment and record its metrics.

A cell is one arm at one point: of the sweep, of the draws of uncertain parameters, or of the design
of a sensitivity analysis. Its worlds are simulated in chunks, which bounds memory for any number of
replicates. A world's results do not depend on its chunk, up to rounding where stacked networks act.
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

MAX_CHUNK_ELEMENTS = 2**23  # tensor elements of a chunk of worlds


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
        replicates: replicates of an arm's cell; for others see `Cell.own_replicates`.
        callback: called with the fraction of the cell simulated since its last call; the sum is 1.
        built_cell: environments, policies and population of the cell, if built before.
        checkpoint_store: reads and writes checkpoints of the cell; by default there are none.
    """
    built_cell = built_cell or cell.build()
    worlds = Worlds.grid(cell.own_replicates(scenario, replicates), scenario.worlds)
    sizes = (staged.environment.elements_per_world for staged in built_cell.stages)
    chunk_size = max(1, MAX_CHUNK_ELEMENTS // max(1, *sizes))
    if any(staged.stage.roles_to_train for staged in built_cell.stages):
        # A replicate is not split: its worlds share their learners.
        chunk_size = max(1, chunk_size // scenario.worlds) * scenario.worlds
    cell_runner = CellRunner(built_cell, scenario, worlds, chunk_size, callback)
    return cell_runner.run(restore_or_start(cell_runner, checkpoint_store))

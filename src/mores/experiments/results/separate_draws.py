"""The draws of uncertain parameters as cells of their own, however they were simulated.

Claims and sensitivity analyses compare arms at one draw. A draw that was simulated in a batch with
others has here the cell and the results that it has if it is simulated alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from mores.experiments.results.cell_result import CellResult
from mores.experiments.scenario.cell import Cell


class SeparateDraws(NamedTuple):
    """A cell for each arm, point of a sweep and draw, and their results by cell id."""

    cells: tuple[Cell, ...]
    cell_results: Mapping[str, CellResult]


def separate_draws(cells: Sequence[Cell], cell_results: Mapping[str, CellResult]) -> SeparateDraws:
    """The cells with a cell for each draw, in the order of their numbers in each arm.

    Args:
        cells: cells as they were simulated.
        cell_results: their results by id.
    """
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.purpose, cell.arm), []).extend(cell.separate_draws)
    for group in groups.values():
        group.sort(key=lambda cell: cell.index)  # stable: the points of a sweep keep their order
    separate = tuple(cell for group in groups.values() for cell in group)
    return SeparateDraws(separate, _ResultsOfDraws(cells, cell_results))


class _ResultsOfDraws(Mapping[str, CellResult]):
    """Results by id of a cell with one draw, taken from the cell that it was simulated in."""

    def __init__(self, cells: Sequence[Cell], cell_results: Mapping[str, CellResult]) -> None:
        self._source = {draw.id: (cell, draw) for cell in cells for draw in cell.separate_draws}
        self._results = cell_results

    def __getitem__(self, cell_id: str) -> CellResult:
        cell, draw = self._source[cell_id]
        result = self._results[cell.id]
        return result.by_draw[draw.index] if cell.draws else result

    def __iter__(self) -> Iterator[str]:
        return iter(self._source)

    def __len__(self) -> int:
        return len(self._source)

"""Single bits of a run's files change: the change is noticed, or the numbers are the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mores import UserError
from mores.core.random_streams import Worlds
from mores.experiments.results.cell_result import CellResult, StageResult
from mores.experiments.results.cell_store import read_cell_result, write_cell_result
from mores.experiments.results.stored_cell import find_damage
from mores.experiments.results.trajectory import Trajectory
from mores.experiments.run import resume_run
from tests.attacks.folders import bits, flip, numbers, outcome, short_report
from tests.cases import FULL
from tests.run.small_run import make_metrics


@pytest.fixture
def cell(tmp_path: Path) -> Path:
    """A cell of two numbers, with a trajectory."""
    values = np.array([0.86, -0.86], np.float32).reshape(2, 1, 1)
    metrics = make_metrics({"x": values}, Worlds.of(2), (0,))
    result = CellResult(
        cell="cell",
        stages=(StageResult("test", metrics, {"x": 1e-7}),),
        trajectory=Trajectory((0,), {"values": values}, {"groups": np.zeros((2, 1, 1), np.int64)}),
    )
    write_cell_result(tmp_path / "cell", result)
    return tmp_path / "cell"


def _values(cell: Path) -> list[object]:
    result = read_cell_result(cell)
    stage = result.stages[0]
    return [
        stage.metrics.to_dict(),
        stage.analytic_values,
        result.trajectory.latent["values"].tolist(),
    ]


def test_every_bit_of_a_cell(cell: Path) -> None:
    """All of them in a full run."""
    selected, expected = bits(cell, None if FULL else 300), _values(cell)
    assert find_damage(cell) is None
    for name, bit in selected:
        path = cell / name
        data = path.read_bytes()
        flip(path, bit)
        if find_damage(cell) is None:  # 1e-07 and 1E-07
            assert name == "cell.json" and _values(cell) == expected, (name, bit)
        path.write_bytes(data)
    assert find_damage(cell) is None


@pytest.mark.cut(3)
@pytest.mark.parametrize("part", range(10))
def test_bits_of_a_run_through_a_reader(part: int, run: Path, expected: str) -> None:
    selected = bits(run, 100 if FULL else 4, seed=10 + part)
    refused = 0
    for name, bit in selected:
        path = run / name
        data = path.read_bytes()
        flip(path, bit)
        result = outcome(lambda: numbers(run))
        assert isinstance(result, UserError) or result == expected, (name, bit)
        refused += isinstance(result, UserError)
        path.write_bytes(data)
    assert refused >= len(selected) // 2


@pytest.mark.cut(3)
@pytest.mark.parametrize("part", range(10))
def test_bits_of_a_run_through_resume(part: int, template: Path, run: Path, expected: str) -> None:
    """A damaged cell is simulated again; other damage is repaired or refused."""
    originals = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for name, bit in bits(run, 100 if FULL else 2, seed=30 + part):
        flip(run / name, bit)
        with short_report():
            result = outcome(lambda: resume_run(run, progress=False))
        if isinstance(result, UserError):
            for path, data in originals.items():
                if path != run / name:
                    assert path.read_bytes() == data, path
        else:
            assert outcome(lambda: numbers(run)) == expected, (name, bit)
        for path, data in originals.items():
            path.write_bytes(data)

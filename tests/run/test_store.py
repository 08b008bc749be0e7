"""Cells on disk: read as they were written, whole or named."""

from __future__ import annotations

import re

import numpy as np

from mores.experiments.results.cell_result import CellResult, StageResult
from mores.experiments.results.cell_store import find_damage, read_cell_result, write_cell_result
from tests.refusals import check_message
from tests.run.small_run import unreadable


def test_what_a_cell_says_of_itself_is_sealed(tmp_path):
    rows = np.arange(4.0, dtype=np.float32).reshape(2, 1, 2)
    stage = StageResult("play", (0, 1), {"x": rows, "y": rows}, {})
    write_cell_result(tmp_path / "a", CellResult("a", np.arange(2), np.zeros(2, int), (stage,)))
    assert find_damage(tmp_path / "a") is None
    about = tmp_path / "a" / "cell.json"
    about.write_text(about.read_text().replace('"x"', '"z"'))
    check_message(find_damage(tmp_path / "a") or "")


def test_a_record_is_read_as_it_was_written(here):
    """Numbers that JSON has not, rounds and worlds in any order, several stages."""
    rng = np.random.default_rng(2)
    odd = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45, 3.4e38], np.float32)
    first = rng.normal(size=(6, 2, 3)).astype(np.float32)
    first[:, 0, 0] = odd
    stages = (
        StageResult("train", (0, 2, 5), {"x[0]": first, "x[1]": -first},
                    {"formula": 0.1 + 0.2, "none": float("nan"),
                     "path": np.array([1.0, np.inf, 1 / 3])}),
        StageResult("test", (9,), {"y": rng.normal(size=(6, 1, 1)).astype(np.float32)}, {}),
    )  # fmt: skip
    record = CellResult(
        cell="a",
        replicate=np.array([3, 3, 3, 5, 5, 5]),
        world=np.array([0, 1, 2, 0, 1, 2]),
        stages=stages,
        latent={"values": rng.normal(size=(2, 3, 4)).astype(np.float32)},
        latent_rounds=(0, 4, 9),
        value_names=("left right", "party"),
    )
    write_cell_result(here / "a", record)
    found = read_cell_result(here / "a")
    np.testing.assert_array_equal(found.replicate, record.replicate)
    np.testing.assert_array_equal(found.world, record.world)
    assert (found.cell, found.latent_rounds, found.value_names) == (
        "a",
        (0, 4, 9),
        record.value_names,
    )
    for one, other in zip(record.stages, found.stages, strict=True):
        assert (one.name, one.rounds) == (other.name, other.rounds)
        assert list(one.metrics) == list(other.metrics)
        for name, values in one.metrics.items():
            assert values.tobytes() == other.metrics[name].tobytes()
        assert list(one.analytic_values) == list(other.analytic_values)
        for name, value in one.analytic_values.items():
            assert np.asarray(value).tobytes() == np.asarray(other.analytic_values[name]).tobytes()
    assert found.latent["values"].tobytes() == record.latent["values"].tobytes()
    assert find_damage(here / "a") is None
    (here / "a" / "measures.parquet").write_bytes(b"PAR1")
    check_message(re.sub("[0-9]{3,}", "...", find_damage(here / "a") or ""))
    with unreadable(here / "a" / "measures.parquet"):
        read_cell_result(here / "a")

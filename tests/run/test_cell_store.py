"""Cells on disk: read as they were written, or refused."""

from __future__ import annotations

import re

import numpy as np

from mores.experiments.results.cell_result import CellResult, StageResult
from mores.experiments.results.cell_store import find_damage, read_cell_result, write_cell_result
from tests.refusals import check_message
from tests.run.small_run import refused_as_unreadable


def test_metadata_have_a_checksum(tmp_path):
    rows = np.arange(4.0, dtype=np.float32).reshape(2, 1, 2)
    stage = StageResult("rollout", (0, 1), {"x": rows, "y": rows}, {})
    write_cell_result(tmp_path / "a", CellResult("a", np.arange(2), np.zeros(2, int), (stage,)))
    assert find_damage(tmp_path / "a") is None
    metadata = tmp_path / "a" / "cell.json"
    metadata.write_text(metadata.read_text().replace('"x"', '"z"'))
    check_message(find_damage(tmp_path / "a") or "")


def test_a_result_is_read_as_it_was_written(workdir):
    """Numbers that JSON lacks, rounds and worlds in any order, several stages."""
    rng = np.random.default_rng(2)
    special = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45, 3.4e38], np.float32)
    first = rng.normal(size=(6, 2, 3)).astype(np.float32)
    first[:, 0, 0] = special
    stages = (
        StageResult("train", (0, 2, 5), {"x[0]": first, "x[1]": -first},
                    {"formula": 0.1 + 0.2, "none": float("nan"),
                     "path": np.array([1.0, np.inf, 1 / 3])}),
        StageResult("test", (9,), {"y": rng.normal(size=(6, 1, 1)).astype(np.float32)}, {}),
    )  # fmt: skip
    result = CellResult(
        cell="a",
        replicate=np.array([3, 3, 3, 5, 5, 5]),
        world=np.array([0, 1, 2, 0, 1, 2]),
        stages=stages,
        latent={"values": rng.normal(size=(2, 3, 4)).astype(np.float32)},
        latent_rounds=(0, 4, 9),
        value_names=("left right", "party"),
    )
    write_cell_result(workdir / "a", result)
    read = read_cell_result(workdir / "a")
    np.testing.assert_array_equal(read.replicate, result.replicate)
    np.testing.assert_array_equal(read.world, result.world)
    assert (read.cell, read.latent_rounds, read.value_names) == (
        "a",
        (0, 4, 9),
        result.value_names,
    )
    for stage, other in zip(result.stages, read.stages, strict=True):
        assert (stage.name, stage.rounds) == (other.name, other.rounds)
        assert list(stage.metrics) == list(other.metrics)
        for name, values in stage.metrics.items():
            assert values.tobytes() == other.metrics[name].tobytes()
        assert list(stage.analytic_values) == list(other.analytic_values)
        for name, value in stage.analytic_values.items():
            assert np.asarray(value).tobytes() == np.asarray(other.analytic_values[name]).tobytes()
    assert read.latent["values"].tobytes() == result.latent["values"].tobytes()
    assert find_damage(workdir / "a") is None
    (workdir / "a" / "metrics.parquet").write_bytes(b"PAR1")
    check_message(re.sub("[0-9]{3,}", "...", find_damage(workdir / "a") or ""))
    with refused_as_unreadable(workdir / "a" / "metrics.parquet"):
        read_cell_result(workdir / "a")

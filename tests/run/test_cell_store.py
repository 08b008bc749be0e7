"""Cells on disk: read as they were written, or refused."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import torch
import xarray as xr

from mores.core.random_streams import Worlds
from mores.experiments.results.cell_result import CellResult, StageResult
from mores.experiments.results.cell_store import read_cell_result, write_cell_result
from mores.experiments.results.stored_cell import find_damage
from mores.experiments.results.trajectory import Trajectory
from tests.refusals import check_message
from tests.run.small_run import make_metrics, refused_as_unreadable


def test_metadata_have_a_checksum(tmp_path):
    rows = np.arange(4.0, dtype=np.float32).reshape(2, 1, 2)
    metrics = make_metrics({"x": rows, "y": rows}, Worlds.of(2), (0, 1))
    stage = StageResult("rollout", metrics, {})
    write_cell_result(tmp_path / "a", CellResult("a", (stage,)))
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
    worlds = Worlds.grid([3, 5], 3)
    worlds = dataclasses.replace(worlds, draw=torch.tensor([0, 0, 7, 7, 9, 9]))
    train = make_metrics({"x": np.stack([first, -first], -1)}, worlds, (0, 2, 5))
    test = make_metrics({"y": rng.normal(size=(6, 1, 1)).astype(np.float32)}, worlds, (9,))
    path = np.array([1.0, np.inf, 1 / 3])
    stages = (
        StageResult("train", train, {"formula": 0.1 + 0.2, "none": float("nan"), "path": path}),
        StageResult("test", test, {}),
    )
    result = CellResult(
        cell="a",
        stages=stages,
        trajectory=Trajectory(
            (0, 4, 9),
            {"values": rng.normal(size=(2, 3, 4, 2)).astype(np.float32)},
            {
                "groups": np.array([0, 1, 1, 0])[None, None].repeat(2, 0).repeat(3, 1),
                "../a %": rng.normal(size=(2, 3, 4)).astype(np.float32),
            },
            {"values": ("person", "value")},
            ("left", "right"),
            episode=1,
        ),
        value_names=("left right", "party"),
    )
    write_cell_result(workdir / "a", result)
    read = read_cell_result(workdir / "a")
    np.testing.assert_array_equal(read.replicate, [3, 3, 3, 5, 5, 5])
    np.testing.assert_array_equal(read.draw, [0, 0, 7, 7, 9, 9])
    assert (read.cell, read.value_names) == ("a", result.value_names)
    for stage, other in zip(result.stages, read.stages, strict=True):
        assert (stage.name, stage.rounds) == (other.name, other.rounds)
        xr.testing.assert_identical(stage.metrics, other.metrics)
        for name in stage.names:
            assert stage.array(name).tobytes() == other.array(name).tobytes()
        assert list(stage.analytic_values) == list(other.analytic_values)
        for name, value in stage.analytic_values.items():
            assert np.asarray(value).tobytes() == np.asarray(other.analytic_values[name]).tobytes()
    before, after = result.trajectory, read.trajectory
    for field in ("rounds", "dimensions", "group_names", "episode"):
        assert getattr(after, field) == getattr(before, field)
    np.testing.assert_array_equal(after.latent["values"], before.latent["values"])
    assert list(after.people) == list(before.people)
    np.testing.assert_array_equal(after.people["groups"], before.people["groups"][:, 0])
    np.testing.assert_array_equal(after.people["../a %"], before.people["../a %"])
    assert find_damage(workdir / "a") is None
    (workdir / "a" / "metrics.parquet").write_bytes(b"PAR1")
    check_message(re.sub("[0-9]{3,}", "...", find_damage(workdir / "a") or ""))
    with refused_as_unreadable(workdir / "a" / "metrics.parquet"):
        read_cell_result(workdir / "a")

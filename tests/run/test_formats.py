"""Runs and files of trained policies in other formats are refused in one line."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mores import UserError, load_trained, open_run
from mores.core.file_formats import RUN_FORMAT, TRAINED_FORMAT, mores_version
from mores.experiments.run import resume_run
from tests.refusals import check_message


def _old_run(folder: Path, manifest: dict[str, Any], versions: dict[str, str]) -> None:
    """A small folder with the keys that mores 0.1.0 wrote."""
    files = {
        "run.json": {"format": 1, "scenario": "old", "file": "old.yaml", "directory": "/",
                     "overrides": [], "only": None, "load": [], "resolved_hash": "7f251167",
                     **manifest},
        "status.json": {"state": "done", "at": "2026-11-26T15-09-04Z", "done": ["main"],
                        "to_do": [], "failed": {}, "stopped_learners": {}, "idle_learners": {},
                        "jobs": 1, "pid": 1},
        "provenance.json": {"command": ["mores"], "seed": 0, "versions": versions, "only": None},
        "cells.json": {"main": {"arm": "main", "point": {}}},
        "claims.json": [{"says": "moved", "arm": "main", "verdict": "holds"}],
        "cells/main/cell.json": {"format": 1, "cell": "main", "worlds": 1, "stages": [],
                                 "hidden": [], "hidden_rounds": [], "files": {}, "seal": 1},
    }  # fmt: skip
    (folder / "cells" / "main").mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    for name in ("scenario.yaml", "resolved.yaml"):
        (folder / name).write_text("name: old\nenv: {kind: coevolution, people: 4}\n")


def _check_refusal(caught: pytest.ExceptionInfo[UserError], path: str, *parts: str) -> None:
    assert (caught.value.code, caught.value.path) == ("incompatible", path)
    (line,) = str(caught.value).splitlines()
    for part in parts:
        assert part in line
    check_message(line.replace(mores_version(), "..."))


@pytest.mark.parametrize("read", [open_run, resume_run])
@pytest.mark.parametrize(
    ("manifest", "versions", "found", "writer"),
    [
        ({}, {"mores": "0.1.0", "torch": "2.6"}, "format 1,", "by mores 0.1.0;"),
        ({}, {}, "format 1,", "by mores 0.1.0 or older;"),
        (
            {"format": RUN_FORMAT + 1, "mores_version": "9.0"},
            {},
            f"format {RUN_FORMAT + 1},",
            "by mores 9.0;",
        ),
        ({"mores_version": "9\n\x1b[1m"}, {}, "format 1,", "by mores 0.1.0 or older;"),
    ],
)
def test_runs(workdir, read, manifest, versions, found, writer):
    _old_run(workdir / "old", manifest, versions)
    before = {path: path.stat().st_mtime_ns for path in (workdir / "old").rglob("*")}
    with pytest.raises(UserError) as caught:
        read(workdir / "old")
    _check_refusal(caught, "old", found, writer, f"reads format {RUN_FORMAT}")
    assert {path: path.stat().st_mtime_ns for path in (workdir / "old").rglob("*")} == before


@pytest.mark.parametrize("read", [open_run, resume_run])
def test_a_run_without_a_manifest(workdir, read):
    """As before run.json was introduced."""
    _old_run(workdir / "old", {}, {"mores": "0.0.1"})
    (workdir / "old" / "run.json").unlink()
    with pytest.raises(UserError) as caught:
        read(workdir / "old")
    _check_refusal(caught, "old", "without a format number,", "by mores 0.0.1;")


@pytest.mark.parametrize("read", [open_run, resume_run])
@pytest.mark.parametrize(
    "text",
    [None, "", "[]", "null", "5", "\0", "[" * 100_000, '{"format": 2.0}', "{}", '{"format": "2"}'],
)
def test_a_damaged_manifest(workdir, read, text):
    """Missing from a run of this version, not JSON, not an object, or without the right number."""
    _old_run(workdir / "old", {}, {"mores": mores_version()})
    (workdir / "old" / "run.json").unlink()
    if text is not None:
        (workdir / "old" / "run.json").write_text(text)
    with pytest.raises(UserError) as caught:
        read(workdir / "old")
    assert caught.value.code == ("incompatible" if text and "format" in text else "unreadable")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("key", "changes", "found", "writer"),
    [
        ("about", {}, "format 2,", "by mores 0.1.0 or older;"),
        ("metadata", {"format": TRAINED_FORMAT + 1, "mores_version": "9.0"},
         f"format {TRAINED_FORMAT + 1},", "by mores 9.0;"),
    ],
)  # fmt: skip
def test_trained_policies(workdir, key, changes, found, writer):
    """The first is a small file with the keys that mores 0.1.0 wrote."""
    tensors = {"replicate": torch.zeros(1, dtype=torch.int64), "world": torch.zeros(1).long()}
    text = json.dumps({
        "format": 2, "game": {"kind": "matrix_game"}, "players": {"player": {"kind": "ppo"}},
        "people": None, "learners": ["player"], "episodes": 1, "rounds": 4, "seed": 0,
        "troubles": [], "memory": {"": {"keys": ["player"]}}, **changes,
    })  # fmt: skip
    checksum = zlib.crc32(text.encode())
    for name, tensor in sorted(tensors.items()):
        checksum = zlib.crc32(f"{name} {list(tensor.shape)} {tensor.dtype}".encode(), checksum)
        checksum = zlib.crc32(tensor.view(torch.uint8).numpy().data, checksum)
    save_file(tensors, workdir / "old.safetensors", {key: text, "checksum": str(checksum)})
    with pytest.raises(UserError) as caught:
        load_trained("old.safetensors")
    _check_refusal(caught, "old.safetensors", found, writer, f"reads format {TRAINED_FORMAT}")

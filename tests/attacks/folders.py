"""Run folders that an attacker, a careless user or a failing disk has changed.

Each attack changes the copy of a finished run. `outside` is a folder of the user's own files beside
it. Checksums are made anew where the attacker would do so: they protect from accidents alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mores import UserError, open_run
from mores.experiments.results import atomic_files
from mores.experiments.results.checked_files import SEAL, self_checksum
from mores.experiments.results.run_manifest import digest_of
from mores.experiments.run import engine, run_scenario
from mores.experiments.scenario.loading import load_scenario

SCENARIO = """\
name: small
about: A small community, in which an assistant trains.
env: {kind: coevolution, num_people: 3, noise_std: 0.1, ai_influence: 0.1}
rounds: 3
replicates: 2
metrics: [rms_distance]
arms:
  mirror: {policies.assistant: {kind: mirror}}
  learner: {policies.assistant: {kind: ppo, num_steps: 3}}
stages:
  - {name: train, loop: train, roles_to_train: assistant, episodes: 1}
  - {name: test}
claims:
  - {statement: apart, kind: report, metric: rms_distance, arm: mirror}
"""
CELL = "cells/mirror"
Attack = Callable[[Path, Path], object]


def run_small(folder: Path, *overrides: str, **options: Any) -> Path:
    """A finished run; its report is one word, since a real one takes seconds."""
    file = folder.with_name(f"{folder.name}.yaml")
    file.write_text(SCENARIO)
    with short_report():
        run_scenario(load_scenario(file, overrides), folder, progress=False, **options)
    return folder


@contextmanager
def short_report() -> Iterator[None]:
    """Runs write a report of one word."""

    def write(run_plan: Any, *_: Any) -> None:
        atomic_files.write_text(run_plan.folder / "report.html", "report")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "_write_report", write)
        yield


def copy_run(template: Path, target: Path) -> Path:
    return Path(shutil.copytree(template, target, symlinks=True))


def numbers(folder: Path) -> str:
    """Digest of every number that a reader of a run can get."""
    run, parts = open_run(folder), list[Any]()
    for cell in run.cells:
        frame = run.dataframe(cell)
        parts += [cell, frame.astype(str).to_csv(), run.metrics(cell).to_dict()]
        parts += [run.trajectory(cell).to_dict(), run.checkpoints(cell)]
        for stage, role in run.checkpoints(cell):
            checkpoint = run.checkpoint(cell, stage, role)
            parts += [n + str(t.tolist()) for n, t in checkpoint.tensors.items()]
    parts += [claim["estimate"] for claim in run.claims]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def outcome(action: Callable[[], Any]) -> Any:
    """What an action returns, or its error, which must be one line for the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of cells of other code
        try:
            return action()
        except UserError as error:
            assert error.code and len(str(error).splitlines()) == 1, error
            assert len(str(error)) < 1000, error
            return error


def snapshot(folder: Path) -> dict[str, Any]:
    """Everything in a folder: content of files, targets of links, times."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content: Any = None
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file() and status.st_size < 2**24:
            content = path.read_bytes()
        found[str(path.relative_to(folder))] = (status.st_mode, status.st_mtime_ns, content)
    return found


def reseal(path: Path, change: Callable[[Any], object]) -> None:
    """Change a sealed JSON object, and make its checksum anew."""
    content = json.loads(path.read_text())
    content.pop(SEAL)
    change(content)
    path.write_text(json.dumps({**content, SEAL: self_checksum(content)}))


def reseal_cell(folder: Path, change: Callable[[Any], object] = lambda content: None) -> None:
    """Make the checksums of a cell's files anew."""

    def update(content: Any) -> None:
        content["files"] = {
            str(path.relative_to(folder)): [path.stat().st_size, zlib.crc32(path.read_bytes())]
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != "cell.json"
        }
        change(content)

    reseal(folder / "cell.json", update)


def reseal_cells_file(run: Path, change: Callable[[Any], object]) -> None:
    """Change `cells.json`, and its digest in `run.json`."""
    content = json.loads((run / "cells.json").read_text())
    change(content)
    text = json.dumps(content)
    (run / "cells.json").write_text(text)
    digest = digest_of(text.encode())
    reseal(run / "run.json", lambda manifest: manifest.update(cells_digest=digest))


def change_json(path: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


class Marker:
    """An object whose unpickling creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def pickled_marker(outside: Path) -> bytes:
    return pickle.dumps(Marker(outside / "marker"))


def array_folder(run: Path) -> Path:
    return run / CELL / "trajectory.zarr" / "values"


def zarr_2_pickle(run: Path, outside: Path) -> None:
    """An array of Zarr format 2 whose filter unpickles its chunks."""
    group = run / CELL / "trajectory.zarr"
    array = group / "values"
    shutil.rmtree(array)
    array.mkdir()
    (group / ".zgroup").write_text('{"zarr_format": 2}')
    (group / "zarr.json").unlink()
    (array / ".zarray").write_text(json.dumps({
        "zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|O", "fill_value": None,
        "order": "C", "compressor": None, "filters": [{"id": "pickle", "protocol": 5}],
    }))  # fmt: skip
    (array / ".zattrs").write_text('{"_ARRAY_DIMENSIONS": ["sample"]}')
    (array / "0").write_bytes(pickled_marker(outside))
    reseal_cell(run / CELL)


def array_json(**changes: Any) -> Attack:
    """Change the description of an array."""

    def attack(run: Path, outside: Path) -> None:
        change_json(array_folder(run) / "zarr.json", lambda content: content.update(changes))
        reseal_cell(run / CELL)

    return attack


def pickle_codec(run: Path, outside: Path) -> None:
    codecs = [{"name": "numcodecs.pickle", "configuration": {}}]
    array_json(codecs=codecs)(run, outside)
    for chunk in (array_folder(run) / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(pickled_marker(outside))
    reseal_cell(run / CELL)


def group_json(**changes: Any) -> Attack:
    def attack(run: Path, outside: Path) -> None:
        path = run / CELL / "trajectory.zarr" / "zarr.json"
        change_json(path, lambda content: content.update(changes))
        reseal_cell(run / CELL)

    return attack


def missing_chunk(run: Path, outside: Path) -> None:
    shutil.rmtree(array_folder(run) / "c")
    reseal_cell(run / CELL)


def zstd_bomb(run: Path, outside: Path) -> None:
    """A chunk that says that it has a terabyte."""
    for chunk in (array_folder(run) / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 2**40) + b"\x01\0\0")
    reseal_cell(run / CELL)


def parquet(**options: Any) -> Attack:
    """The same table with another codec or encoding."""

    def attack(run: Path, outside: Path) -> None:
        import pyarrow.parquet as pq

        path = run / CELL / "metrics.parquet"
        pq.write_table(pq.read_table(path), path, **options)
        reseal_cell(run / CELL)

    return attack


def parquet_columns(change: Callable[[Any], Any]) -> Attack:
    """Another table."""

    def attack(run: Path, outside: Path) -> None:
        import pyarrow.parquet as pq

        path = run / CELL / "metrics.parquet"
        pq.write_table(change(pq.read_table(path)), path)
        reseal_cell(run / CELL)

    return attack


def pickled_column(table: Any) -> Any:
    import pyarrow as pa

    return table.set_column(7, "value", pa.array([b"\x80\x05N."] * len(table), pa.binary()))


def with_nulls(table: Any) -> Any:
    import pyarrow as pa

    return table.set_column(7, "value", pa.array([None] * len(table), pa.float32()))


def pickled_checkpoint(run: Path, outside: Path) -> None:
    cell = run / "cells" / "learner"
    (path,) = (cell / "checkpoints").glob("*.safetensors")
    path.write_bytes(pickled_marker(outside))
    reseal_cell(cell)


def link(name: str, target: str = "", is_copy: bool = False) -> Attack:
    """A link in place of a file or folder of the run, or beside them.

    Args:
        name: what is replaced.
        target: name in `outside`; by default `outside` itself.
        is_copy: the target has the content that the run had.
    """

    def attack(run: Path, outside: Path) -> None:
        path, goal = run / name, outside / target if target else outside
        if is_copy:
            shutil.move(path, goal := outside / "moved")
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.parent.mkdir(exist_ok=True)
            path.unlink(missing_ok=True)
        path.symlink_to(goal)

    return attack


def linked_part(run: Path, outside: Path) -> None:
    """A hidden folder that `resume` removes, with a link in it."""
    (run / "cells" / ".mirror.1.part").mkdir()
    (run / "cells" / ".mirror.1.part" / "trajectory.zarr").symlink_to(outside)


def link_in_damaged_cell(run: Path, outside: Path) -> None:
    (run / CELL / "cell.json").write_text("{}")
    (run / CELL / "notes").symlink_to(outside)


def file_in_damaged_cell(run: Path, outside: Path) -> None:
    (run / CELL / "cell.json").write_text("{}")
    (run / CELL / "thesis.txt").write_text("years of work")


def pipe(name: str) -> Attack:
    """A pipe, which blocks the process that opens it."""

    def attack(run: Path, outside: Path) -> None:
        path = run / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        os.mkfifo(path)

    return attack


def folder_for_file(name: str) -> Attack:
    def attack(run: Path, outside: Path) -> None:
        (run / name).unlink()
        (run / name).mkdir()

    return attack


def file_for_folder(name: str) -> Attack:
    def attack(run: Path, outside: Path) -> None:
        shutil.rmtree(run / name)
        (run / name).write_text("a file")

    return attack


def text(name: str, content: bytes | str) -> Attack:
    """A file with another content."""

    def attack(run: Path, outside: Path) -> None:
        data = content.encode() if isinstance(content, str) else content
        (run / name).write_bytes(data)

    return attack


def sparse(name: str) -> Attack:
    """A file of a terabyte that takes no space."""

    def attack(run: Path, outside: Path) -> None:
        with (run / name).open("r+b") as file:
            file.truncate(2**40)

    return attack


def cell_name(name: str) -> Attack:
    """A cell with another name in the lists of the run."""

    def attack(run: Path, outside: Path) -> None:
        def rename(content: Any) -> None:
            content[name] = content.pop("mirror")

        reseal_cells_file(run, rename)
        reseal(run / "status.json", lambda content: content.update(done=[name, "learner"]))

    return attack


def listed_file(name: str) -> Attack:
    """A cell that lists a file outside its folder."""

    def attack(run: Path, outside: Path) -> None:
        entry = [5, zlib.crc32(b"files")]
        reseal_cell(run / CELL, lambda content: content["files"].update({name: entry}))

    return attack


def cell_metadata(**changes: Any) -> Attack:
    def attack(run: Path, outside: Path) -> None:
        reseal_cell(run / CELL, lambda content: content.update(changes))

    return attack


def swapped(run: Path, outside: Path) -> None:
    """The cells of two arms change places."""
    os.rename(run / CELL, run / "aside")
    os.rename(run / "cells" / "learner", run / CELL)
    os.rename(run / "aside", run / "cells" / "learner")


def renamed_and_swapped(run: Path, outside: Path) -> None:
    """As before, and each cell says that it is the other."""
    swapped(run, outside)
    for name in ("mirror", "learner"):
        cell = run / "cells" / name
        reseal_cell(cell, lambda content, name=name: content.update(cell=name))


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def bits(folder: Path, count: int | None = None, seed: int = 0) -> list[tuple[str, int]]:
    """Bits of the files in a folder, without figures and the log: all, or so many at random."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    paths = [path for path in paths if path.suffix not in (".png", ".txt")]
    ends = np.cumsum([8 * path.stat().st_size for path in paths])
    indices = np.arange(ends[-1])
    if count is not None:
        indices = np.random.default_rng(seed).integers(ends[-1], size=count)
    files = np.searchsorted(ends, indices, side="right")
    starts = np.concatenate([[0], ends])[files]
    pairs = zip(files.tolist(), (indices - starts).tolist(), strict=True)
    return [(str(paths[file].relative_to(folder)), bit) for file, bit in pairs]

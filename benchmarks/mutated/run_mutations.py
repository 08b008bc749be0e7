"""Mutations of a run's folder, by a seeded generator: contents, kinds of files, cells, formats.

Half of the changes of JSON objects and of a cell's files are *re-sealed*: all checksums are made
anew, as an attacker would do. Then the numbers that the files hold may change.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.mutated.vocabulary import TOKENS, VALUES
from mores.experiments.results.checked_files import SEAL, self_checksum
from mores.experiments.results.run_manifest import digest_of
from tests.attacks import folders
from tests.attacks.test_hostile_folders import ATTACKS

CELLS = ("mirror", "learner")
SEALED = ("run.json", "status.json", "provenance.json", "cells/mirror/cell.json",
          "cells/learner/cell.json")  # fmt: skip
RAW_NUMBERS = ("1e999", "-1e999", "NaN", "1e-400", "9" * 5000, "1" * 400 + ".5", "-0", "1E5")
RAW = re.compile(r'"raw ([^"]*)"')
FAULTS_OF_MUTATIONS = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError,
                       MemoryError)  # fmt: skip
EXTREME_NUMBERS = (float("nan"), float("inf"), float("-inf"), 3e38, -3e38, 1e-45, -0.0, 0.0, 1.0)
MAX_MUTATIONS = 3  # of a folder


@dataclasses.dataclass
class MutatedRun:
    """A copy of a run that is mutated.

    Attributes:
        folder: the copy.
        outside: a folder of the user's own files.
        others: finished runs of the same arms with other numbers.
        rng: generator of the mutations.
        mutations: names of the mutations.
        resealed: files, and names of cells, whose checksums were made anew.
    """

    folder: Path
    outside: Path
    others: Mapping[str, Path]
    rng: Random
    mutations: list[str] = dataclasses.field(default_factory=list)
    resealed: set[str] = dataclasses.field(default_factory=set)

    def mutate(self) -> None:
        """Make one to three mutations; those that the previous ones made impossible are omitted.

        A pipe is the last one: the next could wait for it.
        """
        names = list(MUTATIONS)
        for name in self.rng.choices(names, WEIGHTS, k=self.rng.randint(1, MAX_MUTATIONS)):
            if any(path.is_fifo() for path in self.folder.rglob("*")):
                return
            try:
                MUTATIONS[name](self)
                self.mutations.append(name)
            except FAULTS_OF_MUTATIONS:
                self.mutations.append(f"{name} (impossible)")

    def any_file(self, under: str = "") -> Path:
        """A regular file of the run."""
        paths = sorted((self.folder / under).rglob("*"))
        return self.rng.choice([p for p in paths if p.is_file() and not p.is_symlink()])

    def any_path(self) -> Path:
        """A file or folder of the run: of the first levels in one of two cases."""
        pattern = self.rng.choice(("*", "cells/*", "cells/*/*", "**/*", "**/*", "**/*"))
        return self.rng.choice(sorted(self.folder.glob(pattern)))

    def cell_of(self, path: Path) -> str:
        """The cell that has a file; an empty text for files of the run."""
        parts = path.relative_to(self.folder).parts
        return parts[1] if len(parts) > 2 and parts[0] == "cells" else ""

    def reseal_all(self, path: Path) -> None:
        """Make the checksums of a changed file anew, where there are any."""
        cell, name = self.cell_of(path), path.name
        if cell:
            self.resealed.add(cell)
            if name != "cell.json":
                folders.reseal_cell(self.folder / "cells" / cell)
        elif name == "cells.json":
            self.resealed.add(name)
            digest = digest_of(path.read_bytes())
            folders.reseal(self.folder / "run.json", lambda m: m.update(cells_digest=digest))
        elif name in ("claims.json", "report.html"):
            self.resealed.add(name)
            self.resealed.add("status.json")
            data = path.read_bytes()
            entry = {name: [len(data), zlib.crc32(data)]}
            folders.reseal(self.folder / "status.json", lambda s: s["files"].update(entry))
        else:
            self.resealed.add(name)


def mutated_bytes(data: bytes, rng: Random) -> bytes:
    """Other content of a file: bits, blocks, lengths."""
    changed = bytearray(data)
    action = rng.randrange(8)
    if action < 3 and changed:
        for _ in range(rng.choice((1, 1, 2, 8, 100))):
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    elif action == 3:
        del changed[rng.randrange(len(changed) + 1) :]
    elif action == 4:
        changed += rng.choice((b"\0", b"\n", rng.randbytes(9), bytes(changed), b"\0" * 2**20))
    elif action == 5:
        start = rng.randrange(len(changed) + 1)
        changed[start : start + rng.choice((1, 4, 512))] = rng.choice((b"", b"\0" * 512, b"\xff"))
    elif action == 6:
        start = rng.randrange(len(changed) + 1)
        token = rng.choice(TOKENS).encode("utf-8", "surrogatepass")
        changed[start : start + rng.choice((0, 1, 8))] = token
    else:
        changed[:] = rng.choice((b"", b"{}", b"[]", b"null", b"PAR1", b"\x80\x04N.", b"\x28\xb5"))
    return bytes(changed)


def _change_bytes(run: MutatedRun) -> None:
    path = run.any_file(run.rng.choice(("", "cells")))
    path.write_bytes(mutated_bytes(path.read_bytes(), run.rng))


def _change_cell_bytes(run: MutatedRun) -> None:
    """Bytes of a file of a cell, re-sealed: the decoders of files get them."""
    path = run.any_file(f"cells/{run.rng.choice(CELLS)}")
    data = path.read_bytes()
    if path.name == "cell.json":
        raise ValueError("sealed otherwise")
    path.write_bytes(mutated_bytes(data, run.rng))
    run.reseal_all(path)


def _entries(content: Any) -> list[tuple[Any, Any]]:
    """Holder and key of every value of a JSON object, at every level."""
    keys = content if isinstance(content, dict) else range(len(content))
    found = [(content, key) for key in keys]
    for holder, key in list(found):
        if isinstance(holder[key], (dict, list)):
            found += _entries(holder[key])
    return found


def _nested(rng: Random) -> Any:
    value: Any = 1
    for _ in range(rng.choice((3, 60, 63, 64, 65, 900))):
        value = {"a": value} if rng.random() < 0.5 else [value]
    return value


def _edit(content: Any, rng: Random) -> None:
    """Change one entry of a JSON object."""
    holder, key = rng.choice(_entries(content))
    other_holder, other_key = rng.choice(_entries(content))
    action = rng.randrange(9)
    if action < 3:
        holder[key] = rng.choice(VALUES)
    elif action == 3:
        holder[key] = f"raw {rng.choice(RAW_NUMBERS)}"
    elif action == 4:
        del holder[key]
    elif action == 5:
        holder[key], other_holder[other_key] = other_holder[other_key], holder[key]
    elif action == 6:
        holder[key] = rng.choice(
            ([holder[key]], {"a": holder[key]}, str(holder[key]), _nested(rng))
        )
    elif action == 7:
        holder[key] = rng.choice(
            ("x" * 10**6, list(range(10**5)), "../../outside", "\x1b[2J\n" * 9)
        )
    elif isinstance(holder, dict):
        holder[str(rng.choice(VALUES))[:300]] = rng.choice(VALUES)
    else:
        holder.extend([holder[key]] * rng.choice((1, 1000)))


def _change_json(run: MutatedRun) -> None:
    """Values, types and keys of a JSON file, re-sealed in one of two cases."""
    paths = [p for p in sorted(run.folder.rglob("*.json")) if p.is_file() and not p.is_symlink()]
    main = [p for p in paths if "trajectory.zarr" not in p.parts]
    path = run.rng.choice(run.rng.choice((main, main, paths)))
    content = json.loads(path.read_text())
    for _ in range(run.rng.randint(1, 3)):
        _edit(content, run.rng)
    if run.rng.random() < 0.5:
        path.write_text(_text(content))
    elif str(path.relative_to(run.folder)) in SEALED:
        run.reseal_all(path)
        content.pop(SEAL, None)
        seal = self_checksum(json.loads(_text(content)))
        path.write_text(_text({**content, SEAL: seal}))
    else:
        path.write_text(_text(content))
        run.reseal_all(path)


def _text(content: Any) -> str:
    return RAW.sub(r"\1", json.dumps(content))


def _change_numbers(run: MutatedRun) -> None:
    """Values or types of a column of a table, re-sealed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = run.folder / "cells" / run.rng.choice(CELLS) / "metrics.parquet"
    table = pq.read_table(path)
    name = run.rng.choice((*table.column_names, "value", "value"))
    column = table.schema.get_field_index(name)
    values = table[name].to_pylist()
    for _ in range(run.rng.choice((1, 3, len(values)))):
        index = run.rng.randrange(len(values))
        if name == "value":
            values[index] = run.rng.choice(EXTREME_NUMBERS)
        elif isinstance(values[index], str):
            values[index] = run.rng.choice(("", "x", "train", "\x1b", "a" * 999, values[0]))
        else:
            values[index] = run.rng.choice((-1, 0, 1, 2**31 - 1, -(2**31), values[0]))
    changed = pa.array(values, table.schema.field(name).type)
    pq.write_table(table.set_column(column, name, changed), path)
    run.reseal_all(path)


def _change_text(run: MutatedRun) -> None:
    """Tokens of the scenario, before or after it was resolved, or of the log."""
    path = run.folder / run.rng.choice(("scenario.yaml", "resolved.yaml", "log.txt"))
    words = re.findall(r"\w+|\s+|[^\w\s]", path.read_text(encoding="utf-8"))
    for _ in range(run.rng.randint(1, 3)):
        words[run.rng.randrange(len(words))] = run.rng.choice((*TOKENS, *words))
    path.write_bytes("".join(words).encode("utf-8", "surrogatepass"))


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _remove_path(run: MutatedRun) -> None:
    _remove(run.any_path())


def _replace_kind(run: MutatedRun) -> None:
    """A link, a pipe, a folder, a file or a file without an end in place of a path."""
    path, outside = run.any_path(), run.outside
    kind = run.rng.randrange(7)
    if kind == 0:  # the same content, elsewhere
        target = outside.with_name("moved")
        _remove(target) if target.exists() else None
        shutil.move(path, target)
        path.symlink_to(target)
        return
    if kind == 1:  # takes no space
        with path.open("r+b") as file:
            file.truncate(run.rng.choice((2**26, 2**26 + 1, 2**33, 2**34, 2**40)))
        return
    _remove(path)
    targets = (outside, outside / "files", outside / "nowhere", path, Path("/dev/zero"), run.folder)
    match kind:
        case 2 | 3:
            path.symlink_to(run.rng.choice(targets))
        case 4:
            os.mkfifo(path)
        case 5:
            path.mkdir()
        case _:
            path.write_text("a file")


def _swap_cells(run: MutatedRun) -> None:
    """The cells of two arms, as they are, renamed, or with a file of the other."""
    action = run.rng.randrange(4)
    if action == 0:
        folders.swapped(run.folder, run.outside)
    elif action == 1:
        run.resealed |= {*CELLS}
        folders.renamed_and_swapped(run.folder, run.outside)
    else:
        cells = [run.folder / "cells" / name for name in CELLS]
        names = ("metrics.parquet", "cell.json", "trajectory.zarr/values/c/0/0/0/0")
        paths = [cell / run.rng.choice(names) for cell in cells]
        contents = [path.read_bytes() for path in paths]
        for path, content in zip(paths, reversed(contents), strict=True):
            path.write_bytes(content)
        if action == 3:
            run.resealed |= {*CELLS}
            for cell in cells:
                folders.reseal_cell(cell, lambda c, cell=cell: c.update(cell=cell.name))


def _take_from_other_run(run: MutatedRun) -> None:
    """A cell or a file of another run; the cell re-sealed as one of this run in one of three."""
    other = run.others[run.rng.choice(sorted(run.others))]
    if run.rng.random() < 0.4:
        path = run.any_file()
        run.resealed |= {path.name} & {"status.json", "provenance.json"}  # they have their seals
        shutil.copyfile(other / path.relative_to(run.folder), path)
        return
    cell = run.rng.choice(CELLS)
    folder = run.folder / "cells" / cell
    identity = json.loads((folder / "cell.json").read_text())["identity"]
    shutil.rmtree(folder)
    shutil.copytree(other / "cells" / cell, folder)
    if run.rng.random() < 1 / 3:
        run.resealed.add(cell)
        folders.reseal(folder / "cell.json", lambda content: content.update(identity=identity))


def _attack(run: MutatedRun) -> None:
    """One of the attacks that have a test of their own."""
    run.resealed.add("status.json")
    ATTACKS[run.rng.choice(list(ATTACKS))](run.folder, run.outside)


def _add_files(run: MutatedRun) -> None:
    """Files that no run writes, and temporary files of a killed run."""
    names = (".status.json.7.part", "cells/.mirror.checkpoint", "cells/.mirror.7.part", "notes",
             "cells/notes", "cells/mirror/notes", "cells/mirror/checkpoints/x.y.json", "figures",
             "cells/\udcff", "\x1b[2J", "sensitivity.json")  # fmt: skip
    path = run.folder / run.rng.choice(names)
    path.parent.mkdir(exist_ok=True)
    path.mkdir() if run.rng.random() < 0.3 else path.write_bytes(run.rng.randbytes(9))


def _name_plugin(run: MutatedRun) -> None:
    """The manifest names Python files, which must not be run."""
    file = run.outside / "plugin.py"
    entries = [{"path": str(file), "digest": digest_of(file.read_bytes())}]
    folders.reseal(run.folder / "run.json", lambda content: content.update(plugin_files=entries))


MUTATIONS: dict[str, Callable[[MutatedRun], None]] = {
    "bytes": _change_bytes,
    "bytes of a cell, re-sealed": _change_cell_bytes,
    "JSON": _change_json,
    "numbers, re-sealed": _change_numbers,
    "text": _change_text,
    "removed": _remove_path,
    "kind": _replace_kind,
    "cells swapped": _swap_cells,
    "of another run": _take_from_other_run,
    "attack": _attack,
    "added": _add_files,
    "plugin": _name_plugin,
}
WEIGHTS = (4, 4, 8, 2, 1, 1, 2, 1, 1, 3, 1, 0.5)

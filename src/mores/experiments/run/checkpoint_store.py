"""A cell while it is played: where play stands, kept on disk so that hours are not lost.

`cells/.<cell>.working/` holds one file of tensors, and `about.json`, which names it, with its
checksum, and says what it is a state of. A new state is written beside the old one; that
`about.json` is then replaced, at once, is what makes it the state. What is damaged, or was left by
other code or for another experiment, is ignored: the cell is played from its start. The folder goes
when the cell is there.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
import time
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from mores.experiments.results import atomic_files
from mores.experiments.results.provenance import surroundings
from mores.experiments.results.pytree_serialization import CannotPack
from mores.experiments.run.run_folder import digest
from mores.experiments.scenario.cell import Cell
from mores.experiments.scenario.specification import Scenario

ENDING = ".working"
ABOUT = "about.json"
FORMAT = 1
OFTEN = 60.0  # seconds between states within a stage
SOON = 5.0  # seconds between states at the ends of stages, and before the first
SHARE = 0.05  # of the time may go into writing them
LARGEST = 2**30  # bytes of a state: where it takes more, a cell is played from its start


class State(NamedTuple):
    """Where play stands, and all that decides how it goes on: tensors, and the rest as JSON."""

    at: tuple[int, int, int]
    tensors: Mapping[str, Tensor]
    about: Mapping[str, Any]


class Working:
    """The working folder of a cell.

    Args:
        folder: of the cell, as it will be.
        cell, scenario: what is played: a state of anything else is of no use.
        replicates: which are played.
        modules: Python files of the user's own that it needs.
    """

    def __init__(
        self,
        folder: Path,
        cell: Cell,
        scenario: Scenario,
        replicates: Sequence[int],
        modules: Sequence[str] = (),
    ) -> None:
        self.path = folder.with_name(f".{folder.name}{ENDING}")
        self.notes: list[str] = []  # for the log
        self._cell, self._scenario = cell, scenario
        self._replicates, self._modules = list(replicates), modules
        self._number, self._off = 0, False
        self._last, self._cost = time.monotonic(), 0.0

    def due(self, stage_over: bool) -> bool:
        """Whether it is time to write where play stands."""
        if self._off:
            return False
        often = SOON if stage_over else OFTEN
        return time.monotonic() - self._last >= max(often, self._cost / SHARE)

    def write(self, make: Callable[[], State]) -> None:
        """Write where play stands; where that cannot be, say so once, and write nothing more.

        Args:
            make: gives the state.
        """
        began = time.monotonic()
        try:
            state = make()
            size = sum(tensor.nbytes for tensor in state.tensors.values())
            if size > LARGEST:
                raise CannotPack(f"{size:,} bytes are too many")
            self._write(state)
        except (CannotPack, atomic_files.CannotWrite, RuntimeError, ValueError, KeyError) as error:
            self._off = True
            self.remove()
            self.notes.append(f"if it is stopped, it will be played from its start: {error}")
        self._last = time.monotonic()
        self._cost = self._last - began

    def _write(self, state: State) -> None:
        from safetensors.torch import save

        with atomic_files.telling(self.path):
            self.path.mkdir(exist_ok=True)
        self._number += 1
        name = f"{os.getpid()}-{self._number}.safetensors"
        data = save(dict(state.tensors))
        atomic_files.write_bytes(self.path / name, data)
        about = {
            "format": FORMAT,
            "of": self._of,
            "at": list(state.at),
            "file": name,
            "bytes": len(data),
            "checksum": zlib.crc32(data),
            "state": dict(state.about),
        }
        text = json.dumps({**about, "seal": _seal(about)})
        atomic_files.write_bytes(self.path / ABOUT, text.encode())
        with atomic_files.telling(self.path):
            for other in self.path.iterdir():
                if other.name not in (name, ABOUT):
                    other.unlink(missing_ok=True)

    def read(self) -> State | None:
        """Where play stood when the process that played ended; None where nothing is of use."""
        from safetensors.torch import load

        if not (self.path / ABOUT).exists():
            return None
        try:
            about = json.loads((self.path / ABOUT).read_bytes())
            if about.pop("seal") != _seal(about):
                raise ValueError("it was changed")
            data = (self.path / Path(about["file"]).name).read_bytes()
            if [len(data), zlib.crc32(data)] != [about["bytes"], about["checksum"]]:
                raise ValueError("it was changed")
            if about["format"] != FORMAT or about["of"] != self._of:
                raise ValueError("it is of other code, or of another experiment")
            return State(tuple(about["at"]), load(data), about["state"])
        except Exception as error:  # of many kinds: whatever it is, the cell can be played anew
            self.notes.append(f"where it stood before is of no use: {error}")
            return None

    def remove(self) -> None:
        """Take the folder away, if there is one."""
        with contextlib.suppress(OSError):
            shutil.rmtree(self.path)

    @functools.cached_property
    def _of(self) -> str:
        """Stands for what is played, and by which code."""
        here, cell = surroundings(), self._cell
        told = {
            "scenario": self._scenario.model_dump(mode="json"),
            "cell": [cell.id, cell.env, cell.people, cell.players, cell.purpose, cell.number],
            "stages": [stage.model_dump(mode="json") for stage in cell.stages],
            "replicates": self._replicates,
            "modules": [digest(Path(file)) for file in self._modules],
            "versions": here["versions"],
            "source": here["source"].get("digest"),
        }
        return hashlib.blake2b(json.dumps(told).encode(), digest_size=16).hexdigest()


def sweep(cells: Path, keep: Collection[str] = ()) -> None:
    """Take away working folders that nobody needs any more, all but those of the cells `keep`."""
    kept = {f".{cell}{ENDING}" for cell in keep}
    for path in cells.glob(f".*{ENDING}"):
        if path.name not in kept:
            shutil.rmtree(path, ignore_errors=True)


def _seal(about: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(about, sort_keys=True).encode())

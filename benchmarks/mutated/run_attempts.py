"""Guarded reading and resuming of a mutated run: errors, accesses, numbers, processor time."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import re
import signal
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.mutated.attempts import MAX_SECONDS, READABLE, message_faults
from benchmarks.mutated.guards import TimeLimitExceeded, describe_failure, time_limit, watched
from benchmarks.mutated.run_mutations import FAULTS_OF_MUTATIONS
from mores import UserError, open_run
from mores.experiments.run import resume_run
from tests.attacks.folders import reseal, short_report

MAX_WAITING = 60.0  # seconds of wall time, of a process that waits for a pipe
# A run folder has the name of the machine: `socket.gethostname` is no access to a network.
NETWORK = ("socket.__new__", "socket.bind", "socket.connect", "socket.getaddrinfo",
           "socket.gethostby", "socket.getnameinfo", "socket.sendmsg", "socket.sendto")  # fmt: skip
FORBIDDEN = (*NETWORK, "subprocess.", "pty.", "pickle.", "urllib.", "os.system", "os.exec",
             "os.fork", "os.posix_spawn", "os.spawn", "os.kill", "os.putenv")  # fmt: skip
CODE = ("exec", "marshal.", "compile", "import", "code.__new__", "function.__new__", "ctypes.")
CHANGES = {  # of files: the positions of the path and of the descriptor of its folder
    "os.remove": [(0, 1)], "os.rmdir": [(0, 1)], "os.mkdir": [(0, 2)], "os.truncate": [(0, None)],
    "os.chmod": [(0, 2)], "os.chown": [(0, 3)], "os.utime": [(0, 3)], "os.symlink": [(1, 2)],
    "os.rename": [(0, 2), (1, 3)], "os.link": [(0, 2), (1, 3)], "shutil.rmtree": [(0, 1)],
    "shutil.move": [(0, None), (1, None)], "os.mkfifo": [(0, None)],
}  # fmt: skip


def _real(path: Any, descriptor: Any = -1) -> str:
    """The path of an entry of a folder, without links on the way to it."""
    text = os.fsdecode(path)
    if isinstance(descriptor, int) and descriptor >= 0:
        text = os.path.join(os.readlink(f"/proc/self/fd/{descriptor}"), text)
    folder, name = os.path.split(text.rstrip("/"))
    return os.path.join(os.path.realpath(folder), name)


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _fault(event: str, arguments: tuple[Any, ...], folder: Path, writing: bool) -> str:
    """What is wrong with an event; an empty text if nothing is.

    Args:
        event, arguments: the audit event.
        folder: the run, without links on its path. The folder above it may be read.
        writing: whether a resumed run may write into its folder, and import modules.
    """
    if event == "open":
        path, mode, flags = arguments
        if isinstance(path, int):
            return ""
        writes = isinstance(mode, str) and bool(set(mode) & set("wax+"))
        writes |= isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        name, follows = os.fsdecode(path), not (flags or 0) & os.O_NOFOLLOW
        if not writes and (writing or not follows) and "/" not in name and name != "..":
            return ""  # an entry of a folder that is open; `shutil.rmtree` compares it afterwards
        real = os.path.realpath(name) if follows else _real(name)
        if writes:
            allowed = writing and _is_below(real, str(folder))
        else:
            allowed = _is_below(real, str(folder.parent)) or real.startswith(READABLE)
        return "" if allowed else f"open {name!r:.120} {mode}"
    for path, descriptor in CHANGES.get(event, ()):
        at = -1 if descriptor is None else arguments[descriptor]
        if not writing or not _is_below(_real(arguments[path], at), str(folder)):
            return f"{event} {arguments!r:.200}"
    if event.startswith(FORBIDDEN) or (event.startswith(CODE) and not writing):
        return f"{event} {arguments!r:.120}"
    return ""


@dataclasses.dataclass
class Guarded:
    """A guarded action.

    Attributes:
        result: what it returned; its `UserError`; None after another exception.
        failures: what must not happen; empty if all is well.
        seconds: processor time.
    """

    result: Any
    failures: list[str]
    seconds: float


def guarded(action: Callable[[], Any], folder: Path, writing: bool = False) -> Guarded:
    """Do something with a run, under an audit hook and limits of time."""
    failures: list[str] = []
    result: Any = None
    start = time.process_time()
    find_fault = functools.partial(_fault, folder=folder.resolve(), writing=writing)
    with watched(find_fault) as accesses, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with time_limit(MAX_SECONDS), time_limit(MAX_WAITING, signal.ITIMER_REAL):
                result = action()
        except UserError as error:
            result = error
            failures += message_faults(error)
        except TimeLimitExceeded:
            failures.append(f"more than {MAX_SECONDS} s of processor time, or it waits")
        except Exception as error:
            failures.append(describe_failure(error, 7))
    failures += [f"access: {access}" for access in dict.fromkeys(accesses)]
    return Guarded(result, failures, time.process_time() - start)


def read_everything(folder: Path, cells: tuple[str, ...]) -> dict[str, str]:
    """Digests of what every reader of a run returns, or the codes of their errors.

    Errors are `UserError`s; their messages are checked.

    Raises:
        AssertionError: a message is not one printable line.
    """
    run = open_run(folder)
    readers: dict[str, Callable[[], object]] = {
        "status": lambda: run.status,
        "claims": lambda: run.claims,
        "estimates": lambda: [_estimate(claim) for claim in run.claims],
        "provenance": lambda: run.provenance,
        "cells": lambda: run.cells,
        "dataframe": lambda: _frame(run.dataframe()),
    }
    for cell in cells:
        readers[f"dataframe {cell}"] = lambda cell=cell: _frame(run.dataframe(cell))
        readers[f"metrics {cell}"] = lambda cell=cell: _dataset(run.metrics(cell))
        readers[f"trajectory {cell}"] = lambda cell=cell: _dataset(run.trajectory(cell))
        readers[f"checkpoints {cell}"] = lambda cell=cell: _checkpoints(run, cell)
    return {name: _digest(reader) for name, reader in readers.items()}


def _digest(reader: Callable[[], object]) -> str:
    try:
        return hashlib.blake2b(repr(reader()).encode("utf-8", "replace"), digest_size=8).hexdigest()
    except UserError as error:
        faults = list(message_faults(error))
        assert not faults, faults
        return f"refused: {error.code}"


def _estimate(claim: dict[str, Any]) -> list[Any]:
    return [claim.get(name) for name in ("estimate", "low", "high", "n", "verdict")]


def _frame(frame: Any) -> object:
    return frame.to_csv(), frame.dtypes.astype(str).tolist()


def _dataset(dataset: Any) -> object:
    return [
        (name, values.dims, str(values.dtype), values.shape, values.values.tolist())
        for name, values in sorted(dataset.variables.items())
    ]


def _checkpoints(run: Any, cell: str) -> object:
    found = []
    for stage, role in run.checkpoints(cell):
        checkpoint = run.checkpoint(cell, stage, role)
        tensors = {name: tensor.tolist() for name, tensor in checkpoint.tensors.items()}
        found.append((stage, role, tensors))
    return found


def changed_numbers(
    found: Mapping[str, str], expected: Mapping[str, str], resealed: set[str], resumed: bool
) -> list[str]:
    """Readers that return something else than for the untouched run, though nothing was re-sealed.

    Args:
        found: what they return.
        expected: what they return for the untouched run.
        resealed: files and cells whose checksums were made anew.
        resumed: the run was resumed: `status.json`, `claims.json` and `provenance.json` are new.
    """
    cells = {name for name in resealed if not name.endswith((".json", ".html"))}
    changed = []
    for name in expected:
        if found[name] == expected[name] or found[name].startswith("refused"):
            continue
        reader, _, rest = name.partition(" ")
        match reader:
            case "status" | "provenance":
                excused = resumed or f"{reader}.json" in resealed
            case "claims":
                excused = resumed or bool({"claims.json", "status.json"} & resealed)
            case "estimates":
                excused = bool({"claims.json", "status.json"} & resealed or (resumed and cells))
            case "cells":
                excused = "cells.json" in resealed or _differs_by_absence(found)
            case "dataframe" if not rest:
                excused = "cells.json" in resealed or bool(cells) or _differs_by_absence(found)
            case _:
                excused = rest.split(" ")[0] in cells
                excused |= reader == "dataframe" and "cells.json" in resealed
        if not excused:
            changed.append(name)
    return changed


def _differs_by_absence(found: Mapping[str, str]) -> bool:
    """Whether a cell is absent, of which a warning tells."""
    return any(re.fullmatch(r"refused: unknown_name", value) for value in found.values())


def resume_guarded(folder: Path, figures: bool) -> Guarded:
    """Resume a run; without figures its report is one word."""
    if figures:
        return guarded(lambda: resume_run(folder, progress=False), folder, writing=True)
    with short_report():
        return guarded(lambda: resume_run(folder, progress=False), folder, writing=True)


def set_running(folder: Path) -> None:
    """A status of a run that has not finished; the file may be damaged."""
    if not (folder / "status.json").is_file():
        return
    try:
        reseal(folder / "status.json", lambda status: status.update(state="running"))
    except FAULTS_OF_MUTATIONS:
        return

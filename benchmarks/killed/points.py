"""Commit points: the moments of a writing process at which a test can kill it."""

from __future__ import annotations

import functools
import os
import pathlib
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any


class CommitPoints:
    """Counts the commit points of this process, and kills it at one of them."""

    def __init__(self, last: int | None) -> None:
        self.last, self.num_passed = last, 0

    def pass_one(self) -> bool:
        """Count a point; return whether it is the last."""
        self.num_passed += 1
        return self.num_passed == self.last

    def install(self) -> None:
        """Put a point before and after each operation on names, and one into each write."""
        for module, name in ((os, "replace"), (os, "rename"), (os, "fsync"), (os, "mkdir"),
                             (os, "unlink"), (os, "rmdir")):  # fmt: skip
            setattr(module, name, self._wrap(getattr(module, name)))
        original_open = pathlib.Path.open

        def open_torn(path: Path, mode: str = "r", *rest: Any, **named: Any) -> Any:
            file = original_open(path, mode, *rest, **named)
            return _TornFile(file, self) if set(mode) & set("wax") else file

        pathlib.Path.open = open_torn  # type: ignore[method-assign]
        import pyarrow.parquet as pq
        import xarray as xr

        pq.ParquetWriter.write_table = self._wrap(pq.ParquetWriter.write_table)
        xr.Dataset.to_zarr = self._wrap(xr.Dataset.to_zarr)  # type: ignore[method-assign]

    def _wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapped(*arguments: Any, **named: Any) -> Any:
            if self.pass_one():
                kill_process()
            result = function(*arguments, **named)
            if self.pass_one():
                kill_process()
            return result

        return wrapped


class _TornFile:
    """A file with a commit point in the middle of each write."""

    def __init__(self, file: Any, points: CommitPoints) -> None:
        self._file, self._points = file, points

    def write(self, data: Any) -> Any:
        if self._points.pass_one():
            self._file.write(data[: len(data) // 2])
            self._file.flush()
            kill_process()
        return self._file.write(data)

    def __enter__(self) -> _TornFile:
        return self

    def __exit__(self, *error: Any) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def kill_process() -> None:
    """End this process by SIGKILL, which no handler can catch."""
    os.kill(os.getpid(), signal.SIGKILL)

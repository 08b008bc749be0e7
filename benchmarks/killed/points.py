"""Commit points: moments at which a process that writes may end, and ends if it is told to."""

from __future__ import annotations

import functools
import os
import pathlib
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Points:
    """Counts commit points in this process, and ends it at one of them."""

    def __init__(self, at: int | None) -> None:
        self.at, self.seen = at, 0

    def pass_one(self) -> bool:
        """Whether this point is the last."""
        self.seen += 1
        return self.seen == self.at

    def watch(self) -> None:
        """Put a point before and after each change of names, and one into each write."""
        for module, name in ((os, "replace"), (os, "rename"), (os, "fsync"), (os, "mkdir"),
                             (os, "unlink"), (os, "rmdir")):  # fmt: skip
            setattr(module, name, self._around(getattr(module, name)))
        opened = pathlib.Path.open

        def open_torn(path: Path, mode: str = "r", *rest: Any, **named: Any) -> Any:
            file = opened(path, mode, *rest, **named)
            return _Torn(file, self) if set(mode) & set("wax") else file

        pathlib.Path.open = open_torn  # type: ignore[method-assign]
        import pyarrow.parquet as pq
        import xarray as xr

        pq.ParquetWriter.write_table = self._around(pq.ParquetWriter.write_table)
        xr.Dataset.to_zarr = self._around(xr.Dataset.to_zarr)  # type: ignore[method-assign]

    def _around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def watched(*given: Any, **named: Any) -> Any:
            if self.pass_one():
                end()
            found = function(*given, **named)
            if self.pass_one():
                end()
            return found

        return watched


class _Torn:
    """A file whose writes may break off in the middle."""

    def __init__(self, file: Any, points: Points) -> None:
        self._file, self._points = file, points

    def write(self, data: Any) -> Any:
        if self._points.pass_one():
            self._file.write(data[: len(data) // 2])
            self._file.flush()
            end()
        return self._file.write(data)

    def __enter__(self) -> _Torn:
        return self

    def __exit__(self, *how: Any) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def end() -> None:
    """End this process as no handler can prevent."""
    os.kill(os.getpid(), signal.SIGKILL)

"""Log as a text file: one JSON object a step, readable with pandas.read_json(lines=True)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from mores.core.errors import UserError
from mores.core.tracker import Log, Tracker


class JSONLinesTracker(Tracker):
    """Appends `{"step": 3, "return_player": 1.5, ...}` to `FOLDER/NAME.jsonl`."""

    @contextlib.contextmanager
    def open(self, name: str, folder: Path, parameters: Mapping[str, object]) -> Iterator[Log]:
        """See `Tracker`. Parameters are not written."""
        path = folder / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():  # a pipe would block
            raise UserError(f"{path} is not a regular file", code="not_writable", path="track")
        with path.open("a", encoding="utf-8") as file:

            def log(step: int, values: Mapping[str, float]) -> None:
                line = json.dumps({"step": step, **values}, allow_nan=False)
                file.write(f"{line}\n")
                file.flush()  # a training is read while it runs

            yield log

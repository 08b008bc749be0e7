"""Log for TensorBoard: `tensorboard --logdir logs`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from mores.core.tracker import Log, Tracker


class TensorBoardTracker(Tracker):
    """Writes scalars into `FOLDER/NAME`."""

    modules: ClassVar[tuple[str, ...]] = ("tensorboard",)

    @contextlib.contextmanager
    def open(self, name: str, folder: Path, parameters: Mapping[str, object]) -> Iterator[Log]:
        """See `Tracker`. Parameters are a text."""
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        writer = SummaryWriter(str(folder / name))
        writer.add_text("parameters", f"```\n{json.dumps(dict(parameters), indent=1)}\n```")

        def log(step: int, values: Mapping[str, float]) -> None:
            for quantity, value in values.items():
                writer.add_scalar(quantity, value, step)

        try:
            yield log
        finally:
            writer.close()

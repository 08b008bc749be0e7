"""Log for TensorBoard: `tensorboard --logdir logs`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from mores.core.tracker import Log, Tracker
from mores.experiments.tracking.logs import import_tracker


class TensorBoardTracker(Tracker):
    """Writes scalars into `FOLDER/NAME`."""

    @contextlib.contextmanager
    def open(self, name: str, folder: Path, parameters: Mapping[str, object]) -> Iterator[Log]:
        """See `Tracker`. Parameters are a text."""
        tensorboard = import_tracker("torch.utils.tensorboard", "tensorboard")
        writer = tensorboard.SummaryWriter(str(folder / name))
        writer.add_text("parameters", f"```\n{json.dumps(dict(parameters), indent=1)}\n```")

        def log(step: int, values: Mapping[str, float]) -> None:
            for quantity, value in values.items():
                writer.add_scalar(quantity, value, step)

        try:
            yield log
        finally:
            writer.close()

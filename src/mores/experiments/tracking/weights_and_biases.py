"""Log for Weights & Biases: https://docs.wandb.ai."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from mores.core.tracker import Log, Tracker
from mores.experiments.tracking.logs import import_tracker


class WandbTracker(Tracker):
    """Logs to a project of Weights & Biases; mode `offline` writes files for `wandb sync`."""

    project: str = Field(default="mores", description="name of the project")
    mode: Literal["online", "offline", "disabled"] | None = Field(
        default=None, description="where to log; default: the variable WANDB_MODE, else online"
    )

    @contextlib.contextmanager
    def open(self, name: str, folder: Path, parameters: Mapping[str, object]) -> Iterator[Log]:
        """See `Tracker`. A log that is opened again, in the same folder, goes on."""
        wandb = import_tracker("wandb", "wandb")
        folder.mkdir(parents=True, exist_ok=True)
        address = f"{folder.resolve()}/{name}".encode()
        run = wandb.init(
            project=self.project,
            name=name,
            id=hashlib.sha256(address).hexdigest()[:16],
            resume="allow",
            dir=str(folder),
            config=dict(parameters),
            mode=self.mode,
            reinit="create_new",  # several logs in one process
        )

        def log(step: int, values: Mapping[str, float]) -> None:
            run.log(dict(values), step=step)

        try:
            yield log
        finally:
            run.finish()

"""Log for Weights & Biases: https://docs.wandb.ai."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from mores.core.tracker import Log, Tracker


class WandbTracker(Tracker):
    """Logs to a project of Weights & Biases; mode `offline` writes files for `wandb sync`.

    Without `folder`, files are where wandb puts them (`WANDB_DIR`, else `wandb`): they contain
    links, which the folder of a run must not have.
    """

    modules: ClassVar[tuple[str, ...]] = ("wandb",)

    project: str = Field(
        default="", description="name of the project; default: WANDB_PROJECT, else mores"
    )
    mode: Literal["online", "offline", "disabled"] | None = Field(
        default=None, description="where to log; default: the variable WANDB_MODE, else online"
    )

    @contextlib.contextmanager
    def open(self, name: str, folder: Path, parameters: Mapping[str, object]) -> Iterator[Log]:
        """See `Tracker`. A log that is opened again, in the same folder, goes on."""
        wandb: Any = importlib.import_module("wandb")  # an optional dependency
        if self.folder:
            folder.mkdir(parents=True, exist_ok=True)
        address = f"{folder.resolve()}/{name}".encode()
        run = wandb.init(
            project=self.project or os.environ.get("WANDB_PROJECT") or "mores",
            name=name,
            id=hashlib.sha256(address).hexdigest()[:16],
            resume="allow",
            dir=self.folder or None,
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

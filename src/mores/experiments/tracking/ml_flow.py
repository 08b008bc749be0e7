"""Log for MLflow: `mlflow ui`."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from mores.core.tracker import Log, Tracker


class MLflowTracker(Tracker):
    """Logs a run to an experiment of MLflow; index brackets in names become dots.

    The default is the database `mlflow.db` in the folder, which one process can create: a run on
    several processes needs a server or an existing database.
    """

    modules: ClassVar[tuple[str, ...]] = ("mlflow",)

    experiment: str = Field(
        default="",
        description="name of the experiment; default: MLFLOW_EXPERIMENT_NAME, else mores",
    )
    tracking_uri: str = Field(
        default="", description="server or store; default: MLFLOW_TRACKING_URI, else a database"
    )

    @contextlib.contextmanager
    def open(self, name: str, folder: Path, parameters: Mapping[str, object]) -> Iterator[Log]:
        """See `Tracker`."""
        mlflow: Any = importlib.import_module("mlflow")  # an optional dependency
        uri = self.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        if not uri:
            folder.mkdir(parents=True, exist_ok=True)
        client = mlflow.MlflowClient(uri or f"sqlite:///{(folder / 'mlflow.db').resolve()}")
        title = self.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "mores"
        found = client.get_experiment_by_name(title)
        experiment = found.experiment_id if found else client.create_experiment(title)
        run = client.create_run(experiment, run_name=name).info.run_id
        for parameter, value in parameters.items():
            client.log_param(run, parameter, json.dumps(value))

        def log(step: int, values: Mapping[str, float]) -> None:
            now = int(1000 * time.time())
            metrics = [
                mlflow.entities.Metric(
                    re.sub(r"[^\w/. -]", ".", each).rstrip("."), value, now, step
                )
                for each, value in values.items()
            ]
            client.log_batch(run, metrics)

        try:
            yield log
        finally:
            client.set_terminated(run)

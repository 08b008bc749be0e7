"""Log for MLflow: `mlflow ui`."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import Field

from mores.core.tracker import Log, Tracker
from mores.experiments.tracking.logs import import_tracker


class MLflowTracker(Tracker):
    """Logs a run to an experiment of MLflow; index brackets in names become dots."""

    experiment: str = Field(default="mores", description="name of the experiment")
    tracking_uri: str = Field(
        default="", description="server or store; default: MLFLOW_TRACKING_URI, else the folder"
    )

    @contextlib.contextmanager
    def open(self, name: str, folder: Path, parameters: Mapping[str, object]) -> Iterator[Log]:
        """See `Tracker`."""
        mlflow = import_tracker("mlflow", "mlflow")
        uri = self.tracking_uri or mlflow.environment_variables.MLFLOW_TRACKING_URI.get()
        client = mlflow.MlflowClient(uri or (folder / "mlruns").resolve().as_uri())
        found = client.get_experiment_by_name(self.experiment)
        experiment = found.experiment_id if found else client.create_experiment(self.experiment)
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

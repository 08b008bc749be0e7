"""Replicates differ, and further ones after a run are those of one longer run.

Reports about peers: all iterations of a batch have one seed and the same result,
https://github.com/mesa/mesa/pull/2841 and https://github.com/gama-platform/gama.old/issues/2184
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mores
from mores.experiments.run import RunResult, engine

SCENARIO = """\
name: replicates
about: Do more replicates change the first ones?
env: {kind: coevolution, num_people: 3}
rounds: 2
replicates: 2
seed: 42
metrics: [mean_value]
arms:
  peers: {}
"""


def no_report(run_plan: Any, *_: Any) -> None:
    """A report takes longer than these runs."""
    (run_plan.folder / "report.html").write_text("")


def test_replicates_differ_and_can_be_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_write_report", no_report)
    file = tmp_path / "replicates.yaml"
    file.write_text(SCENARIO)

    def means(result: RunResult) -> np.ndarray:
        metrics = mores.open_run(result.folder).metrics("peers")["mean_value"]
        return metrics.isel(round=-1, mean_value_component=0).values.ravel()

    first = means(mores.run_scenario(mores.load_scenario(file), tmp_path / "run", progress=False))
    assert len(first) == 2
    extended = means(mores.extend(tmp_path / "run", replicates=5, progress=False))
    longer = mores.load_scenario(file, ["replicates=5"])
    longer = mores.run_scenario(longer, tmp_path / "longer", progress=False)
    assert np.array_equal(extended, means(longer))
    assert np.array_equal(extended[:2], first)
    assert len(set(extended.tolist())) == 5

"""A Mesa model of a user, in their own style, as an experiment with arms, claims and a report."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import xarray as xr

from mores.experiments.claims.claim_evaluation import evaluate_claims
from mores.experiments.results.run_reader import open_run
from mores.experiments.run.cell_execution import run_cell
from mores.experiments.scenario.expansion import build_and_verify
from mores.experiments.scenario.loading import load_scenario

pytest.importorskip("mesa")

ARMS = {"indifferent", "mild", "mild_again", "strong"}
HERE = Path(__file__).parent
MARK = "same seed, not coupled: the environment draws its own random numbers"
KILLER = """\
# Kills the process in the model with that number, if there is one.
import os, signal
import mores
model_class = mores.registry.REGISTRIES["environment"]["schelling"]
construct, count = model_class.__init__, 0

def counted(self, *arguments, **keywords):
    global count
    count += 1
    if count == int(os.environ.get("KILL_IN_MODEL", "0")):
        os.kill(os.getpid(), signal.SIGKILL)
    construct(self, *arguments, **keywords)

counted.__wrapped__ = construct  # its signature
model_class.__init__ = counted
"""


def test_an_experiment_with_a_mesa_model() -> None:
    """Verdicts of the registered class, without a folder and a report."""
    loaded = load_scenario(HERE / "schelling.yaml", ["env.size=5", "rounds=5"])
    scenario, cells = loaded.scenario, [built.cell for built in build_and_verify(loaded)]
    replicates = range(scenario.replicates)
    results = {cell.id: run_cell(cell, scenario, replicates, lambda _: None) for cell in cells}
    null, mild, strong, happy = evaluate_claims(scenario, cells, results)
    assert null.status == "holds" and null.estimate.value == 0
    assert mild.status == strong.status == "holds"
    assert strong.estimate.low > 0
    assert happy.status in ("fails", "undecided")
    assert all(MARK in each.remark for each in (null, mild, strong)) and MARK not in happy.remark
    assert all(each.uncoupled_roles == ("environment",) for each in results.values())
    metrics = {arm: results[arm].stages[0].metrics for arm in ARMS}
    xr.testing.assert_identical(metrics["mild"], metrics["mild_again"])
    assert not metrics["mild"].equals(metrics["strong"])


def frame(run: Path, arm: str) -> pd.DataFrame:
    return pd.read_parquet(run / "cells" / arm / "metrics.parquet")


@pytest.mark.full
def test_a_killed_run_ends_in_the_same_cells(tmp_path: Path) -> None:
    """From the command line, with the user's file; the models of a cell are simulated again."""
    for name in ("schelling_user.py", "schelling.yaml"):
        shutil.copy(HERE / name, tmp_path)
    (tmp_path / "killer.py").write_text(KILLER)

    def mores(*arguments: str, kill: int = 0) -> int:
        plugins = ["--load", "schelling_user.py", "--load", "killer.py"]
        command = [sys.executable, "-m", "mores", *arguments, *plugins]
        environment = os.environ | {"KILL_IN_MODEL": str(kill)}
        return subprocess.run(command, cwd=tmp_path, env=environment).returncode

    run = ["run", "schelling.yaml", "replicates=6", "rounds=4", "env.size=6"]
    assert mores(*run, "--out", "whole") in (0, 1)  # 1: a claim failed
    checks = 30  # no more models are made before the run
    assert mores(*run, "--out", "killed", kill=checks + 8) == -signal.SIGKILL
    cells = {path.name for path in (tmp_path / "killed" / "cells").iterdir()}
    assert len(cells & ARMS) < len(ARMS)
    assert mores("resume", "killed", "--jobs", "2") in (0, 1)
    for arm in ARMS:
        pd.testing.assert_frame_equal(
            frame(tmp_path / "whole", arm), frame(tmp_path / "killed", arm), check_exact=True
        )
    verdicts = [
        [claim["verdict"] for claim in json.loads((tmp_path / run / "claims.json").read_text())]
        for run in ("whole", "killed")
    ]
    assert verdicts[0] == verdicts[1] and verdicts[0][0] == "holds"
    whole = tmp_path / "whole"
    pd.testing.assert_frame_equal(
        frame(whole, "mild"), frame(whole, "mild_again"), check_exact=True
    )
    report = (whole / "report.html").read_text()
    assert "Same seed, not coupled" in report and "All arms share the seed" in report
    assert "which shares its seed" in report and "people and random" not in report
    recorded = open_run(whole).metrics("strong")
    assert {"segregation", "happy", "mean_moves"} <= set(recorded.data_vars)

"""Calibrations that cannot be: one line each, and nothing written."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from mores.cli.commands import main
from mores.experiments.calibration import calibrate, progress_bar
from mores.experiments.scenario.loading import load_scenario
from tests.calibrate.conftest import WALKERS
from tests.refusals import refused

BAD = {
    "nothing to calibrate": (
        WALKERS.partition("calibration:")[0],
        [],
        "missing",
        "calibration",
    ),
    "a path that leads nowhere": (
        WALKERS.replace("env.noise:", "env.nois:"),
        [],
        "unknown_name",
        "calibration.parameters.env.nois",
    ),
    "a path into what cannot differ": (
        WALKERS.replace("env.noise:", "replicates:"),
        [],
        "invalid_value",
        "calibration.parameters.replicates",
    ),
    "a value that the parameter cannot have": (
        WALKERS.replace("[0.02, 1.0]", "[-1.0, 1.0]"),
        [],
        "out_of_range",
        "calibration.parameters.env.noise",
    ),
    "a range the wrong way round": (
        WALKERS.replace("[0.02, 1.0]", "[1.0, 0.02]"),
        [],
        "invalid_value",
        "calibration.parameters.env.noise",
    ),
    "a measure that is not recorded": (
        WALKERS.replace("measure: spread, value", "measure: spred, value"),
        [],
        "unknown_name",
        "calibration.targets.2.measure",
    ),
    "a round too late": (
        WALKERS.replace("at: 1", "at: 4"),
        [],
        "out_of_range",
        "calibration.targets.1.at",
    ),
    "a figure that is not there": (
        WALKERS.replace("measures: [spread, speed]", "measures: [spread, centre]").replace(
            "measure: spread, at: 1", 'measure: "centre[3]", at: 1'
        ),
        [],
        "unknown_name",
        "calibration.targets.1.measure",
    ),
    "a figure that is not a number": (
        WALKERS.replace("measures: [spread, speed]", "measures: [spread, group_gap]").replace(
            "measure: spread, at: 1", "measure: group_gap, at: 1"
        ),
        [],
        "not_finite",
        "calibration.targets.1",
    ),
    "a parameter on which nothing depends": (
        WALKERS.replace("env.noise: [0.02, 1.0]", "env.ai_influence: [0.1, 0.9]"),
        [],
        "conflict",
        "calibration.parameters.env.ai_influence",
    ),
    "a figure that never varies": (
        WALKERS.replace("people: {kind: normal, people: 60, spread: 1.0}\n", "").replace(
            "people.spread: [0.2, 3.0], ", ""
        ).replace("measure: spread, at: 0", "measure: speed, at: 0"),
        [],
        "missing",
        "calibration.targets.0",
    ),
    "too few figures": (
        WALKERS,
        ["spread"],
        "conflict",
        "calibration",
    ),
    "no such target": (
        WALKERS,
        ["spraed"],
        "unknown_name",
        "hold_out",
    ),
    "too few replicates": (
        WALKERS.replace("replicates: 32", "replicates: 3"),
        [],
        "out_of_range",
        "replicates",
    ),
    "a sweep": (
        WALKERS + "sweep: {env.noise: [0.1, 0.2]}\n",
        [],
        "conflict",
        "calibration",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad(case, tmp_path, monkeypatch, capsys):
    text, held_out, code, path = BAD[case]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(progress_bar, "DELAY_SECONDS", math.inf)  # however busy the machine is
    Path("runs").mkdir()
    (tmp_path / "s.yaml").write_text(text)
    with refused(code, path=path) as found:
        calibrate(load_scenario("s.yaml"), hold_out=held_out, progress=False)
    arguments = [part for name in held_out for part in ("--hold-out", name)]
    assert main(["calibrate", "s.yaml", *arguments]) == 2
    assert capsys.readouterr().err.splitlines() == [str(found.value)]
    assert not list(Path("runs").rglob("*.json"))


def test_a_folder_that_is_not_empty(described, capsys):
    loaded = described(WALKERS)
    with refused("not_writable", path=".") as found:
        calibrate(loaded, Path("."), progress=False)
    assert main(["calibrate", "s.yaml", "--out", "."]) == 2
    assert capsys.readouterr().err.splitlines() == [str(found.value)]

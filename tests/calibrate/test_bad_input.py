"""Calibrations that cannot be: one line each, and nothing written."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from mores.calibrate import progress
from mores.cli import main
from tests.calibrate.conftest import WALKERS

BAD = {
    "nothing to calibrate": (
        WALKERS.partition("calibration:")[0],
        [],
        "s.yaml: there is nothing to calibrate: it has no section calibration",
    ),
    "a path that leads nowhere": (
        WALKERS.replace("env.noise:", "env.nois:"),
        [],
        "calibration.parameters.env.nois: coevolution has no such parameter; did you mean 'noise'?",
    ),
    "a path into what cannot differ": (
        WALKERS.replace("env.noise:", "replicates:"),
        [],
        "replicates cannot differ between arms",
    ),
    "a value that the parameter cannot have": (
        WALKERS.replace("[0.02, 1.0]", "[-1.0, 1.0]"),
        [],
        "must be at least 0, not -1",
    ),
    "a range the wrong way round": (
        WALKERS.replace("[0.02, 1.0]", "[1.0, 0.02]"),
        [],
        "a range is [low, high], the first less than the second",
    ),
    "a measure that is not recorded": (
        WALKERS.replace("measure: spread, value", "measure: spred, value"),
        [],
        "'spred' is not among the scenario's measures; did you mean 'spread'?",
    ),
    "a round too late": (
        WALKERS.replace("at: 1", "at: 4"),
        [],
        "calibration.targets.1.at: must be at most 3, the number of rounds, not 4",
    ),
    "a figure that is not there": (
        WALKERS.replace("measures: [spread, speed]", "measures: [spread, centre]").replace(
            "measure: spread, at: 1", 'measure: "centre[3]", at: 1'
        ),
        [],
        "calibration.targets.1.measure: centre is 1 number in main, counted from 0",
    ),
    "a figure that is not a number": (
        WALKERS.replace("measures: [spread, speed]", "measures: [spread, group_gap]").replace(
            "measure: spread, at: 1", "measure: group_gap, at: 1"
        ),
        [],
        "calibration.targets.1: group_gap: is not a finite number at people.spread = ",
    ),
    "a parameter on which nothing depends": (
        WALKERS.replace("env.noise: [0.02, 1.0]", "env.ai_influence: [0.1, 0.9]"),
        [],
        "calibration.parameters.env.ai_influence: no fitted figure depends on it",
    ),
    "a figure that never varies": (
        WALKERS.replace("people: {kind: normal, people: 60, spread: 1.0}\n", "").replace(
            "people.spread: [0.2, 3.0], ", ""
        ).replace("measure: spread, at: 0", "measure: speed, at: 0"),
        [],
        "calibration.targets.0: speed: does not vary between replicates: state the target's error",
    ),
    "too few figures": (
        WALKERS,
        ["--hold-out", "spread"],
        "calibration: 0 figures to fit are too few for 2 parameters",
    ),
    "no such target": (
        WALKERS,
        ["--hold-out", "spraed"],
        "--hold-out spraed: there is no such target; did you mean 'spread'?",
    ),
    "too few replicates": (
        WALKERS.replace("replicates: 32", "replicates: 3"),
        [],
        "replicates: calibration needs at least 8 replicates to see how figures vary, not 3",
    ),
    "a sweep": (
        WALKERS + "sweep: {env.noise: [0.1, 0.2]}\n",
        [],
        "calibration does not go with a sweep",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad(case, tmp_path, monkeypatch, capsys):
    text, arguments, expected = BAD[case]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(progress, "PATIENCE", math.inf)  # however busy the machine is
    Path("runs").mkdir()
    (tmp_path / "s.yaml").write_text(text)
    code = main(["calibrate", "s.yaml", *arguments])
    said = capsys.readouterr()
    assert code == 2, said
    assert expected in said.err
    assert len(said.err.splitlines()) == 1, said.err
    assert not list(Path("runs").rglob("*.json"))


def test_a_folder_that_is_not_empty(described, capsys):
    described(WALKERS)
    assert main(["calibrate", "s.yaml", "--out", "."]) == 2
    assert (
        "is not empty: a calibration writes into a new or empty folder" in capsys.readouterr().err
    )

"""Invalid calibrations: a one-line error, and no output."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from mores.cli.commands import main
from mores.experiments.calibration import calibrate, pipeline
from mores.experiments.scenario.loading import load_scenario
from tests.calibration.conftest import RANDOM_WALK
from tests.refusals import refused

BAD = {
    "no calibration section": (
        RANDOM_WALK.partition("calibration:")[0],
        [],
        "missing",
        "calibration",
    ),
    "unknown parameter path": (
        RANDOM_WALK.replace("env.noise_std:", "env.nois:"),
        [],
        "unknown_name",
        "calibration.parameters.env.nois",
    ),
    "path outside env, population and policies": (
        RANDOM_WALK.replace("env.noise_std:", "replicates:"),
        [],
        "invalid_value",
        "calibration.parameters.replicates",
    ),
    "range with invalid values": (
        RANDOM_WALK.replace("[0.02, 1.0]", "[-1.0, 1.0]"),
        [],
        "out_of_range",
        "calibration.parameters.env.noise_std",
    ),
    "reversed range": (
        RANDOM_WALK.replace("[0.02, 1.0]", "[1.0, 0.02]"),
        [],
        "invalid_value",
        "calibration.parameters.env.noise_std",
    ),
    "metric that is not recorded": (
        RANDOM_WALK.replace("metric: rms_distance, value", "metric: rms_distanse, value"),
        [],
        "unknown_name",
        "calibration.targets.2.metric",
    ),
    "round after the end": (
        RANDOM_WALK.replace("at_round: 1", "at_round: 4"),
        [],
        "out_of_range",
        "calibration.targets.1.at_round",
    ),
    "component that does not exist": (
        RANDOM_WALK.replace("distance, velocity]", "distance, mean_value]").replace(
            "metric: rms_distance, at_round: 1", 'metric: "mean_value[3]", at_round: 1'
        ),
        [],
        "unknown_name",
        "calibration.targets.1.metric",
    ),
    "metric that is not finite": (
        RANDOM_WALK.replace("distance, velocity]", "distance, group_gap]").replace(
            "metric: rms_distance, at_round: 1", "metric: group_gap, at_round: 1"
        ),
        [],
        "not_finite",
        "calibration.targets.1",
    ),
    "parameter without effect": (
        RANDOM_WALK.replace("env.noise_std: [0.02, 1.0]", "env.ai_influence: [0.1, 0.9]"),
        [],
        "conflict",
        "calibration.parameters.env.ai_influence",
    ),
    "constant metric": (
        RANDOM_WALK.replace("population: {kind: normal, num_people: 60, std: 1.0}\n", "").replace(
            "population.std: [0.2, 3.0], ", ""
        ).replace("metric: rms_distance, at_round: 0", "metric: velocity, at_round: 0"),
        [],
        "missing",
        "calibration.targets.0",
    ),
    "too few targets": (
        RANDOM_WALK,
        ["rms_distance"],
        "conflict",
        "calibration",
    ),
    "unknown target": (
        RANDOM_WALK,
        ["rms_distnace"],
        "unknown_name",
        "hold_out",
    ),
    "too few replicates": (
        RANDOM_WALK.replace("replicates: 32", "replicates: 3"),
        [],
        "out_of_range",
        "replicates",
    ),
    "sweep": (
        RANDOM_WALK + "sweep: {env.noise_std: [0.1, 0.2]}\n",
        [],
        "conflict",
        "calibration",
    ),
}  # fmt: skip


@pytest.mark.cut(2)
@pytest.mark.parametrize("case", BAD)
def test_invalid_calibration(case, tmp_path, monkeypatch, capsys):
    text, held_out, code, path = BAD[case]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline, "PROGRESS_DELAY", math.inf)  # on a busy machine, too
    Path("runs").mkdir()
    (tmp_path / "s.yaml").write_text(text)
    with refused(code, path=path) as caught:
        calibrate(load_scenario("s.yaml"), hold_out=held_out, progress=False)
    arguments = [part for name in held_out for part in ("--hold-out", name)]
    assert main(["calibrate", "s.yaml", *arguments]) == 2
    assert capsys.readouterr().err.splitlines() == [str(caught.value)]
    assert not list(Path("runs").rglob("*.json"))


def test_output_folder_that_is_not_empty(load_text, capsys):
    loaded = load_text(RANDOM_WALK)
    with refused("not_writable", path=".") as caught:
        calibrate(loaded, Path("."), progress=False)
    assert main(["calibrate", "s.yaml", "--out", "."]) == 2
    assert capsys.readouterr().err.splitlines() == [str(caught.value)]

"""Calibration end to end: estimates, intervals, warnings, output files."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from benchmarks.calibration import simulate_study
from mores.cli.commands import main
from mores.experiments.calibration import calibrate
from mores.experiments.calibration.simulated_moments import MomentSimulator
from mores.experiments.scenario.loading import load_scenario
from tests.calibration.conftest import CHOICES, EXPERIMENT, RANDOM_WALK
from tests.refusals import check_message


def with_values(loaded, values):
    calibration = loaded.scenario.calibration
    targets = [
        t.model_copy(update={"value": float(v)})
        for t, v in zip(calibration.targets, values, strict=True)
    ]
    changed = calibration.model_copy(update={"targets": targets})
    scenario = loaded.scenario.model_copy(update={"calibration": changed})
    return dataclasses.replace(loaded, scenario=scenario)


def test_moments_of_the_simulator_are_fitted_exactly(load_text):
    """Targets simulated with the same random numbers: the fit recovers the true values."""
    loaded = load_text(RANDOM_WALK)
    truth = np.array([1.3, 0.35])
    loaded = with_values(loaded, MomentSimulator(loaded).moments_at(truth).mean)
    result = calibrate(loaded, progress=False)
    assert [p.value for p in result.parameters] == pytest.approx(truth, rel=2e-3)
    assert result.distance < 1e-3
    assert result.converged
    assert result.degrees_of_freedom == 1
    assert not result.warnings


@pytest.mark.full
@pytest.mark.parametrize("text", [RANDOM_WALK, CHOICES], ids=["random walk", "choices"])
def test_intervals_cover_true_parameters(load_text, text):
    """30 studies, 60 intervals of 95 %: fewer than 52 cover with probability 0.003.

    (Binomial, for independent intervals; seed 3. 1,000 cases: benchmarks/calibration.py.)
    """
    loaded = load_text(text)
    simulator = MomentSimulator(loaded, seed=77)
    rng = np.random.default_rng(3)
    low, high = simulator.ranges.T
    covered = 0
    for _ in range(30):
        truth = low + (high - low) * rng.uniform(0.2, 0.8, 2)
        study = simulate_study(loaded, truth, int(rng.integers(2**31)))
        result = calibrate(with_values(loaded, study), progress=False, simulator=simulator)
        covered += sum(p.low <= v <= p.high for p, v in zip(result.parameters, truth, strict=True))
    assert scipy.stats.binom.cdf(51, 60, 0.95) < 0.003
    assert covered >= 52


@pytest.mark.full
def test_interval_length_of_a_standard_deviation(load_text):
    """The relative error of the sd of 60 normal people is 1 / sqrt(120), plus Monte Carlo noise."""
    loaded = load_text(RANDOM_WALK, "replicates=64")
    loaded = with_values(loaded, MomentSimulator(loaded).moments_at(np.array([1.0, 0.3])).mean)
    parameter = calibrate(loaded, progress=False).parameters[0]
    exact = 2 * 1.96 / np.sqrt(120) * np.sqrt(1 + 1 / 64)
    assert parameter.high - parameter.low == pytest.approx(exact, rel=0.35)


def test_unidentified_parameters_of_choices(load_text):
    """Choices depend only on the product of rationality and utility scale."""
    text = CHOICES.replace("choice.flip_probability: [0.0, 0.3]", "utility_scale: [0.3, 3.0]")
    result = calibrate(load_text(text), progress=False)
    names = ("policies.person.choice.rationality", "policies.person.utility_scale")
    (warning,) = [line for line in result.warnings if all(name in line for name in names)]
    check_message(warning)
    for parameter in result.parameters:
        assert parameter.low_at_bound or parameter.high_at_bound
        assert parameter.high > 2.5 * parameter.low
    product = result.parameters[0].value * result.parameters[1].value
    assert 0.5 < product < 1.2
    assert result.condition_number > 1e3


@pytest.mark.full
def test_held_out_targets_are_predicted(load_text):
    loaded = load_text(RANDOM_WALK)
    given = with_values(loaded, MomentSimulator(loaded).moments_at(np.array([1.0, 0.5])).mean)
    full = calibrate(given, progress=False)
    result = calibrate(given, hold_out=["later"], progress=False)
    assert [t.usage for t in result.targets] == ["fitted", "predicted", "fitted"]
    assert result.degrees_of_freedom == 0 and result.p_value is None
    assert abs(result.targets[1].z) < 0.5
    # another value of a held-out target changes its z and not the fit
    targets = given.scenario.calibration.targets
    changed = with_values(given, [t.value + (t.statement == "later") * 0.3 for t in targets])
    other = calibrate(changed, hold_out=["later"], progress=False)
    assert other.values == result.values
    assert other.targets[1].z > 3
    assert calibrate(changed, progress=False).values != full.values


@pytest.mark.full
def test_target_with_a_reference_arm(load_text):
    """ai_influence moves the mean value by a known share: 2 rounds of 0.1, goal_weight 1."""
    loaded = load_text(EXPERIMENT)
    loaded = with_values(loaded, MomentSimulator(loaded).moments_at(np.array([0.2])).mean)
    result = calibrate(loaded, progress=False)
    assert result.parameters[0].value == pytest.approx(0.2, rel=0.01)
    assert result.targets[1].usage == "predicted"


@pytest.mark.full
def test_warnings_on_a_target_out_of_reach(load_text):
    result = calibrate(load_text(RANDOM_WALK, "calibration.targets.2.value=9"), progress=False)
    (warning,) = [line for line in result.warnings if "(final)" in line]
    assert warning.startswith("rms_distance ") and " 9 " in warning
    check_message(re.sub(r"\d[\d.]*", "#", warning))
    at_end = [p for p in result.parameters if p.value == p.search_range[1]]
    assert at_end
    for parameter in at_end:
        (warning,) = [line for line in result.warnings if line.startswith(f"{parameter.path} ")]
        check_message(warning)


@pytest.mark.full
def test_output_files(load_text, tmp_path, capsys):
    load_text(RANDOM_WALK)
    before = Path("s.yaml").read_text()
    assert main(["calibrate", "s.yaml", "--hold-out", "later", "--out", "out"]) == 0
    assert Path("s.yaml").read_text() == before
    output = capsys.readouterr().out
    assert "population.std" in output and "predicted" in output
    content = json.loads(Path("out/calibration.json").read_text())
    assert [t["usage"] for t in content["targets"]] == ["fitted", "predicted", "fitted"]
    fitted = load_scenario("out/calibrated.yaml")
    assert "# a comment that stays" in fitted.text
    assert fitted.document["population"]["std"] == pytest.approx(
        content["parameters"][0]["value"], rel=1e-5
    )
    assert Path("out/calibration.png").read_bytes()[:4] == b"\x89PNG"
    # the fitted scenario reproduces the targets
    moments = MomentSimulator(fitted).moments_at(
        np.array([p["value"] for p in content["parameters"]])
    )
    assert moments.mean[0] == pytest.approx(1.0, abs=0.01)


@pytest.mark.full
def test_output_contains_parameters_with_defaults_in_the_file(load_text):
    text = RANDOM_WALK.replace(", noise_std: 0.3}", "}")
    calibrate(load_text(text, "rounds=2"), Path("out"), progress=False)
    fitted = load_scenario("out/calibrated.yaml").document
    assert fitted["rounds"] == 2
    assert 0.02 <= fitted["env"]["noise_std"] <= 1.0


def test_calibration_is_deterministic(load_text):
    first, second = (calibrate(load_text(RANDOM_WALK), progress=False) for _ in range(2))
    assert dataclasses.replace(first, seconds=0.0) == dataclasses.replace(second, seconds=0.0)

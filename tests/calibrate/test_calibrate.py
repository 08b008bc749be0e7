"""Calibration from end to end: what is found, what is said of it, what is written."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from mores.cli.commands import main
from mores.experiments.calibration import calibrate
from mores.experiments.calibration.simulated_moments import MomentSimulator, simulate_study
from mores.experiments.scenario.loading import load_scenario
from tests.calibrate.conftest import CHOOSERS, EXPERIMENT, WALKERS
from tests.refusals import check_message


def with_values(loaded, figures):
    calibration = loaded.scenario.calibration
    targets = [
        t.model_copy(update={"value": float(v)})
        for t, v in zip(calibration.targets, figures, strict=True)
    ]
    new = calibration.model_copy(update={"targets": targets})
    scenario = loaded.scenario.model_copy(update={"calibration": new})
    return dataclasses.replace(loaded, scenario=scenario)


def test_the_simulators_own_figures_are_met_exactly(described):
    """Figures simulated on the same draws: the true values come back, whatever the noise."""
    loaded = described(WALKERS)
    truth = np.array([1.3, 0.35])
    given = with_values(loaded, MomentSimulator(loaded).moments_at(truth).mean)
    found = calibrate(given, progress=False)
    assert [p.value for p in found.parameters] == pytest.approx(truth, rel=2e-3)
    assert found.distance < 1e-3
    assert found.converged
    assert found.degrees_of_freedom == 1
    assert not found.warnings


@pytest.mark.slow
@pytest.mark.parametrize("text", [WALKERS, CHOOSERS], ids=["walkers", "choosers"])
def test_planted_parameters_are_in_their_intervals(described, text):
    """30 studies, 60 intervals of 95 %: fewer than 52 cover with probability 0.003.

    (Binomial, were the intervals independent; seed 3. 1,000 cases: benchmarks/calibration.py.)
    """
    loaded = described(text)
    simulator = MomentSimulator(loaded, seed=77)
    number = np.random.default_rng(3)
    low, high = simulator.ranges.T
    covered = 0
    for _ in range(30):
        truth = low + (high - low) * number.uniform(0.2, 0.8, 2)
        study = simulate_study(loaded, truth, int(number.integers(2**31)))
        found = calibrate(with_values(loaded, study), progress=False, simulator=simulator)
        covered += sum(p.low <= v <= p.high for p, v in zip(found.parameters, truth, strict=True))
    assert scipy.stats.binom.cdf(51, 60, 0.95) < 0.003
    assert covered >= 52


def test_an_interval_is_no_longer_than_the_study_allows(described):
    """The spread of 60 normal people is known to 1 / sqrt(120) of itself, plus the simulation's."""
    loaded = described(WALKERS, "replicates=64")
    given = with_values(loaded, MomentSimulator(loaded).moments_at(np.array([1.0, 0.3])).mean)
    found = calibrate(given, progress=False).parameters[0]
    exact = 2 * 1.96 / np.sqrt(120) * np.sqrt(1 + 1 / 64)
    assert found.high - found.low == pytest.approx(exact, rel=0.35)


def test_parameters_that_choices_cannot_tell_apart(described):
    """Only the product of rationality and scale is in choices."""
    text = CHOOSERS.replace("players.person.flip: [0.0, 0.3]", "players.person.scale: [0.3, 3.0]")
    found = calibrate(described(text), progress=False)
    names = ("players.person.rationality", "players.person.scale")
    (said,) = [line for line in found.warnings if all(name in line for name in names)]
    check_message(said)
    for parameter in found.parameters:
        assert parameter.low_at_bound or parameter.high_at_bound
        assert parameter.high > 2.5 * parameter.low
    product = found.parameters[0].value * found.parameters[1].value
    assert 0.5 < product < 1.2
    assert found.condition_number > 1e3


def test_held_out_figures_are_predicted(described):
    loaded = described(WALKERS)
    given = with_values(loaded, MomentSimulator(loaded).moments_at(np.array([1.0, 0.5])).mean)
    whole = calibrate(given, progress=False)
    found = calibrate(given, hold_out=["later"], progress=False)
    assert [t.usage for t in found.targets] == ["fitted", "predicted", "fitted"]
    assert found.degrees_of_freedom == 0 and found.p_value is None
    assert abs(found.targets[1].z) < 0.5
    # a figure further off does not move what was fitted, and is told as an error of prediction
    far = with_values(given, [t.value + (t.measure == "spread" and t.statement == "later") * 0.3
                              for t in given.scenario.calibration.targets])  # fmt: skip
    other = calibrate(far, hold_out=["later"], progress=False)
    assert other.values == found.values
    assert other.targets[1].z > 3
    assert calibrate(far, progress=False).values != whole.values


def test_an_effect_against_another_arm(described):
    """ai_influence moves the centre by a known share of the way: 2 rounds of 0.1, reach 1."""
    loaded = described(EXPERIMENT)
    given = with_values(loaded, MomentSimulator(loaded).moments_at(np.array([0.2])).mean)
    found = calibrate(given, progress=False)
    assert found.parameters[0].value == pytest.approx(0.2, rel=0.01)
    assert found.targets[1].usage == "predicted"


def test_a_target_out_of_reach_says_what_was_reached(described):
    found = calibrate(described(WALKERS, "calibration.targets.2.value=9"), progress=False)
    (said,) = [line for line in found.warnings if "(at last)" in line]
    assert said.startswith("spread ") and " 9 " in said
    check_message(re.sub(r"\d[\d.]*", "#", said))
    at_the_end = [p for p in found.parameters if p.value == p.search_range[1]]
    assert at_the_end
    for parameter in at_the_end:
        (said,) = [line for line in found.warnings if line.startswith(f"{parameter.path} ")]
        check_message(said)


def test_what_is_written(described, tmp_path, capsys):
    described(WALKERS)
    before = Path("s.yaml").read_text()
    assert main(["calibrate", "s.yaml", "--hold-out", "later", "--out", "made"]) == 0
    assert Path("s.yaml").read_text() == before
    said = capsys.readouterr().out
    assert "people.spread" in said and "predicted" in said
    told = json.loads(Path("made/calibration.json").read_text())
    assert [t["role"] for t in told["targets"]] == ["fitted", "predicted", "fitted"]
    fitted = load_scenario("made/calibrated.yaml")
    assert "# a comment that stays" in fitted.text
    assert fitted.document["people"]["spread"] == pytest.approx(
        told["parameters"][0]["value"], rel=1e-5
    )
    assert Path("made/calibration.png").read_bytes()[:4] == b"\x89PNG"
    # what was fitted does come to the targets
    again = MomentSimulator(fitted).moments_at(np.array([p["value"] for p in told["parameters"]]))
    assert again.mean[0] == pytest.approx(1.0, abs=0.01)


def test_a_parameter_that_the_file_leaves_to_its_default_is_written_too(described):
    text = WALKERS.replace("noise: 0.3}", "}").replace("1, }", "1}")
    calibrate(described(text, "rounds=2"), Path("made"), progress=False)
    fitted = load_scenario("made/calibrated.yaml").document
    assert fitted["rounds"] == 2
    assert 0.02 <= fitted["env"]["noise"] <= 1.0


def test_the_same_twice(described):
    first, second = (calibrate(described(WALKERS), progress=False) for _ in range(2))
    assert dataclasses.replace(first, seconds=0.0) == dataclasses.replace(second, seconds=0.0)

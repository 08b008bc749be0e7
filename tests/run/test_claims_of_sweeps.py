"""Claims about a sweep, several claims of a file, and claims that changed since an earlier run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mores.experiments.claims.claim_estimates import ClaimData
from mores.experiments.claims.several_claims import chance_of_luck, holm_adjusted
from mores.experiments.claims.trends import PointData, trend_points
from mores.experiments.claims.verdicts import evaluate_claim, evaluate_claim_data
from mores.experiments.results.run_reader import open_run
from mores.experiments.run import RunResult, run_scenario
from mores.experiments.scenario.loading import load_scenario
from tests.refusals import refused
from tests.run.small_run import make_claim

TEXT = """\
name: pulls
about: An assistant pulls people, more or less.
env: {kind: coevolution, num_people: 12, noise_std: 0.1}
population: {kind: normal, num_people: 12, num_values: 1}
policies: {assistant: {kind: advocate, goal: 1.0}}
rounds: 5
replicates: 16
seed: 4
metrics: [mean_value, rms_distance]
sweep: {env.ai_influence: [0.2, 0.0, 0.1]}
claims:
  - {statement: More pull moves them further, kind: statistical, metric: "mean_value[0]",
     slope_in: env.ai_influence, bound: {above: 0.1}}
  - {statement: Every step moves them further, kind: statistical, metric: "mean_value[0]",
     monotone_in: env.ai_influence, bound: {above: 0.0}}
  - {statement: They are moved, kind: statistical, metric: "mean_value[0]", bound: {above: 0.05}}
"""


def _run(folder: Path, text: str = TEXT) -> RunResult:
    file = folder.with_suffix(".yaml")
    file.write_text(text)
    return run_scenario(load_scenario(str(file)), folder, progress=False)


def test_slope_and_steps_are_those_of_the_recorded_numbers(tmp_path: Path) -> None:
    result = _run(tmp_path / "run")
    run = open_run(result.folder)
    table = run.dataframe()
    at_end = table[(table.metric == "mean_value[0]") & (table["round"] == 5)]
    values = at_end.pivot(index="replicate", columns="env.ai_influence", values="value")
    slopes = np.polyfit([0.0, 0.1, 0.2], values.to_numpy().T, 1)[0]
    slope, steps, level = result.verdicts
    assert slope.estimate.value == pytest.approx(slopes.mean(), rel=1e-5)
    assert (slope.status, slope.num_points) == ("holds", 1)
    changes = np.diff(values.to_numpy(), axis=1).mean(0)
    assert [each.estimate.value for each in steps.at_points] == pytest.approx(changes, rel=1e-5)
    assert [each.point["env.ai_influence"] for each in steps.at_points] == [
        "0.0 to 0.1", "0.1 to 0.2",
    ]  # fmt: skip
    assert level.range == pytest.approx((values[0.0].mean(), values[0.2].mean()), rel=1e-5)
    entries = json.loads((result.folder / "claims.json").read_text())
    assert level.point == {"env.ai_influence": 0.0} and level.estimate.value == level.range[0]
    assert entries[2]["point"] == dict(level.point) and entries[2]["range"] == list(level.range)


@pytest.mark.parametrize("key", ["slope_in", "monotone_in"])
def test_a_trend_needs_a_swept_number(tmp_path: Path, key: str) -> None:
    text = TEXT[: TEXT.index("claims:")] + (
        "claims:\n  - {statement: x, kind: statistical, metric: rms_distance,\n"
        f"     {key}: env.noise_std, bound: {{above: 0}}}}\n"
    )
    with refused("unknown_name", f"claims.0.{key}"):
        _run(tmp_path / "run", text)
    swept = text.replace("env.ai_influence: [0.2, 0.0, 0.1]", "env.challenge: [none, follow]")
    with refused("conflict", f"claims.0.{key}"):
        _run(tmp_path / "run", swept.replace("env.noise_std", "env.challenge"))


def test_trend_of_a_comparison_with_an_analytic_value() -> None:
    """Both the metric and the analytic value rise by 2 per unit."""
    claim = make_claim(slope_in="x", analytic="law")
    noise = np.arange(3.0)
    points = [PointData({"x": x}, ClaimData(2 * x + noise, 2.0 * x)) for x in (3.0, 1.0, 2.0)]
    (trend,) = trend_points(claim, points)
    assert trend.data.values == pytest.approx(2.0) and trend.data.comparison == pytest.approx(2.0)


def test_holms_adjustment() -> None:
    assert holm_adjusted([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm_adjusted([]) == []
    assert chance_of_luck([0.05] * 20) == pytest.approx(0.64, abs=0.005)


@pytest.mark.full
def test_claims_that_changed_since_a_run_with_the_same_seed(tmp_path: Path) -> None:
    _run(tmp_path / "first")
    assert not any(verdict.changed for verdict in _run(tmp_path / "second").verdicts)
    easier = TEXT.replace("above: 0.05", "above: -9")
    changed = _run(tmp_path / "third", easier)
    texts = [verdict.changed for verdict in changed.verdicts]
    assert texts[:2] == ["", ""] and "bound" in texts[2] and "same seed" in texts[2]
    assert "changed" in json.loads((changed.folder / "claims.json").read_text())[2]
    assert "bound" in (changed.folder / "report.html").read_text()
    other_seed = _run(tmp_path / "fourth", easier.replace("seed: 4", "seed: 5"))
    assert not any(verdict.changed for verdict in other_seed.verdicts)


@pytest.mark.parametrize("swept", [[0.1, 0.2, 0.3], [0.1, 0.2, 0.4, 0.7], [0.9, 0.95, 0.99]])
@pytest.mark.parametrize("key", ["slope_in", "monotone_in"])
def test_what_does_not_change_has_no_trend(swept: list[float], key: str) -> None:
    """Weights of float64 do not sum to exactly 0, and float32 values may differ in the last bit."""
    claim = make_claim(**{key: "x"})
    values = np.random.default_rng(1).normal(size=32).astype(np.float32).astype(np.float64)
    up = np.where(np.arange(32) % 2, values, np.nextafter(values.astype(np.float32), 9))
    points = [PointData({"x": x}, ClaimData(up if n == 1 else values)) for n, x in enumerate(swept)]
    for trend in trend_points(claim, points):
        assert (trend.data.values == 0).all()
        assert evaluate_claim_data(claim, trend.data, None).status == "undecided"


def test_small_steps_of_bounded_metrics_are_found_as_differences_of_arms_are() -> None:
    rng = np.random.default_rng(2)
    first = 0.5 + 0.1 * rng.random(64)
    second = first + 0.03 + 0.01 * rng.normal(size=64)
    data = [ClaimData(values, None, (0.0, 1.0)) for values in (first, second)]
    claim = make_claim(monotone_in="x")
    (step,) = trend_points(claim, [PointData({"x": x}, d) for x, d in enumerate(data)])
    verdict = evaluate_claim_data(claim, step.data, None)
    assert verdict.status == "holds" and "none of 64 replicates" in verdict.warning
    arms = evaluate_claim(make_claim(compare_to="b"), second, first, bounds=(0.0, 1.0))
    assert verdict.estimate.low == pytest.approx(arms.estimate.low)

"""Uncertain parameters: cells at draws from their ranges, claims over the draws."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mores.analysis.sampling_intervals import interval_over_draws
from mores.experiments.results.run_reader import open_run
from mores.experiments.run import run_scenario
from mores.experiments.run.parameter_uncertainty import plan_cells, sensitivity_indices
from mores.experiments.scenario.loading import load_scenario
from tests.cells import expand_and_verify
from tests.refusals import check_message, refused
from tests.run.small_run import problem_paths

TEXT = """\
name: uncertain
about: The effect of a persuader depends on the influence of an assistant.
env: {kind: coevolution, human: idealised, num_people: 30, initial_std: 0.1}
policies: {assistant: {kind: persuader, goal: [1.0, 0.0], goal_weight: 1.0}}
rounds: 1
replicates: 6
seed: 5
metrics: [mean_value]
control: twin
arms:
  twin: {env.num_assistants: 0}
  persuaded: {}
  no_influence: {env.ai_influence: 0.0}
uncertainty:
  parameters: {env.ai_influence: [0.2, 0.6], policies.assistant.goal_weight: [0.9, 1.0]}
  sensitivity: {metric: effect_vs_control, arm: persuaded}
claims:
  - {statement: At .1 it is about .1, kind: statistical, metric: effect_vs_control, arm: persuaded,
     bound: {within: [0.05, 0.15]}}
  - {statement: It is at least .15, kind: statistical, metric: effect_vs_control, arm: persuaded,
     interval: parameters, bound: {above: 0.15}}
  - {statement: It is at least .4, kind: statistical, metric: effect_vs_control, arm: persuaded,
     interval: parameters, bound: {above: 0.4}}
  - {statement: Without influence there is no effect, kind: statistical, arm: no_influence,
     metric: effect_vs_control, interval: parameters, bound: {below: 1.0e-6}}
"""


def _load(folder: Path, text: str = TEXT) -> Any:
    file = folder / "uncertain.yaml"
    file.write_text(text)
    return load_scenario(str(file))


@pytest.mark.full
def test_a_claim_must_hold_over_the_ranges(tmp_path):
    result = run_scenario(_load(tmp_path), tmp_path / "run", progress=False)
    # the people are near 0 and the goal at distance 1: effect = ai_influence * goal_weight
    # six replicates of unknown shape decide nothing
    assert [v.status for v in result.verdicts] == ["undecided", "holds", "undecided", "holds"]
    over = result.verdicts[2]
    assert over.estimate.n == 39
    check_message(re.sub("[0-9.]+ to [0-9.]+", "...", over.reason))
    assert over.estimate.low == pytest.approx(0.2 * 0.95, abs=0.02)
    assert over.estimate.high == pytest.approx(0.6 * 0.95, abs=0.04)
    run = open_run(result.folder)
    draws = run.dataframe(purpose="draw")
    assert len(draws[["arm", "draw"]].drop_duplicates()) == 39 * 3
    # every draw has random numbers of its own
    assert set(draws[draws.draw == 7].replicate) == {28, 29, 30, 31}


def test_arms_are_simulated_at_the_same_points_with_their_own_parameters(tmp_path):
    cells = plan_cells(_load(tmp_path)).cells
    draws = [d for cell in cells if cell.purpose == "draw" for d in cell.separate_draws]
    arms = ("twin", "persuaded", "no_influence")
    by_arm = {arm: [dict(c.point) for c in draws if c.arm == arm] for arm in arms}
    assert by_arm["twin"] == by_arm["persuaded"]
    assert all(c.env["ai_influence"] == 0.0 for c in draws if c.arm == "no_influence")
    weight = "policies.assistant.goal_weight"  # the arm's own influence is not in its points
    assert by_arm["no_influence"] == [{weight: point[weight]} for point in by_arm["twin"]]
    influence = np.array([p["env.ai_influence"] for p in by_arm["twin"]])
    assert ((influence >= 0.2) & (influence <= 0.6)).all()
    assert abs(influence.mean() - 0.4) < 0.01  # more even than independent draws


@pytest.mark.full
def test_monte_carlo_error_is_in_the_interval_over_draws(tmp_path):
    """A parameter without effect: the interval is that of 39 means of 4 replicates around 0."""
    text = """\
name: nothing
about: The size of a space that all people are far from filling.
env: {kind: coevolution, num_people: 4, num_assistants: 0}
rounds: 1
replicates: 4
metrics: [mean_value]
uncertainty: {parameters: {env.value_limit: [50.0, 60.0]}}
claims:
  - {statement: The mean is positive, kind: statistical, metric: "mean_value[0]",
     interval: parameters, bound: {above: 0}}
"""
    (verdict,) = run_scenario(_load(tmp_path, text), tmp_path / "run", progress=False).verdicts
    assert verdict.status == "undecided"
    # a mean over 4 replicates of 4 people has a standard deviation of 1/4: 39 span about 1.1
    assert 0.7 < verdict.estimate.high - verdict.estimate.low < 1.6


def test_sensitivity_indices(tmp_path):
    from mores.experiments.run.cell_execution import run_cell

    loaded = _load(tmp_path)
    cells = [cell for cell in plan_cells(loaded).cells if cell.purpose == "design"]
    assert {cell.arm for cell in cells} == {"persuaded", "twin"}
    results = {c.id: run_cell(c, loaded.scenario, range(6), lambda _: None) for c in cells}
    indices = sensitivity_indices(loaded.scenario, cells, results)
    assert list(indices.parameter_names) == ["env.ai_influence", "policies.assistant.goal_weight"]
    influence, weight = indices.bands["mu_star"].value
    assert influence == pytest.approx(0.4 * 0.95, rel=0.1)  # range times slope
    assert weight == pytest.approx(0.1 * 0.4, rel=0.35)


@pytest.mark.full
def test_scipy_stats_is_not_imported_without_draws():
    """It takes about as long to import as all that `mores check` needs."""
    program = "import sys; from mores.cli.commands import main; main(['check', 'karate'])\n"
    program += "sys.exit('scipy.stats' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", program], stderr=subprocess.DEVNULL).returncode == 0
    )


def test_order_statistics_cover_another_draw():
    """A further draw lies in the interval in 95 % of cases: 4,000 of them, standard error .0034."""
    draws = np.random.default_rng(1).exponential(size=(4000, 40))
    inside = 0
    for row in draws:
        interval = interval_over_draws(row[:39], 0.95)
        inside += interval.low <= row[39] <= interval.high
    assert inside / 4000 == pytest.approx(0.95, abs=4 * 0.0034)
    assert interval_over_draws(draws[0][:20], 0.95).low == -np.inf


@pytest.mark.parametrize(
    ("old", "new", "code", "path"),
    [
        ("env.ai_influence: [0.2", "env.ai_influense: [0.2", "unknown_name",
         "uncertainty.parameters.env.ai_influense"),
        ("[0.2, 0.6]", "[0.6, 0.2]", "invalid_value", "uncertainty.parameters.env.ai_influence"),
        ("[0.2, 0.6]", "[0.2, 1.6]", "out_of_range", "uncertainty.parameters.env.ai_influence"),
        ("metric: effect_vs_control, arm: persuaded}", "metric: effect, arm: persuaded}",
         "unknown_name", "uncertainty.sensitivity.metric"),
        ("_vs_control, arm: persuaded}", "_vs_control, arm: persuade}", "unknown_name",
         "uncertainty.sensitivity.arm"),
        ("_vs_control, arm: persuaded}", "_vs_control}", "missing",
         "uncertainty.sensitivity uncertainty.sensitivity.metric"),
        ("_control, arm: persuaded}", "_control, arm: persuaded, method: sobol, num_samples: 7}",
         "invalid_value", "uncertainty.sensitivity.num_samples"),
        ("rounds: 1\n", "rounds: 1\nsweep: {env.num_people: [3, 4]}\n", "conflict",
         "uncertainty"),
    ],
)  # fmt: skip
def test_mistakes(workdir, old, new, code, path):
    assert old in TEXT
    with refused(code, path.split()[0]) as caught:
        expand_and_verify(_load(workdir, TEXT.replace(old, new, 1)))
    assert problem_paths(caught.value) == path.split()


def test_claims_over_parameters_need_ranges(workdir):
    text = TEXT[: TEXT.index("uncertainty:")] + TEXT[TEXT.index("claims:") :]
    with refused("missing", "claims.1.interval"):
        expand_and_verify(_load(workdir, text))

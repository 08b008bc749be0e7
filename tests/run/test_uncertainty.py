"""Parameters that nobody knows: played at draws from their ranges, judged over them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mores.analysis.parameter_intervals import interval_over_draws
from mores.analysis.run_reader import open_run
from mores.experiments.run import run_scenario
from mores.experiments.run.parameter_uncertainty import plan_cells, sensitivity_indices
from mores.experiments.scenario.expansion import expand_and_verify
from mores.experiments.scenario.loading import load_scenario
from tests.refusals import check_message, refused
from tests.run.small_run import paths_of

TEXT = """\
name: unsure
about: How far a persuader moves people depends on how much they listen.
env: {kind: coevolution, people: 30, spread: 0.1}
players: {assistant: {kind: persuade, goal: [1.0, 0.0], reach: 1.0}}
rounds: 1
replicates: 6
seed: 5
measures: [centre]
control: twin
arms:
  twin: {env.assistants: 0}
  persuaded: {}
  deaf: {env.ai_influence: 0.0}
uncertain:
  parameters: {env.ai_influence: [0.2, 0.6], players.assistant.reach: [0.9, 1.0]}
  sensitivity: {measure: causal_drift, arm: persuaded}
claims:
  - {says: At .1 it is about .1, kind: statistical, measure: causal_drift, arm: persuaded,
     bound: {within: [0.05, 0.15]}}
  - {says: It is at least .15, kind: statistical, measure: causal_drift, arm: persuaded,
     interval: parameters, bound: {above: 0.15}}
  - {says: It is at least .4, kind: statistical, measure: causal_drift, arm: persuaded,
     interval: parameters, bound: {above: 0.4}}
  - {says: The deaf stay, kind: statistical, measure: causal_drift, arm: deaf,
     interval: parameters, bound: {below: 1.0e-6}}
"""


def _file(folder: Path, text: str = TEXT) -> Any:
    file = folder / "unsure.yaml"
    file.write_text(text)
    return load_scenario(str(file))


def test_a_claim_must_hold_over_the_ranges(tmp_path):
    result = run_scenario(_file(tmp_path), tmp_path / "run", progress=False)
    # the people are near 0, so the way to the goal is 1: drift = influence * reach
    assert [v.status for v in result.verdicts] == ["holds", "holds", "undecided", "holds"]
    over = result.verdicts[2]
    assert over.estimate.n == 39
    check_message(re.sub("[0-9.]+ to [0-9.]+", "...", over.reason))
    assert over.estimate.low == pytest.approx(0.2 * 0.95, abs=0.02)
    assert over.estimate.high == pytest.approx(0.6 * 0.95, abs=0.04)
    found = open_run(result.folder)
    drawn = found.cells_of("draw")
    assert len(drawn) == 39 * 3
    assert set(found.dataframe("persuaded__draw-007").replicate) == {
        28,
        29,
        30,
        31,
    }  # its own chance


def test_arms_are_played_at_the_same_points_and_keep_what_they_set(tmp_path):
    cells = plan_cells(_file(tmp_path))
    drawn = [cell for cell in cells if cell.purpose == "draw"]
    arms = ("twin", "persuaded", "deaf")
    by_arm = {arm: [dict(c.point) for c in drawn if c.arm == arm] for arm in arms}
    assert by_arm["twin"] == by_arm["persuaded"]
    assert all(c.env["ai_influence"] == 0.0 for c in drawn if c.arm == "deaf")
    reach = "players.assistant.reach"  # the deaf's own influence is no draw, and not called one
    assert by_arm["deaf"] == [{reach: point[reach]} for point in by_arm["twin"]]
    influence = np.array([p["env.ai_influence"] for p in by_arm["twin"]])
    assert ((influence >= 0.2) & (influence <= 0.6)).all()
    assert abs(influence.mean() - 0.4) < 0.01  # evenly spread, more so than at random


def test_chance_is_in_the_interval_where_a_parameter_does_nothing(tmp_path):
    """A parameter without effect: the interval is that of 39 means of 4 replicates around 0."""
    text = """\
name: nothing
about: How large a room is that nobody leaves.
env: {kind: coevolution, people: 4, assistants: 0}
rounds: 1
replicates: 4
measures: [centre]
uncertain: {parameters: {env.extent: [50.0, 60.0]}}
claims:
  - {says: People stand right, kind: statistical, measure: "centre[0]", interval: parameters,
     bound: {above: 0}}
"""
    (verdict,) = run_scenario(_file(tmp_path, text), tmp_path / "run", progress=False).verdicts
    assert verdict.status == "undecided"
    # a mean of 4 centres of 4 people has a standard deviation of 1/4: 39 of them span about 1.1
    assert 0.7 < verdict.estimate.high - verdict.estimate.low < 1.6


def test_which_parameter_carries_the_result(tmp_path):
    from mores.experiments.run.cell_execution import run_cell

    loaded = _file(tmp_path)
    cells = [cell for cell in plan_cells(loaded) if cell.purpose == "design"]
    assert {cell.arm for cell in cells} == {"persuaded", "twin"}
    records = {c.id: run_cell(c, loaded.scenario, range(6), lambda _: None) for c in cells}
    found = sensitivity_indices(loaded.scenario, cells, records)
    assert list(found.parameter_names) == ["env.ai_influence", "players.assistant.reach"]
    assert found.mu_star is not None
    influence, reach = found.mu_star.value
    assert influence == pytest.approx(0.4 * 0.95, rel=0.1)  # range times slope
    assert reach == pytest.approx(0.1 * 0.4, rel=0.35)


def test_order_statistics_cover_another_draw():
    """A further draw lies in the interval in 95 % of cases: 4,000 of them, standard error .0034."""
    draws = np.random.default_rng(1).exponential(size=(4000, 40))
    inside = 0
    for row in draws:
        found = interval_over_draws(row[:39], 0.95)
        inside += found.low <= row[39] <= found.high
    assert inside / 4000 == pytest.approx(0.95, abs=4 * 0.0034)
    assert interval_over_draws(draws[0][:20], 0.95).low == -np.inf


@pytest.mark.parametrize(
    ("old", "new", "code", "path"),
    [
        ("env.ai_influence: [0.2", "env.ai_influense: [0.2", "unknown_name",
         "uncertain.parameters.env.ai_influense"),
        ("[0.2, 0.6]", "[0.6, 0.2]", "invalid_value", "uncertain.parameters.env.ai_influence"),
        ("[0.2, 0.6]", "[0.2, 1.6]", "out_of_range", "uncertain.parameters.env.ai_influence"),
        ("measure: causal_drift, arm: persuaded}", "measure: drift, arm: persuaded}",
         "unknown_name", "uncertain.sensitivity.measure"),
        ("causal_drift, arm: persuaded}", "causal_drift, arm: persuade}", "unknown_name",
         "uncertain.sensitivity.arm"),
        ("causal_drift, arm: persuaded}", "causal_drift}", "missing",
         "uncertain.sensitivity uncertain.sensitivity.measure"),
        ("causal_drift, arm: persuaded}", "causal_drift, arm: persuaded, method: sobol, size: 7}",
         "invalid_value", "uncertain.sensitivity.size"),
        ("rounds: 1\n", "rounds: 1\nsweep: {env.people: [3, 4]}\n", "conflict", "uncertain"),
    ],
)  # fmt: skip
def test_mistakes(here, old, new, code, path):
    assert old in TEXT
    with refused(code, path.split()[0]) as caught:
        expand_and_verify(_file(here, TEXT.replace(old, new, 1)))
    assert paths_of(caught.value) == path.split()


def test_claims_over_parameters_need_their_ranges(here):
    text = TEXT[: TEXT.index("uncertain:")] + TEXT[TEXT.index("claims:") :]
    with refused("missing", "claims.1.interval"):
        expand_and_verify(_file(here, text))

"""Figures: that they show what was recorded, for every kind of run."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mores.analysis.sensitivity import compute_indices, sample_design
from mores.report import table_rows
from mores.report.figures import ReportData, render_figures
from mores.report.figures.attribution_plots import arm_effects, largest_effect
from mores.report.figures.learning_curves import block_means
from mores.report.figures.plot_data import format_number
from mores.report.page import summarize_drift
from tests.refusals import check_message
from tests.run.small_run import ARMS, EVIL, recorded, scenario_of, shown_of


def test_drift_is_told_as_it_was_measured():
    shown = shown_of(scenario_of(**ARMS))
    by_arm = {row.name: row for row in arm_effects(shown)}
    for arm in ("ai", "friends", "both"):
        moved = shown.record(arm).by_replicate("centre[0]") - shown.record("twin").by_replicate(
            "centre[0]"
        )
        found = by_arm[arm]
        assert found.distance is not None
        assert found.distance.value == pytest.approx(np.abs(moved[:, -1]).mean())
        assert found.components[f"left {EVIL}"].value == pytest.approx(moved[:, -1].mean())
        assert found.components["up"].value == 0.0
    assert by_arm["ai"].factors == ("AI",)
    assert by_arm["friends"].factors == ("environment",)
    assert set(by_arm["both"].factors) == {"AI", "environment"}
    most = largest_effect(shown)
    assert most is not None
    assert most.name == "ai"
    told = summarize_drift(shown)
    assert "“ai” (AI)" in told
    assert f"left {EVIL}" in told
    check_message(re.sub("[0-9.]+", "...", told))


def test_what_two_changes_do_beyond_their_sum():
    rows = arm_effects(shown_of(scenario_of(**ARMS)))
    (beyond,) = [row for row in rows if row.is_interaction]
    assert beyond.name == "ai + friends"
    assert beyond.components[f"left {EVIL}"].value == pytest.approx(0.05, abs=0.02)
    assert beyond.distance is None


def _names(shown: ReportData, found: Any = None) -> dict[str, int]:
    return {picture.spec.name: len(picture.svgs) for picture in render_figures(shown, found)}


def test_one_arm_without_a_control():
    assert _names(shown_of(scenario_of())) == {"people": 1, "measures": 3}


def test_many_people_become_regions_and_one_value_becomes_a_histogram():
    shown = shown_of(scenario_of(**ARMS), people=400)
    (people,) = [p for p in render_figures(shown) if p.spec.name == "people"]
    assert len(people.svgs) == 4
    check_message(people.spec.caption)
    assert len(people.svgs[0]) < 60_000
    for record in shown.records.values():
        record.latent["values"] = record.latent["values"][..., :1]  # type: ignore[index]
    (people,) = [p for p in render_figures(shown) if p.spec.name == "people"]
    check_message(people.spec.caption)


def test_episodes_are_learning_curves():
    stages = [
        {"name": "before", "loop": "improve", "learn": "assistant", "episodes": 5},
        {"name": "after", "episodes": 5},
    ]
    shown = shown_of(scenario_of(stages=stages), stages=("before", "after"), episodes=5)
    drawn = {picture.spec.name: picture for picture in render_figures(shown)}
    before, after = drawn["learning_before"], drawn["learning_after"]
    assert len(before.svgs) == len(after.svgs) == 3
    for stage, picture in (("before", before), ("after", after)):
        (axis,) = set(re.findall(f">([^<]*{stage}[^<]*)<", picture.svgs[0]))
        check_message(axis)
        check_message(picture.spec.caption)
    assert table_rows.stage_rows(shown.scenario)[0]["learn"] == "assistant"


def test_arms_in_which_nobody_learns_are_named():
    stages = [{"name": "first", "episodes": 2}, {"name": "last", "loop": "improve",
              "learn": "assistant", "episodes": 2}]  # fmt: skip
    shown = shown_of(scenario_of(stages=stages, **ARMS), stages=("first", "last"), episodes=2)
    records = {
        cell: replace(record, num_models=0 if cell == "twin" else 8)
        for cell, record in shown.records.items()
    }
    drawn = {p.spec.name: p.spec for p in render_figures(replace(shown, records=records))}
    assert "twin" in drawn["learning_last"].caption
    assert "twin" not in drawn["learning_first"].caption
    check_message(drawn["learning_last"].caption)
    check_message(drawn["learning_first"].caption)


def test_without_learners_episodes_are_episodes():
    stages = [{"name": "one", "episodes": 3}, {"name": "two"}]
    shown = shown_of(scenario_of(stages=stages), stages=("one", "two"), episodes=3)
    drawn = {p.spec.name: p for p in render_figures(shown)}
    (axis,) = set(re.findall(">([^<]*episode[^<]*)<", drawn["episodes_one"].svgs[0]))
    check_message(axis)
    check_message(drawn["episodes_one"].spec.caption)


@pytest.mark.parametrize("episodes", [1, 59, 60, 61, 120, 121, 100_000])
def test_many_episodes_are_shown_in_blocks(episodes):
    """Means of means, weighted by their size, are the mean of all; so are the middles."""
    rows = np.random.default_rng(0).normal(size=(3, episodes))
    at, values, size = block_means(rows)
    assert len(at) == values.shape[1] <= 60
    counts = np.full(len(at), size)
    counts[-1] = episodes - size * (len(at) - 1)
    assert 0 < counts[-1] <= size
    np.testing.assert_allclose((values * counts).sum(1), rows.sum(1), atol=1e-8)
    assert (at * counts).sum() == pytest.approx(episodes * (episodes + 1) / 2)
    if size == 1:
        np.testing.assert_array_equal(values, rows)


def test_a_learner_without_numbers_leaves_a_gap_that_is_told():
    stages = [{"name": "train", "loop": "improve", "learn": "assistant", "episodes": 5}]
    shown = shown_of(scenario_of(stages=stages), stages=("train",), episodes=5)
    shown.record("main").metrics["spread"][3, 3:] = np.nan
    (picture,) = [p for p in render_figures(shown) if p.spec.name == "learning_train"]
    check_message(picture.spec.caption)


def test_a_sweep_is_a_line_or_maps():
    claims = [{"says": "as said", "kind": "statistical", "measure": "spread",
               "prediction": "spread", "bound": {"above": 0}}]  # fmt: skip
    line = scenario_of(sweep={"env.spread": [0.1, 0.2, 0.4]}, claims=claims)
    assert _names(shown_of(line)) == {"formulas": 1, "sweep_0": 1}
    sweep = {"env.spread": [0.1, 0.2], "env.ai_influence": [0.5, 1.0, 0.7], "env.people": [5, 6]}
    maps = scenario_of(sweep=sweep, claims=claims)
    names = _names(shown_of(maps))
    assert names == {"formulas": 1, "sweep_0": 2}
    assert ("env.ai_influence", "0.5, 1, 0.7") in table_rows.range_rows(maps)


@pytest.mark.parametrize("method", ["morris", "sobol"])
def test_which_parameter_carries_the_result(method):
    pytest.importorskip("SALib")
    ranges = {"env.spread": (0.0, 1.0), "env.extent": (0.0, 1.0)}
    asked = {"method": method, "size": 8, "measure": "spread"}
    uncertain = {"parameters": ranges, "sensitivity": asked}
    points = sample_design(method, ranges, 8, 0)
    found = compute_indices(method, ranges, points, 5 * points[:, 1] + points[:, 0])
    drawn = render_figures(shown_of(scenario_of(uncertain=uncertain)), found)
    (picture,) = [p for p in drawn if p.spec.name == "sensitivity"]
    names = re.findall(r">(env\.\w+)<", picture.svgs[0])
    assert names == ["env.extent", "env.spread"]  # the most important first
    check_message(re.sub(r"[0-9]+\.[0-9]+", "...", picture.spec.caption))


def test_what_was_calibrated_to_what():
    targets = [
        {"says": f"moved {EVIL}", "measure": "centre[0]", "arm": "ai", "against": "twin",
         "value": 0.2, "error": 0.05, "source": "a panel"},
        {"says": "held out", "measure": "spread", "value": 1.0, "held_out": True, "at": 2},
        {"says": "never measured", "measure": "drift", "value": 1.0, "held_out": True},
    ]  # fmt: skip
    calibration = {"parameters": {"env.spread": [0.0, 1.0]}, "targets": targets}
    shown = shown_of(scenario_of(calibration=calibration, **ARMS))
    moved, held, never = table_rows.target_rows(shown)
    apart = shown.mean_value_difference("ai", 0)[:, -1].mean()
    assert (
        moved["off"]
        == f"{format_number(apart - 0.2)} ({format_number((apart - 0.2) / 0.05, 2)} standard errors)"
    )
    assert moved["value"] == "0.2"
    assert not moved["held_out"]
    assert held["held_out"]
    check_message(str(held["error"]))
    check_message(str(never["simulated"]))
    (row,) = table_rows.fitted_parameter_rows(shown)
    assert (row["path"], row["searched"]) == ("env.spread", "0 to 1")
    check_message(str(row["value"]))
    fit = SimpleNamespace(path="env.spread", low=0.1, high=0.3)
    (row,) = table_rows.fitted_parameter_rows(shown, SimpleNamespace(parameters=[fit]))
    assert row["interval"] == "0.1 to 0.3"


def test_every_measure_at_the_end_in_numbers():
    shown = shown_of(scenario_of(**ARMS))
    shown.record("both").metrics["spread"][:, :, -1] = np.nan
    columns, rows = table_rows.final_metric_rows(shown)
    assert columns == [f"centre: left {EVIL}", "centre: up", "spread"]
    assert [row["name"] for row in rows] == ["twin", "ai", "friends", "both"]
    last = shown.record("ai").by_replicate("centre[0]")[:, -1]
    assert float(rows[1]["ends"][0].split()[0].replace("−", "-")) == pytest.approx(
        last.mean(), abs=0.01
    )
    assert rows[1]["ends"][1] == "0"
    assert rows[3]["ends"][2] == "–"


def test_draws_of_uncertain_parameters_are_not_arms():
    scenario = scenario_of(**ARMS)
    cells, records = recorded(scenario)
    draws = [replace(cell, id=f"{cell.id}-draw", purpose="draw", index=3) for cell in cells]
    shown = ReportData.from_run(scenario, [*cells, *draws], records)
    assert [cell.id for cell in shown.cells] == [cell.id for cell in cells]
    assert len(shown.points) == 1


def test_numbers_that_are_none_do_not_stop_the_report():
    shown = shown_of(scenario_of(**ARMS))
    record = shown.record("both")
    for rows in record.metrics.values():
        rows[:, :, 2:] = np.nan
    assert set(_names(shown)) == {"drift", "people", "causes", "measures"}
    most = largest_effect(shown)
    assert most is not None
    assert most.name == "ai"

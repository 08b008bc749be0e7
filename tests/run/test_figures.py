"""Figures of every kind of run, against the recorded values."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mores.analysis.sensitivity import compute_indices, sample_design
from mores.report import table_rows
from mores.report.figures import RenderedFigure, ReportData, render_figures
from mores.report.figures.attribution import arm_effects
from mores.report.figures.bar_charts import wrap_path
from mores.report.figures.claim_lines import claim_figures
from mores.report.figures.metric_lines import block_means
from mores.report.figures.plot_data import format_number
from mores.report.page import summarize_drift
from tests.refusals import check_message
from tests.run.small_run import (
    ARMS,
    HOSTILE_LABEL,
    HOSTILE_TEXT,
    make_report_data,
    make_results,
    make_scenario,
)


def test_arm_effects_are_the_recorded_effects():
    data = make_report_data(make_scenario(**ARMS))
    by_arm = {row.name: row for row in arm_effects(data)}
    for arm in ("ai", "friends", "both"):
        values = [data.record(name).by_replicate("mean_value[0]") for name in (arm, "twin")]
        effect = values[0] - values[1]
        row = by_arm[arm]
        assert row.distance is not None
        assert row.distance.value == pytest.approx(np.abs(effect[:, -1]).mean())
        assert row.components[HOSTILE_LABEL].value == pytest.approx(effect[:, -1].mean())
        assert row.components["up"].value == 0.0
    assert by_arm["ai"].factors == ("AI",)
    assert by_arm["friends"].factors == ("environment",)
    assert set(by_arm["both"].factors) == {"AI", "environment"}
    sentence = summarize_drift(data)
    assert "“ai” (AI)" in sentence
    assert HOSTILE_LABEL in sentence
    check_message(re.sub("[0-9.]+", "...", sentence))


def test_interaction_is_the_combined_effect_minus_the_main_effects():
    rows = arm_effects(make_report_data(make_scenario(**ARMS)))
    (interaction,) = [row for row in rows if row.is_interaction]
    assert interaction.name == "ai + friends"
    assert interaction.components[HOSTILE_LABEL].value == pytest.approx(0.05, abs=0.02)
    assert interaction.distance is None


def _figures(data: ReportData, indices: Any = None) -> dict[str, RenderedFigure]:
    return {figure.spec.name: figure for figure in render_figures(data, indices)}


def _num_panels(data: ReportData) -> dict[str, int]:
    return {name: len(figure.svgs) for name, figure in _figures(data).items()}


def test_one_arm_without_a_control():
    assert _num_panels(make_report_data(make_scenario())) == {"people": 1, "metrics": 3}


@pytest.mark.full
def test_many_people_have_density_regions_and_one_dimension_has_a_histogram():
    data = make_report_data(make_scenario(**ARMS), num_people=400)
    people = _figures(data)["people"]
    assert len(people.svgs) == 4
    check_message(people.spec.caption)
    assert len(people.svgs[0]) < 60_000
    for record in data.records.values():
        latent = record.trajectory.latent
        latent["values"] = latent["values"][..., :1]  # type: ignore[index]
    people = _figures(data)["people"]
    check_message(people.spec.caption)


@pytest.mark.full
def test_learning_curves_by_episode():
    stages = [
        {"name": "before", "loop": "train", "roles_to_train": "assistant", "episodes": 5},
        {"name": "after", "episodes": 5},
    ]
    data = make_report_data(make_scenario(stages=stages), stages=("before", "after"), episodes=5)
    figures = _figures(data)
    before, after = figures["learning_before"], figures["learning_after"]
    assert len(before.svgs) == len(after.svgs) == 3
    for stage, figure in (("before", before), ("after", after)):
        (x_label,) = set(re.findall(f">([^<]*{stage}[^<]*)<", figure.svgs[0]))
        check_message(x_label)
        check_message(figure.spec.caption)
    assert table_rows.stage_rows(data.scenario)[0][2] == "assistant"


@pytest.mark.full
def test_caption_names_arms_without_training():
    stages = [{"name": "first", "episodes": 2}, {"name": "last", "loop": "train",
              "roles_to_train": "assistant", "episodes": 2}]  # fmt: skip
    scenario = make_scenario(stages=stages, **ARMS)
    data = make_report_data(scenario, stages=("first", "last"), episodes=2)
    records = {
        cell: replace(record, num_models=0 if cell == "twin" else 8)
        for cell, record in data.records.items()
    }
    figures = _figures(replace(data, records=records))
    assert "twin" in figures["learning_last"].spec.caption
    assert "twin" not in figures["learning_first"].spec.caption.split("Lines:")[0]
    check_message(figures["learning_last"].spec.caption)
    check_message(figures["learning_first"].spec.caption)


@pytest.mark.full
def test_metrics_by_episode_without_training():
    stages = [{"name": "one", "episodes": 3}, {"name": "two"}]
    data = make_report_data(make_scenario(stages=stages), stages=("one", "two"), episodes=3)
    figures = _figures(data)
    (x_label,) = set(re.findall(">([^<]*episode[^<]*)<", figures["episodes_one"].svgs[0]))
    check_message(x_label)
    check_message(figures["episodes_one"].spec.caption)


@pytest.mark.parametrize("episodes", [1, 59, 60, 61, 120, 121, 100_000])
def test_block_means_of_many_episodes(episodes):
    """The weighted mean of block means is the mean of all; the same for the midpoints."""
    rows = np.random.default_rng(0).normal(size=(3, episodes))
    midpoints, values, size = block_means(rows)
    assert len(midpoints) == values.shape[1] <= 60
    counts = np.full(len(midpoints), size)
    counts[-1] = episodes - size * (len(midpoints) - 1)
    assert 0 < counts[-1] <= size
    np.testing.assert_allclose((values * counts).sum(1), rows.sum(1), atol=1e-8)
    assert (midpoints * counts).sum() == pytest.approx(episodes * (episodes + 1) / 2)
    if size == 1:
        np.testing.assert_array_equal(values, rows)


def test_caption_explains_gaps_of_non_finite_values():
    stages = [{"name": "train", "loop": "train", "roles_to_train": "assistant", "episodes": 5}]
    data = make_report_data(make_scenario(stages=stages), stages=("train",), episodes=5)
    data.record("main").stages[-1].array("rms_distance")[3, 3:] = np.nan
    figure = _figures(data)["learning_train"]
    check_message(figure.spec.caption)


def test_sweep_figures_are_a_line_or_heat_maps():
    claims = [{"statement": "as predicted", "kind": "statistical", "metric": "rms_distance",
               "analytic": "rms_distance", "bound": {"above": 0}}]  # fmt: skip
    line = make_scenario(sweep={"env.initial_std": [0.1, 0.2, 0.4]}, claims=claims)
    panels = {"analytic": 1, "sweep_0": 1, "sweep_metrics": 2}
    assert _num_panels(make_report_data(line)) == panels
    sweep = {"env.initial_std": [0.1, 0.2], "env.ai_influence": [0.5, 1.0, 0.7]}
    maps = make_scenario(sweep={**sweep, "env.num_people": [5, 6]}, claims=claims)
    panels = {"analytic": 1, "sweep_0": 2, "maps_0": 2}
    assert _num_panels(make_report_data(maps)) == panels
    assert ["env.ai_influence", "0.5, 1, 0.7"] in table_rows.range_rows(maps)


@pytest.mark.parametrize("method", ["morris", "sobol"])
def test_sensitivity_figure_ranks_parameters(method):
    pytest.importorskip("SALib")
    ranges = {"env.initial_std": (0.0, 1.0), "env.value_limit": (0.0, 1.0)}
    sensitivity = {"method": method, "num_samples": 8, "metric": "rms_distance"}
    uncertainty = {"parameters": ranges, "sensitivity": sensitivity}
    points = sample_design(method, ranges, 8, 0)
    indices = compute_indices(method, ranges, points, 5 * points[:, 1] + points[:, 0])
    data = make_report_data(make_scenario(uncertainty=uncertainty))
    figure = _figures(data, indices)["sensitivity"]
    names = re.findall(r">(env\.\w+)<", figure.svgs[0])
    assert names == ["env.value_limit", "env.initial_std"]  # the most important first
    check_message(re.sub(r"[0-9]+\.[0-9]+", "...", figure.spec.caption))


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("env.human.permanent_share", "env.human.permanent_share"),
        ("env.human.half_life.values.left", "env.human.half_life.values\n.left"),
        ("env.trust.initial_trust.values.left", "env.trust.initial_trust\n.values.left"),
        (27 * "a", f"…{25 * 'a'}"),
    ],
)
def test_a_long_path_has_two_lines(path, label):
    assert wrap_path(path) == label


def test_calibration_rows():
    targets = [
        {"statement": f"moved {HOSTILE_TEXT}", "metric": "mean_value[0]", "arm": "ai",
         "compare_to": "twin", "value": 0.2, "standard_error": 0.05, "source": "a panel"},
        {"statement": "held out", "metric": "rms_distance", "value": 1.0, "held_out": True,
         "at_round": 2},
        {"statement": "never measured", "metric": "drift", "value": 1.0, "held_out": True},
    ]  # fmt: skip
    calibration = {"parameters": {"env.initial_std": [0.0, 1.0]}, "targets": targets}
    data = make_report_data(make_scenario(calibration=calibration, **ARMS))
    effect, held_out, not_recorded = table_rows.target_rows(data)
    difference = data.drift["ai"][0, :, -1].mean()
    error = difference - 0.2
    z = f"{format_number(error / 0.05, 2)} standard errors"
    assert effect[3] == f"{format_number(error)} ({z})"
    assert effect[1].startswith("0.2 ± 0.05")
    assert (effect[4], effect[5]) == ("fitted", "a panel")
    assert held_out[4].startswith("held out")
    check_message(held_out[1].partition(" ")[2])
    check_message(not_recorded[2])
    (row,) = table_rows.fitted_parameter_rows(data)
    assert (row[0], row[2]) == ("env.initial_std", "0 to 1")
    check_message(row[1])


def test_final_metric_table():
    data = make_report_data(make_scenario(**ARMS))
    data.record("both").stages[-1].array("rms_distance")[:, :, -1] = np.nan
    columns, rows = table_rows.final_metric_table(data)
    assert columns == ["arm", f"mean value: {HOSTILE_LABEL}", "mean value: up", "rms distance"]
    assert [row[0] for row in rows] == ["twin", "ai", "friends", "both"]
    final = data.record("ai").by_replicate("mean_value[0]")[:, -1]
    assert float(rows[1][1].split()[0].replace("−", "-")) == pytest.approx(final.mean(), abs=0.01)
    assert rows[1][2] == "0"
    assert rows[3][3] == "–"


def test_agents_of_several_policies_have_the_kinds_of_their_policies():
    members = [{"kind": "language"}, "random"]
    policies = {"player": {"kind": "per_agent", "policies": members, "agents_per_policy": [1, 3]}}
    cells, records = make_results(make_scenario(**ARMS))
    cells = [replace(each, policies=policies if each.arm == "ai" else {}) for each in cells]
    data = ReportData.from_run(make_scenario(**ARMS), cells, records)
    agents = "player_0 (language), player_1 to player_3 (random)"
    assert table_rows.agent_rows(data) == [["ai", agents]]


def test_report_data_omits_parameter_draws():
    scenario = make_scenario(**ARMS)
    cells, records = make_results(scenario)
    draws = [replace(cell, id=f"{cell.id}-draw", purpose="draw", index=3) for cell in cells]
    data = ReportData.from_run(scenario, [*cells, *draws], records)
    assert [cell.id for cell in data.cells] == [cell.id for cell in cells]
    assert len(data.points) == 1


@pytest.mark.full
def test_report_with_non_finite_values():
    data = make_report_data(make_scenario(**ARMS))
    record = data.record("both")
    for metric in record.stage().metrics.data_vars.values():
        metric.values[:, :, 2:] = np.nan
    assert set(_num_panels(data)) == {"drift", "people", "attribution", "metrics"}
    assert "“ai” (AI)" in summarize_drift(data)


def test_the_first_figure_shows_the_stage_of_the_claim():
    """Differences are paired by replicate, of the stage and round that the claim is about."""
    claim = {"statement": "further", "kind": "statistical", "metric": "rms_distance", "arm": "ai"}
    claim |= {"compare_to": "friends", "stage": "one", "at_round": 2, "bound": {"above": 0.1}}
    stages = [{"name": "one", "episodes": 2}, {"name": "two"}]
    scenario = make_scenario(stages=stages, claims=[claim], **ARMS)
    data = make_report_data(scenario, stages=("one", "two"), episodes=2)
    (figure,) = claim_figures(data)
    check_message(figure.caption)
    assert figure.panels[0].title == "Claim (1) on “ai”: rms distance minus that in “friends”"
    assert list(figure.legend) == ["ai", "twin", "both", "bound of claim (1)"]
    difference = [data.record(arm).by_replicate("rms_distance", "one") for arm in ("ai", "friends")]
    end = (difference[0] - difference[1])[:, -1].mean()
    assert f"ai {format_number(float(end))}" in figure.panels[0].alt_text
    every = {**claim, "kind": "by_construction", "every_replicate": True}
    scenario = make_scenario(stages=stages, claims=[every], **ARMS)
    assert not claim_figures(replace(data, scenario=scenario))

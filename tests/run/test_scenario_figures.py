"""Figures that a scenario lists: numbers, captions and labels, and the report that they open."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure as Canvas

from mores.analysis.intervals import estimate
from mores.core.random_streams import Worlds
from mores.experiments.results.cell_result import StageResult
from mores.experiments.scenario.specification import Scenario
from mores.registry import REGISTRIES
from mores.report.figures import Figure, ReportData
from mores.report.figures.figure import scenario_figures
from mores.report.figures.label_placement import place_labels, wrap_name
from mores.report.figures.plot_data import format_interval, format_number
from mores.report.figures.rendering import FigureSpec, PanelSpec, render
from mores.report.page import write_report
from tests.refusals import check_message
from tests.run.small_run import ARMS, ROUNDS, make_metrics, make_report_data, make_scenario

TRADEOFF = {
    "kind": "tradeoff", "title": "Two metrics", "x": "rms_distance", "y": "mean_value[0]",
    "note": "Right is further.", "series": {"fixed": ["twin", "ai"], "other": ["friends", "both"]},
    "lines": ["fixed"], "groups": {"pair": ["ai", "both"]},
}  # fmt: skip
RESPONSE = {
    "kind": "response", "x": [0.0, 0.5], "y": ["rms_distance", "mean_value[1]"],
    "x_label": "initial deviation", "series": {"without": ["twin", "friends"]},
    "compare_to": {"without": ["ai", "both"]}, "at_round": 2,
}  # fmt: skip


def data_with(*figures: dict[str, Any], **fields: Any) -> ReportData:
    return make_report_data(make_scenario(figures=list(figures), **ARMS, **fields))


def test_a_tradeoff_shows_the_recorded_means_and_intervals():
    data = data_with(TRADEOFF)
    (spec,) = scenario_figures(data)
    assert (spec.name, spec.heading) == ("figure_1", "Two metrics")
    check_message(spec.caption)
    assert list(spec.legend) == ["fixed", "other"]
    assert [style.draws for style in spec.legend.values()] == ["both", "marker"]
    assert [row[0] for row in spec.rows] == ["twin", "ai", "friends", "both"]
    for arm, _, *texts in spec.rows:
        for metric, text in zip(("rms_distance", "mean_value[0]"), texts, strict=True):
            final = data.record(arm).by_replicate(metric)[:, -1]
            assert text == format_interval(estimate(final))
            assert text in spec.panels[0].alt_text
    (figure,) = render([spec])
    drawn = [text.strip() for text in re.findall(r"<text[^>]*>([^<]*)</text>", figure.svgs[0])]
    assert {"pair", "twin", "friends"} <= {*drawn}
    assert not {"ai", "both"} & {*drawn}  # named by their group


def test_a_tradeoff_may_show_differences():
    data = data_with({**TRADEOFF, "compare_to": "twin", "groups": {}, "label": False})
    (spec,) = scenario_figures(data)
    check_message(spec.caption)
    assert spec.columns[2].endswith("minus twin")
    expected = format_interval(data.estimate("rms_distance", "both", "twin"))
    assert {row[0]: row[2] for row in spec.rows}["both"] == expected
    assert {row[0]: row[2] for row in spec.rows}["twin"] == "0"
    render([spec])


def test_points_at_the_same_place_are_rings():
    same = {"kind": "tradeoff", "x": "rms_distance", "y": "rms_distance",
            "series": {"one": ["ai", "both"], "two": ["ai"]}}  # fmt: skip
    (spec,) = scenario_figures(data_with(same))
    check_message(spec.caption)
    (figure,) = render([spec])
    assert "fill-opacity: 0; stroke: var(--line-1)" in figure.svgs[0]


def test_a_response_shows_differences_that_are_paired_by_replicate():
    data = data_with(RESPONSE)
    (spec,) = scenario_figures(data)
    check_message(spec.caption)
    assert len(spec.panels) == 2
    for x, row, arms in zip(
        (0.0, 0.5), spec.rows, (("twin", "ai"), ("friends", "both")), strict=True
    ):
        values = [data.record(arm).by_replicate("rms_distance")[:, 2] for arm in arms]
        assert row[:2] == ["without", format_number(x)]
        mean = float(row[2].split()[0].replace("−", "-"))
        assert mean == pytest.approx((values[0] - values[1]).mean(), abs=0.01)
    axes = Canvas().subplots()
    spec.panels[0].draw(axes)
    (low, high), (left, right) = axes.get_ylim(), axes.get_xlim()
    assert left < 0.0 < 0.5 < right
    estimates = [
        data.estimate("rms_distance", *arms, at_round=2)
        for arms in (("twin", "ai"), ("friends", "both"))
    ]
    assert all(low < each.low < each.high < high for each in estimates)


def test_a_profile_shows_metrics_side_by_side():
    figure = {"kind": "profile", "y": ["mean_value[0]", "rms_distance"], "x": ["one", "two"],
              "series": {"with": ["ai"], "without": ["friends"]}, "compare_to": "twin"}  # fmt: skip
    data = data_with(figure)
    (spec,) = scenario_figures(data)
    check_message(spec.caption)
    assert spec.columns == ("series", "one", "two")
    for (name, *texts), arm in zip(spec.rows, ("ai", "friends"), strict=True):
        assert name in ("with", "without")
        for metric, text in zip(("mean_value[0]", "rms_distance"), texts, strict=True):
            assert text == format_interval(data.estimate(metric, arm, "twin"))
    assert ">two<" in render([spec])[0].svgs[0]


def test_analytic_values_are_dashed():
    figure = {"kind": "response", "x": [0.0, 0.5], "y": "rms_distance", "analytic": "rms_distance",
              "series": {"without": ["twin", "friends"]}}  # fmt: skip
    (spec,) = scenario_figures(data_with(figure))
    check_message(spec.caption)
    axes = Canvas().subplots()
    spec.panels[0].draw(axes)
    assert any((np.asarray(line.get_ydata()) == 1.0).all() for line in axes.get_lines())


def test_panels_of_a_response_may_share_their_range():
    (spec,) = scenario_figures(data_with({**RESPONSE, "share_y": True}))
    ranges = []
    for panel in spec.panels:
        axes = Canvas().subplots()
        panel.draw(axes)
        ranges.append(axes.get_ylim())
    assert ranges[0] == ranges[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"x": ["none", "half of them"], "compare_to": None, "at_round": None},
        {"x": [1.0, 100.0], "log_x": True, "compare_to": "both", "y": "rms_distance"},
        {"x": ["a_very_long_name_without_spaces", "another"], "y": "rms_distance"},
    ],
)
def test_ticks_of_a_response_are_its_x(changes: dict[str, Any]):
    (spec,) = scenario_figures(data_with({**RESPONSE, **changes}))
    check_message(spec.caption)
    text = "".join(render([spec])[0].svgs)
    for x in changes["x"]:
        words = wrap_name(x, 12).split("\n") if isinstance(x, str) else [f"{x:g}"]
        assert all(f">{word.strip()}" in text or word in text for word in words)


def test_one_replicate_and_values_that_are_not_finite():
    data = data_with(TRADEOFF)
    records = {}
    for cell, record in data.records.items():
        rms = record.stage().array("rms_distance")[:1].copy()
        rms[...] = np.nan if cell == "both" else rms
        metrics = {"rms_distance": rms, "mean_value": rms[..., None] * np.ones(2)}
        metrics = make_metrics(metrics, Worlds.of(1), ROUNDS)
        records[cell] = replace(record, stages=(StageResult("rollout", metrics, {}),))
    (spec,) = scenario_figures(replace(data, records=records))
    check_message(spec.caption)
    (figure,) = render([spec])
    assert ">both<" not in figure.svgs[0]


def test_exact_values_have_no_interval_of_shares():
    """A value of 1 in every replicate is not a share of 8 outcomes if nothing was sampled."""
    figure = {"kind": "response", "x": [0], "y": "policy_profit", "series": {"all": ["main"]}}
    env = {"kind": "contracts", "game": {"kind": "limited_liability"}}
    scenario = make_scenario(env=env, metrics=["policy_profit", "profit"], figures=[figure])
    data = make_report_data(scenario)
    ones = np.ones((8, 1, len(ROUNDS)))
    metrics = make_metrics({"policy_profit": ones, "profit": ones}, Worlds.of(8), ROUNDS)
    (name,) = data.records
    record = replace(data.records[name], stages=(StageResult("rollout", metrics, {}),))
    data = replace(data, records={name: record})
    assert data.estimate("policy_profit", "main").low == 1.0
    assert data.estimate("profit", "main").low < 0.7
    (spec,) = scenario_figures(data)
    check_message(spec.caption)


class Own(Figure):
    """A figure of a user."""

    fails: bool = False

    def required_metrics(self, scenario: Scenario) -> tuple[()]:
        """Nothing."""
        return ()

    def draw(self, data: ReportData) -> list[FigureSpec]:
        """Two figures."""
        if self.fails:
            raise ValueError("no data")
        panel = PanelSpec("A diagonal", "From 0 to 1.", lambda axes: axes.plot([0, 1], [0, 1]))
        return [FigureSpec("", "A caption.", [panel])] * 2


@pytest.mark.full
def test_figures_open_the_report_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(REGISTRIES["figure"], "own_test_figure", Own)
    own = {"kind": "own_test_figure", "title": "My own"}
    tradeoff = {**TRADEOFF, "label": False, "groups": {}}
    data = data_with(tradeoff, own, RESPONSE, {**own, "fails": True})
    names = ["figure_1", "figure_2_1", "figure_2_2", "figure_3", "figure_4"]
    monkeypatch.setattr("mores.report.figures.people_figures", lambda data: [])
    write_report(tmp_path, data.scenario, data.cells, data.records, [], {"seed": 0})
    pngs = {path.stem for path in (tmp_path / "figures").glob("figure_*")}
    assert pngs == {*names[:4]}
    text = (tmp_path / "report.html").read_text()
    body = text.split("<body>")[1]
    places = [body.index(f'<section id="{name}">') for name in [*names, "drift"]]
    assert places == sorted(places)
    assert "could not be drawn: ValueError: no data" in body
    assert re.findall(r"#[0-9a-fA-F]{6}\b", body) == []  # colors of both themes are variables
    own_section = body.split('<section id="figure_2_1">')[1].split("</section>")[0]
    assert "var(--line-0)" in own_section


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.full)])
def test_labels_do_not_overlap(seed: int):
    """25 long names at random points in a chart of the size of a trade-off."""
    rng = np.random.default_rng(seed)
    area = (0.0, 0.0, 540.0, 340.0)
    markers = rng.uniform((30, 25), (510, 315), size=(25, 2))
    sizes = rng.uniform((40, 9), (95, 28), size=(25, 2))
    places = place_labels(
        sizes, [*markers[:, None]], markers, np.full(25, 4.0), np.zeros((0, 4)), area
    )
    boxes = places.boxes
    assert (boxes[:, :2] >= -1e-9).all() and (boxes[:, 2:] <= np.array(area[2:]) + 1e-9).all()
    assert (boxes[:, 2:] - boxes[:, :2] >= sizes).all()
    np.testing.assert_array_equal(places.points, markers)
    for i, (left, low, right, high) in enumerate(boxes):
        others = np.delete(boxes, i, axis=0)
        apart = (others[:, 0] >= right) | (others[:, 2] <= left)
        apart |= (others[:, 1] >= high) | (others[:, 3] <= low)
        assert apart.all()
        x, y = markers.T
        assert not ((x > left) & (x < right) & (y > low) & (y < high)).any()


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("short", "short"),
        ("untrusted_monitoring_with_collusion", "untrusted_\nmonitoring_with_\ncollusion"),
        ("x" * 30, "x" * 30),
        ("learned attack policy", "learned attack\npolicy"),
        ("a__b", "a__b"),
    ],
)
def test_a_name_is_wrapped_and_never_cut(name: str, lines: str):
    assert wrap_name(name) == lines

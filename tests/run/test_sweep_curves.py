"""Curves of a sweep: the recorded means and intervals, scales, lines and panels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure as Canvas

from mores.analysis.intervals import compare, estimate
from mores.report.figures import FigureSpec
from mores.report.figures.plot_data import format_interval
from mores.report.figures.sweep_axes import is_geometric, sweep_axes
from mores.report.figures.sweep_plots import sweep_figures
from mores.report.figures.value_labels import unique_labels, value_labels
from mores.report.table_rows import final_metric_table
from tests.run.small_run import make_report_data, make_scenario

CLAIM = {"statement": "x", "kind": "statistical", "metric": "rms_distance", "arm": "ai",
         "compare_to": "twin", "bound": {"above": 0.123}}  # fmt: skip
ARMS: dict[str, Any] = {
    "arms": {name: {"env.value_limit": 3 + i} for i, name in enumerate(("twin", "ai", "friends"))}
}


def figures(**fields: Any) -> tuple[Any, dict[str, FigureSpec]]:
    data = make_report_data(make_scenario(**fields))
    return data, {figure.name: figure for figure in sweep_figures(data)}


def draw(figure: FigureSpec, panel: int = 0) -> Any:
    axes = Canvas().subplots()
    figure.panels[panel].draw(axes)
    return axes


def test_a_curve_has_the_intervals_of_every_arm_at_every_value():
    values = [0.4, 0.1, 0.2, 1.0]
    data, found = figures(sweep={"env.initial_std": values}, claims=[CLAIM], **ARMS)
    figure = found["sweep_0"]
    assert list(figure.legend) == ["ai", "friends"]  # minus twin
    axes = draw(figure)
    assert axes.get_xscale() == "log"
    lines = [line for line in axes.get_lines() if len(line.get_xdata()) == len(values)]
    bands = axes.collections
    assert len(lines) == len(bands) == 2
    for line, band, arm in zip(lines, bands, ("ai", "friends"), strict=True):
        assert list(line.get_xdata()) == sorted(values)
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True):
            cells = data.cells_at_points[values.index(x)]
            one, other = (
                data.records[cells[name].id].by_replicate("rms_distance")[:, -1]
                for name in (arm, "twin")
            )
            expected = compare(one, other)
            assert y == pytest.approx(expected.value)
            ends = np.array(band.get_paths()[0].vertices)
            ends = ends[np.isclose(ends[:, 0], x), 1]
            assert ends.min() == pytest.approx(expected.low)
            assert ends.max() == pytest.approx(expected.high)
    assert 0.123 in [line.get_ydata()[0] for line in axes.get_lines()]  # bound of the claim
    assert "bands: 95 % interval" in figure.caption and "logarithmic axis" in figure.caption
    assert len(figure.rows) == 2 * len(values)
    assert figure.rows[0][:2] == ["ai", "0.4"]


@pytest.mark.full
def test_texts_have_points_with_intervals():
    kinds = [{"kind": kind} for kind in ("mirror", "linear_trend", "silent")]
    _, found = figures(sweep={"policies.assistant": kinds}, claims=[CLAIM], **ARMS)
    axes = draw(found["sweep_0"])
    points = [line for line in axes.get_lines() if line.get_linestyle() == "None"]
    whiskers = [line for line in axes.get_lines() if len(line.get_xdata()) == 2]
    assert len(points) == 2 and len(whiskers) >= 2 * 3
    assert [text.get_text() for text in axes.get_xticklabels()] == [k["kind"] for k in kinds]
    assert "whiskers" in found["sweep_0"].caption


@pytest.mark.full
def test_the_band_of_an_exact_claim_is_the_range_of_its_replicates():
    claim = {"statement": "x", "kind": "exact", "metric": "rms_distance", "bound": {"above": 0}}
    data, found = figures(sweep={"env.initial_std": [0.1, 0.2]}, claims=[claim])
    values = data.records[data.cells_at_points[0]["main"].id].by_replicate("rms_distance")[:, -1]
    ends = np.array(draw(found["sweep_0"]).collections[0].get_paths()[0].vertices)[:, 1]
    assert (ends.min(), ends.max()) == pytest.approx((values.min(), values.max()))
    assert "bands: smallest to largest replicate." in found["sweep_0"].caption


@pytest.mark.full
def test_a_second_parameter_is_lines_and_a_third_panels():
    sweep = {"env.num_people": [5, 6], "env.initial_std": [0.1, 0.2, 0.3], "env.noise_std": [0, 1]}
    data, found = figures(sweep=sweep)
    axes = sweep_axes(data)
    assert (axes.x, axes.line, axes.panels) == (
        "env.initial_std",
        "env.num_people",
        ("env.noise_std",),
    )
    figure = found["sweep_0"]
    assert [panel.title for panel in figure.panels] == ["env.noise_std = 0", "env.noise_std = 1"]
    assert list(figure.legend) == ["env.num_people = 5", "env.num_people = 6"]
    assert draw(figure).get_xscale() == "linear"
    with_arms, found = figures(sweep=sweep, **ARMS)
    assert sweep_axes(with_arms).line is None
    assert len(found["sweep_0"].panels) == 4


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, 4, 8], True),
        ([1, 3, 10, 30], True),
        ([0.5, 1, 2, 5], True),
        ([1, 2, 3, 4], False),
        ([0, 1, 10], False),
        ([1, 100], False),
        ([-1, 1, 10], False),
    ],
)
def test_scale_of_the_axis(values: list[float], expected: bool):
    assert is_geometric(values) == expected


def test_the_table_has_the_estimates_of_claims():
    claim = {**CLAIM, "compare_to": None, "statistic": "median"}
    data, found = figures(sweep={"env.initial_std": [0.1, 0.2]}, claims=[claim], **ARMS)
    figure = found["sweep_0"]
    assert figure.caption.startswith("Median of rms distance after 4 rounds")
    values = data.records[data.cells_at_points[0]["ai"].id].by_replicate("rms_distance")[:, -1]
    row = next(row for row in figure.rows if row[:2] == ["ai", "0.1"])
    assert row[-1] == format_interval(estimate(values, "median"))


PERSUADERS = [{"kind": "persuader", "goal": [5, 5], "goal_weight": w} for w in (1.0, 0.1)]


@pytest.mark.cut(1)
@pytest.mark.parametrize("values", [PERSUADERS, [0.200001, 0.200002]])
def test_values_that_print_alike_have_lines_and_rows_of_their_own(values: list[Any]):
    path = "policies.assistant" if values is PERSUADERS else "env.ai_influence"
    data, found = figures(sweep={"env.noise_std": [0.1, 0.1000001, 0.3], path: values})
    figure = found["sweep_0"]
    assert len(figure.legend) == 2 and len(figure.rows) == 6
    assert len({tuple(row[:2]) for row in figure.rows}) == 6
    assert len(final_metric_table(data)[1]) == 6
    assert len([line for line in draw(figure).get_lines() if len(line.get_xdata()) == 3]) == 2
    _, found = figures(sweep={"env.noise_std": [0.1, 0.2, 0.3], path: values}, **ARMS)
    assert len(found["sweep_0"].panels) == 2


def test_labels_of_values_differ():
    assert value_labels([0.1, 0.1000001, 0.25]) == ["0.1", "0.1000001", "0.25"]
    assert value_labels(PERSUADERS) == [f"persuader (goal_weight {w})" for w in (1.0, 0.1)]
    assert value_labels([{"kind": "silent"}, PERSUADERS[0]]) == ["silent", "persuader"]
    texts = [f"{'a' * 30}{i}" for i in range(2)]
    assert value_labels(texts) == texts
    assert unique_labels(["a", "a", "a (2)"]) == ["a", "a (2)", "a (2) (2)"]

"""Arms whose lines coincide: found, named in the caption, and all visible."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure as Canvas

from mores.report.figures.coinciding_lines import Turn, coinciding_groups, describe_groups
from mores.report.figures.metric_lines import metric_figures
from tests.run.small_run import ARMS, make_report_data, make_scenario


def test_lines_nearer_than_half_of_their_width_coincide():
    x = np.linspace(0, 1, 11)
    lines = {"a": x, "b": x + 0.004, "c": x + 0.02, "d": -x, "e": np.where(x < 0.5, x, np.nan)}
    assert coinciding_groups(lines) == [["a", "b"]]
    assert coinciding_groups(lines, height=10.0) == [["a", "b", "c"]]
    assert coinciding_groups({"a": 0 * x, "b": 0 * x, "c": np.full(11, np.nan)}) == [["a", "b"]]
    assert coinciding_groups({}) == []


def test_the_caption_names_them_and_where():
    everywhere = {"one": [["a", "b", "c"]], "two": [["a", "b", "c"]]}
    assert describe_groups(everywhere).endswith(": “a”, “b” and “c”.")
    somewhere = {"one": [["a", "b"]], "two": []}
    assert describe_groups(somewhere).endswith("“a” and “b” (in one).")
    assert describe_groups({"one": []}) == ""


@pytest.mark.parametrize("size", [2, 3, 12, 30])
def test_each_of_them_shows_in_its_turn(size: int):
    """Along the line, exactly one of them is drawn at any place."""
    styles = [Turn(place, size).linestyle for place in range(size)]
    (dash, gap) = styles[0][1]
    period = dash + gap
    places = (np.arange(size) + 0.5) * dash
    drawn = [[(x + offset) % period < dash for offset, _ in styles] for x in places]
    np.testing.assert_array_equal(drawn, np.eye(size, dtype=bool))


def test_equal_arms_are_drawn_in_turns():
    data = make_report_data(make_scenario(**ARMS))
    for name in ("twin", "ai"):
        data.record(name).stages[-1].array("mean_value[1]")[...] = 1.0
    (figure,) = metric_figures(data)
    panel = next(panel for panel in figure.panels if panel.title == "mean value: up")
    assert "“twin” and “ai” (in mean value: up" in figure.caption.replace(", “", " “")
    axes = Canvas().subplots()
    panel.draw(axes)
    colors = {line.get_color(): line for line in axes.get_lines()}
    assert len(colors) == 4 and all(line.is_dashed() for line in colors.values())

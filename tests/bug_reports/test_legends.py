"""The legend of a figure is complete, whatever the number and the length of its names.

Reports about peers: the legend of several runs with long names is cut off at the edges of the
chart, https://github.com/wandb/wandb/issues/4720; with 31 algorithms the legend of a figure is
missing, https://github.com/SMPyBandits/SMPyBandits/issues/167
"""

from __future__ import annotations

import pytest

from mores.report.figures import FigureSpec, PanelSpec
from mores.report.figures.theme import plot_style
from tests.run.drawn_texts import cut_texts, drawn_texts, overlapping_texts


@pytest.mark.cut(4)
@pytest.mark.parametrize(
    ("count", "name"),
    [(4, "a run with a long name, lr=0.0003, seed=7, {}"), (31, "UCB_{}"), (2, "M" * 90 + "{}")],
)
@pytest.mark.parametrize("file_format", ["png", "svg"])
def test_a_legend_has_all_names(count: int, name: str, file_format: str) -> None:
    legend = {name.format(i): plot_style(i) for i in range(count)}
    panel = PanelSpec("Regret", "Lines.", lambda axes: axes.plot([0, 1], [0, 1]))
    drawn = drawn_texts(FigureSpec("regret", "", [panel], legend), file_format)
    texts = {each.text.replace("\n", "").replace(" ", "") for each in drawn.texts}
    assert {text.replace(" ", "") for text in legend} <= texts
    assert not cut_texts(drawn)
    assert not overlapping_texts(drawn)

"""Figures with many arms and long names: no text is cut, none overlaps another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mores.analysis.sensitivity import compute_indices, sample_design
from mores.report.figures import FigureSpec, ReportData, render_figures
from mores.report.figures.text_fitting import text_width, wrap_to_width
from tests.run import small_run
from tests.run.drawn_texts import cut_texts, drawn_texts, overlapping_texts
from tests.run.small_run import make_report_data, make_scenario

METRICS = "rms_distance", "mean_value[1]"


def long_names(count: int, length: int) -> list[str]:
    """Names that differ at their ends, of wide letters."""
    return [("AMwm_0" * length)[: length - 2] + f"{i:02d}" for i in range(count)]


def many_arms(count: int, length: int, monkeypatch: pytest.MonkeyPatch) -> ReportData:
    """A run with figures of every kind that arms have."""
    names = long_names(count, length)
    monkeypatch.setattr(small_run, "EFFECTS", {n: 0.05 * i for i, n in enumerate(names)})
    arms: dict[str, Any] = {name: {"env.initial_std": 0.1 + i} for i, name in enumerate(names)}
    series = {name: [name] for name in names}
    pairs = {name: [name, name] for name in names}
    figures = [
        {"kind": "tradeoff", "x": METRICS[0], "y": METRICS[1], "series": series, "label": False},
        {"kind": "response", "x": ["a " * length, "b"], "y": [*METRICS], "series": pairs},
        {"kind": "profile", "x": [*names], "y": [METRICS[0]] * count, "series": pairs and series},
    ]
    claim = {"statement": "x", "kind": "statistical", "metric": "rms_distance", "arm": names[1],
             "compare_to": names[0], "bound": {"above": 0.01}}  # fmt: skip
    stages = [{"name": "one", "episodes": 3}, {"name": "two"}]
    scenario = make_scenario(
        arms=arms, control=names[0], figures=figures, claims=[claim], stages=stages
    )
    return make_report_data(scenario, stages=("one", "two"), episodes=3)


def check(specs: list[FigureSpec], *formats: str) -> None:
    for spec in specs:
        for file_format in formats:
            drawn = drawn_texts(spec, file_format)
            texts = "".join(text.text for text in drawn.texts).replace("\n", "")
            assert all(name in texts for name in spec.legend), spec.name
            assert not cut_texts(drawn), (spec.name, file_format)
            assert not overlapping_texts(drawn), (spec.name, file_format)


def specs_of(data: ReportData, monkeypatch: pytest.MonkeyPatch, indices: Any = None) -> Any:
    """Specifications of the figures, which are not rendered."""
    monkeypatch.setattr("mores.report.figures.render", list)
    return render_figures(data, indices)


@pytest.mark.parametrize(
    ("count", "length"),
    [(12, 20)] + [pytest.param(*each, marks=pytest.mark.full) for each in ((30, 20), (12, 60))],
)
def test_figures_of_many_arms(count: int, length: int, monkeypatch: pytest.MonkeyPatch):
    specs = specs_of(many_arms(count, length, monkeypatch), monkeypatch)
    kinds = {spec.name.split("_")[0] for spec in specs}
    assert kinds == {"figure", "answer", "drift", "people", "attribution", "episodes", "metrics"}
    check(specs, "png", "svg")

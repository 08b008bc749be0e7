"""Figures with many arms and long names: no text is cut, none overlaps another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mores.analysis.sensitivity import compute_indices, sample_design
from mores.report.figures import FigureSpec, ReportData, render_figures
from mores.report.figures.drift_plots import drift_figures
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
        {"kind": "profile", "x": [*names], "y": [METRICS[0]] * count, "series": series},
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


def test_a_legend_of_twelve_arms(monkeypatch: pytest.MonkeyPatch):
    check(drift_figures(many_arms(12, 20, monkeypatch)), "png")


@pytest.mark.full
def test_figures_of_twelve_arms(monkeypatch: pytest.MonkeyPatch):
    specs = specs_of(many_arms(12, 20, monkeypatch), monkeypatch)
    names = [spec.name for spec in specs]
    assert names == [
        *("figure_1", "figure_2", "figure_3", "answer", "drift", "people", "attribution"),
        *("episodes_one", "metrics"),
    ]
    check(specs, "png", "svg")


@pytest.mark.full
@pytest.mark.parametrize(("count", "length"), [(30, 20), (12, 60)])
def test_figures_of_many_arms_or_very_long_names(
    count: int, length: int, monkeypatch: pytest.MonkeyPatch
):
    check(specs_of(many_arms(count, length, monkeypatch), monkeypatch), "png")


@pytest.mark.full
@pytest.mark.parametrize("sweep", ["numbers", "texts", "two numbers"])
def test_figures_of_a_sweep(sweep: str, monkeypatch: pytest.MonkeyPatch):
    numbers = {"env.initial_std": [0.1, 0.2, 0.4, 0.8], "env.ai_influence": [0.1, 0.5, 0.9]}
    kinds = ("mirror", "linear_trend", "silent")
    assistants = [{"kind": kind} for kind in kinds]
    values = {
        "numbers": {"env.initial_std": numbers["env.initial_std"]},
        "texts": {"policies.assistant": assistants},
        "two numbers": numbers,
    }[sweep]
    names = long_names(12, 20)
    arms: dict[str, Any] = {name: {"env.num_people": 3 + i} for i, name in enumerate(names)}
    claim = {"statement": "x", "kind": "statistical", "metric": "rms_distance", "arm": names[1],
             "compare_to": names[0], "bound": {"above": 0.01}}  # fmt: skip
    scenario = make_scenario(arms=arms, claims=[claim], sweep=values)
    check(specs_of(make_report_data(scenario), monkeypatch), "png")


@pytest.mark.full
def test_figure_of_a_sensitivity_analysis(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("SALib")
    paths = [f"env.{name}" for name in ("initial_std", "value_limit", "ai_influence", "noise_std")]
    ranges = dict.fromkeys(paths, (0.0, 1.0))
    section = {"method": "morris", "num_samples": 8, "metric": "rms_distance"}
    uncertainty = {"parameters": ranges, "sensitivity": section}
    points = sample_design("morris", ranges, 8, 0)
    indices = compute_indices("morris", ranges, points, points @ np.arange(4.0))
    data = make_report_data(make_scenario(uncertainty=uncertainty))
    specs = specs_of(data, monkeypatch, indices)
    check([spec for spec in specs if spec.name == "sensitivity"], "png", "svg")


@pytest.mark.parametrize(
    "text", ["a few_long-words.with/breaks " * 3, "W" * 60, "é 😀 عربى\n$x_1$"]
)
def test_a_wrapped_text_fits_and_is_complete(text: str):
    wrapped = wrap_to_width(text, 80.0, 9.0)
    assert text_width(wrapped, 9.0) <= 80.0
    assert "".join(wrapped.split()) == "".join(text.split())

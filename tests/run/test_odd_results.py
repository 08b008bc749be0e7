"""Reports of odd results and names: nothing fails, nothing is read as markup or mathematics."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from mores.core.random_streams import Worlds
from mores.experiments.claims.claim_evaluation import evaluate_claims
from mores.experiments.results.cell_result import CellResult, StageResult
from mores.experiments.results.trajectory import Trajectory
from mores.report.figures.figure import scenario_figures
from mores.report.figures.rendering import render
from mores.report.page import write_report
from tests.run.small_run import (
    ARMS,
    CLAIMS,
    make_metrics,
    make_report_data,
    make_results,
    make_scenario,
)

NAMES = (
    "<b>bold</b> & \"quoted\" 'text' <script>alert(1)</script>",
    "$x_1$ and $\\frac{a}{b}$ \\alpha",
    "_leading_underscore",
    "emoji 😀 and 𝔸",
    "עברית عربى",
    "two\nlines\tand a tab",
    "control \x00\x07\x1b characters",
    "",
    "W" * 200,
)
SERIES = [*filter(None, NAMES)]
FIGURES = [
    {"kind": "tradeoff", "x": "rms_distance", "y": "mean_value[0]", "title": NAMES[0],
     "note": NAMES[1], "series": {name: ["ai"] for name in SERIES}},
    {"kind": "response", "x": SERIES, "y": "rms_distance", "x_label": NAMES[1],
     "series": {name: ["ai"] * len(SERIES) for name in SERIES}},
    {"kind": "profile", "x": SERIES[:2], "y": ["rms_distance"] * 2, "y_label": NAMES[-1],
     "series": {name: ["ai"] for name in SERIES}},
]  # fmt: skip


def write(folder: Path, change: Callable[[CellResult], CellResult], **fields: Any) -> str:
    """The page of a run whose results are changed; its SVG files are well-formed."""
    scenario = make_scenario(**{**ARMS, "claims": CLAIMS, **fields})
    cells, records = make_results(scenario)
    records = {name: change(record) for name, record in records.items()}
    verdicts = evaluate_claims(scenario, cells, records)
    write_report(folder, scenario, cells, records, verdicts, {"seed": 0, "command": [*NAMES]})
    for path in (folder / "figures").iterdir():
        if path.suffix == ".svg":
            root = ElementTree.fromstring(path.read_text())
            assert not list(root.iter("{http://www.w3.org/2000/svg}script"))
        else:
            assert path.suffix == ".png" and path.read_bytes()[:4] == b"\x89PNG"
    return (folder / "report.html").read_text()


def with_metrics(record: CellResult, change: Callable[[np.ndarray], np.ndarray]) -> CellResult:
    """A result whose metrics are changed."""
    stage = record.stage()
    names = [str(name) for name in stage.metrics.data_vars]
    arrays = {name: change(stage.metrics[name].values.copy()) for name in names}
    first = arrays[names[0]]
    metrics = make_metrics(arrays, Worlds.of(len(first)), stage.rounds[: first.shape[2]])
    return replace(record, stages=(StageResult("rollout", metrics, {}),))


def test_odd_names_of_series_are_texts() -> None:
    data = make_report_data(make_scenario(figures=FIGURES[2:], **ARMS))
    (figure,) = render(scenario_figures(data))
    ElementTree.fromstring(figure.svg)
    (svg,) = figure.svgs
    assert "<script" not in svg
    words = html.unescape(" ".join(re.findall(r"<text[^>]*>([^<]*)</text>", svg)))
    assert "$x_1$ and" in words and "\\alpha" in words  # not as mathematics
    assert "<script>alert(1)" in words


@pytest.mark.full
def test_odd_names_in_a_report_are_texts(tmp_path: Path) -> None:
    text = write(
        tmp_path,
        lambda record: replace(record, value_names=(NAMES[0], NAMES[1])),
        figures=FIGURES,
        about=NAMES[0],
        source=f"{NAMES[6]} half a pair \ud800",
    )
    assert "<script" not in text and "<b>" not in text
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f]", text)
    for name in (*NAMES[:5], NAMES[-1]):
        assert html.escape(name, quote=False) in text.replace("&#34;", '"').replace("&#39;", "'")


@pytest.mark.full
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e300, 0.0])
def test_a_metric_that_is_the_same_odd_number_everywhere(tmp_path: Path, number: float) -> None:
    text = write(
        tmp_path, lambda record: with_metrics(record, lambda array: np.full_like(array, number))
    )
    assert "rms distance" in text


@pytest.mark.full
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_one_arm_without_finite_values(tmp_path: Path, number: float) -> None:
    def change(record: CellResult) -> CellResult:
        if record.cell != "ai":
            return record
        return with_metrics(record, lambda array: np.full_like(array, number))

    assert "There is no estimate of" in write(tmp_path, change)


@pytest.mark.full
@pytest.mark.parametrize("number", [np.nan, np.inf, 0.0])
@pytest.mark.parametrize("values", [[1, 2, 4], ["mirror", "linear_trend"]])
def test_a_sweep_of_odd_numbers(tmp_path: Path, number: float, values: list[Any]) -> None:
    path = "env.initial_std" if isinstance(values[0], int) else "policies.assistant"
    points = values if path.startswith("env") else [{"kind": kind} for kind in values]
    fields = {"arms": {}, "control": None, "claims": [], "sweep": {path: points}}
    text = write(
        tmp_path,
        lambda record: with_metrics(record, lambda array: np.full_like(array, number)),
        **fields,
    )
    assert path in text


@pytest.mark.full
def test_one_replicate(tmp_path: Path) -> None:
    text = write(tmp_path, lambda record: with_metrics(record, lambda array: array[:1]))
    assert "one replicate has no interval" in text


@pytest.mark.full
def test_one_round(tmp_path: Path) -> None:
    def change(record: CellResult) -> CellResult:
        record = with_metrics(record, lambda array: array[:, :, :2])
        values = record.trajectory.latent["values"][:, :2]
        return replace(record, trajectory=Trajectory((0, 1), {"values": values}))

    assert "after 1 round" in write(tmp_path, change, rounds=1)


@pytest.mark.full
@pytest.mark.parametrize("people", [1, 12, 400])
def test_people_without_variance(tmp_path: Path, people: int) -> None:
    def change(record: CellResult) -> CellResult:
        values = np.ones_like(record.trajectory.latent["values"][:, :, :1])
        values = np.repeat(values, people, axis=2)
        return replace(record, trajectory=Trajectory(record.trajectory.rounds, {"values": values}))

    assert "People: initial and final values" in write(tmp_path, change)

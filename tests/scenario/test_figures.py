"""Figures of a scenario file: what they read is checked before the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import mores
from mores.core.errors import UserError
from mores.experiments.results.cell_identity import inputs_digest
from mores.experiments.scenario.figure_check import MetricRequirement
from mores.experiments.scenario.loading import load_scenario
from mores.experiments.scenario.specification import Scenario
from mores.registry import REGISTRIES
from mores.report.figures import Figure, ReportData
from mores.report.figures.rendering import FigureSpec
from tests.cells import expand_and_verify
from tests.refusals import refused
from tests.scenario.conftest import located

Refusal = Callable[..., UserError]
Write = Callable[..., str]
TRADEOFF = "{kind: tradeoff, x: drift, y: mean_value, series: {all: [still, walking]}}"
PROFILE = "{kind: profile, x: [a, b], y: [drift, mean_value], series: {a: [still]}}"
RESPONSE = "{kind: response, x: [0, 2], y: drift, series: {all: [still, walking]}}"


def with_figure(good: str, figure: str) -> str:
    return f"{good}figures:\n  - {figure}\n"


@pytest.mark.parametrize(
    ("old", "new", "path", "code"),
    [
        ("kind: tradeoff", "kind: tradeof", "kind", "unknown_name"),
        ("x: drift", "x: drif", "x", "unknown_name"),
        ("x: drift", "x: drift, colour: red", "colour", "unknown_name"),
        ("y: mean_value", "y: 'mean_value[7]'", "y", "unknown_name"),
        ("y: mean_value", "y: distance_from_control(mean_val)", "y", "unknown_name"),
        ("walking", "waking", "series.all.1", "unknown_name"),
        ("walking", "still", "series.all.1", "duplicate"),
        ("[still, walking]", "[]", "series.all", "wrong_shape"),
        ("x: drift", "x: drift, lines: [al]", "lines.0", "unknown_name"),
        ("x: drift", "x: drift, groups: {both: [walkng]}", "groups.both.0", "unknown_name"),
        ("x: drift", "x: drift, compare_to: stil", "compare_to", "unknown_name"),
        ("x: drift", "x: drift, stage: rolout", "stage", "unknown_name"),
        ("x: drift", "x: drift, at_round: 11", "at_round", "out_of_range"),
    ],
)
def test_a_wrong_tradeoff_is_one_line_with_its_location(
    old: str, new: str, path: str, code: str, good: str, refusal: Refusal
) -> None:
    assert old in TRADEOFF
    text = with_figure(good, TRADEOFF.replace(old, new, 1))
    line = good.count("\n") + 2
    found = located(refusal(text))
    assert [(p, c) for _, p, c in found] == [(f"figures.0.{path}", code)]
    assert found[0][0].startswith(f"s.yaml:{line}:"), found


@pytest.mark.parametrize(
    ("old", "new", "path", "code"),
    [
        ("x: [0, 2]", "x: [0, 2, 3]", "series.all", "wrong_shape"),
        ("x: [0, 2]", "x: [0, two]", "x.1", "wrong_type"),
        ("x: [0, 2]", "x: [2, 2]", "x", "duplicate"),
        ("y: drift", "y: [drift, drif]", "y.1", "unknown_name"),
        ("y: drift", "y: drift, log_x: true", "log_x", "conflict"),
        ("y: drift", "y: drift, analytic: drift", "analytic", "unknown_name"),
        ("y: drift", "y: [drift, mean_value], analytic: drift", "analytic", "conflict"),
        ("y: drift", "y: drift, y_label: [one, two]", "y_label", "wrong_shape"),
        ("y: drift", "y: drift, compare_to: stil", "compare_to", "unknown_name"),
        ("y: drift", "y: drift, compare_to: {al: still}", "compare_to.al", "unknown_name"),
        ("y: drift", "y: drift, compare_to: {all: [still]}", "compare_to.all", "wrong_shape"),
        (
            "y: drift",
            "y: drift, compare_to: {all: [still, stil]}",
            "compare_to.all.1",
            "unknown_name",
        ),
    ],
)
def test_a_wrong_response_is_refused(
    old: str, new: str, path: str, code: str, good: str, refusal: Refusal
) -> None:
    text = with_figure(good, RESPONSE.replace(old, new, 1))
    found = {(p, c) for _, p, c in located(refusal(text))}
    assert found == {(f"figures.0.{path}", code)}


@pytest.mark.parametrize(
    ("old", "new", "path", "code"),
    [
        ("[drift, mean_value]", "[drift, mean_valu]", "y.1", "unknown_name"),
        ("[drift, mean_value]", "[drift]", "y", "wrong_shape"),
        ("[a, b]", "[a, a]", "x", "duplicate"),
        ("still", "stil", "series.a.0", "unknown_name"),
        ("[still]", "[still, walking]", "series.a", "wrong_shape"),
        ("kind: profile", "kind: profile, compare_to: walkin", "compare_to", "unknown_name"),
    ],
)
def test_a_wrong_profile_is_refused(
    old: str, new: str, path: str, code: str, good: str, refusal: Refusal
) -> None:
    text = with_figure(good, PROFILE.replace(old, new, 1))
    assert {(p, c) for _, p, c in located(refusal(text))} == {(f"figures.0.{path}", code)}


def test_a_round_that_is_not_recorded_is_refused(good: str, refusal: Refusal) -> None:
    """A figure adds no recorded round, so that figures can change after a run."""
    text = with_figure(good, TRADEOFF.replace("x: drift", "x: drift, at_round: 3", 1))
    text = text.replace("replicates: 16", "replicates: 16\nrecord_every: 5")
    assert [(p, c) for _, p, c in located(refusal(text))] == [
        ("figures.0.at_round", "invalid_value")
    ]


def test_figures_do_not_change_cells(good: str, write: Write) -> None:
    with_one, without = (
        load_scenario(write(text)).scenario for text in (with_figure(good, TRADEOFF), good)
    )
    cells = [expand_and_verify(scenario) for scenario in (with_one, without)]
    digests = [
        [inputs_digest(cell, scenario) for cell in each]
        for each, scenario in zip(cells, (with_one, without), strict=True)
    ]
    assert digests[0] == digests[1]


def test_a_sweep_has_no_figures(good: str, refusal: Refusal) -> None:
    text = with_figure(good, TRADEOFF) + "sweep: {env.rate: [0.1, 0.2]}\n"
    assert [(p, c) for _, p, c in located(refusal(text))] == [("figures", "conflict")]


class Own(Figure):
    """A figure of a user that requires a metric."""

    metric: str = "drift"

    def required_metrics(self, scenario: Scenario) -> Iterator[MetricRequirement]:
        """The metric of all arms."""
        for arm in scenario.arm_names:
            yield MetricRequirement(self.metric, arm, metric_path=("metric",))

    def draw(self, data: ReportData) -> list[FigureSpec]:
        """Nothing."""
        return []


def test_required_metrics_of_a_users_figure_are_checked(
    good: str, refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(REGISTRIES["figure"], "own_figure", Own)
    text = with_figure(good, "{kind: own_figure, metric: drif}")
    assert [(p, c) for _, p, c in located(refusal(text))] == [("figures.0.metric", "unknown_name")]

    def fail(self: Own, scenario: Scenario) -> None:
        raise UserError("needs two arms", code="missing")

    monkeypatch.setattr(Own, "required_metrics", fail)
    text = with_figure(good, "{kind: own_figure}")
    assert [(p, c) for _, p, c in located(refusal(text))] == [("figures.0", "missing")]
    monkeypatch.setattr(Own, "required_metrics", lambda self, scenario: ["drift"])
    assert [(p, c) for _, p, c in located(refusal(text))] == [("figures.0", "wrong_type")]


def test_only_a_figure_can_be_registered() -> None:
    REGISTRIES["figure"]["no_figure"] = mores.Policy
    try:
        with refused("wrong_type", path="no_figure"):
            mores.registry.make("figure", "no_figure", {})
    finally:
        del REGISTRIES["figure"]["no_figure"]

"""Attribution: effects of the arms' changes against the control, and their interactions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mores.analysis.intervals import IntervalEstimate, compare, estimate
from mores.experiments.claims.claim_evaluation import effect_by_replicate
from mores.experiments.scenario.cell import Cell
from mores.report.figures.drift_plots import BAND_DESCRIPTION
from mores.report.figures.plot_data import ReportData, format_interval, value_label
from mores.report.figures.rendering import FigureSpec, PanelSpec
from mores.report.figures.theme import LIGHT_COLORS

MAX_METRICS = 6


class ArmEffect(NamedTuple):
    """Effect of an arm, or interaction of two changes, at the end of the run.

    Attributes:
        name: name of the arm; for an interaction, the names of both arms.
        factors: changed parts of the scenario: AI, peers, history, people, environment.
        arm: arm whose style the bar has.
        is_interaction: whether it is an interaction: combined effect minus the two single effects.
        distance: distance of the mean value from the control's; None if undefined.
        components: signed differences from the control, by name of the value or metric.
    """

    name: str
    factors: tuple[str, ...]
    arm: str
    is_interaction: bool
    distance: IntervalEstimate | None
    components: Mapping[str, IntervalEstimate]


def attribution_figures(data: ReportData) -> list[FigureSpec]:
    """Bar charts of all effects; empty without a control."""
    effects = arm_effects(data)
    if data.control_record is None or not effects:
        return []
    panels = []
    if effects[0].distance is not None:
        bars = [(effect, effect.distance) for effect in effects]
        panels.append(_bar_panel(data, "Distance from the control", "distance", bars))
    for name in effects[0].components:
        bars = [(effect, effect.components.get(name)) for effect in effects]
        panels.append(_bar_panel(data, name, "difference", bars))
    caption = (
        f"Effect of each arm against the control “{data.scenario.control}” after "
        f"{data.control_record.rounds[-1]} rounds: "
    )
    if effects[0].distance is not None:
        caption += (
            "distance between the mean values, and difference in each value, in value units. "
            f"Bars: mean of {data.replicates} replicates; whiskers: {BAND_DESCRIPTION}."
        )
    else:
        caption += (
            "difference in each metric, by the statistic of the claims. "
            f"Bars: {data.replicates} replicates; whiskers: 95 % intervals."
        )
    caption += " In parentheses: the factors in which the arm differs from the control."
    if any(effect.is_interaction for effect in effects):
        caption += " Hatched: interaction, the combined effect minus both single effects."
    size = (3.4, 0.9 + 0.42 * len(effects))
    return [FigureSpec("attribution", caption, tuple(panels), (), size)]


def arm_effects(data: ReportData) -> list[ArmEffect]:
    """Effects of the arms at the end of the run, followed by the interactions."""
    if data.control_record is None:
        return []
    if data.drift_control is None or not data.drift_arms():
        return _metric_effects(data)
    effects, changes_by_arm = [], _changed_parameters(data, data.drift_arms())
    for arm, changes in changes_by_arm.items():
        distance = estimate(effect_by_replicate(data.record(arm), data.drift_control)[:, -1])
        components = _effect_components(data, arm)
        effects.append(ArmEffect(arm, _factors(changes), arm, False, distance, components))
    for arm, first, second, changes in _factor_combinations(changes_by_arm):
        components = _effect_components(data, arm, first, second)
        name = f"{first} + {second}"
        effects.append(ArmEffect(name, _factors(changes), arm, True, None, components))
    return effects


def _effect_components(
    data: ReportData, arm: str, *subtracted_arms: str
) -> dict[str, IntervalEstimate]:
    """Effect of an arm on the mean value, minus the effects of other arms, by dimension."""
    assert data.drift_control is not None
    components = {}
    for dimension in data.top_drift_dimensions:
        difference = data.mean_value_difference(arm, dimension)[:, -1]
        for subtracted in subtracted_arms:
            difference = difference - data.mean_value_difference(subtracted, dimension)[:, -1]
        components[value_label(data.drift_control, dimension)] = estimate(difference)
    return components


def _metric_effects(data: ReportData) -> list[ArmEffect]:
    """Effects on the claims' metrics, by the claims' statistics, without recorded mean values."""
    control, statistics = data.control_record, {}
    assert control is not None
    for claim in data.scenario.claims:
        is_usable = claim.kind != "exact" and claim.metric in control.metrics
        if is_usable and np.isfinite(control.by_replicate(claim.metric)[:, -1]).all():
            statistics.setdefault(claim.metric, claim.statistic)
    effects = []
    for arm, changes in _changed_parameters(data, data.treatment_arms).items():
        components = {}
        for name, statistic in list(statistics.items())[:MAX_METRICS]:
            if name in data.record(arm).metrics:
                values = data.record(arm).by_replicate(name)[:, -1]
                reference = control.by_replicate(name)[:, -1]
                components[name.replace("_", " ")] = compare(values, reference, statistic)
        effects.append(ArmEffect(arm, _factors(changes), arm, False, None, components))
    return [effect for effect in effects if effect.components]


# --- changed parameters -------------------------------------------------------------------------


def _changed_parameters(data: ReportData, arms: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Dotted paths at which an arm's cell differs from the control's, with the arm's values."""
    control = _flatten_cell(data.cell(data.scenario.control or ""))
    changes = {}
    for arm in arms:
        cell = _flatten_cell(data.cell(arm))
        paths = [path for path in {**cell, **control} if cell.get(path) != control.get(path)]
        changes[arm] = {path: cell.get(path) for path in paths}
    return changes


def _flatten_cell(cell: Cell) -> dict[str, Any]:
    parts = {"env": cell.env, "population": cell.population, "policies": cell.policies}
    return dict(_flatten(parts))


def _flatten(config: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(config, Mapping):
        for name, child in config.items():
            yield from _flatten(child, f"{path}.{name}" if path else str(name))
    else:
        yield path, config


def _factors(changes: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the changed parts of the scenario."""
    return tuple(dict.fromkeys(_factor(path) for path in sorted(changes))) or ("none",)


def _factor(path: str) -> str:
    parts = path.split(".")
    is_ai = any(p.startswith("ai_") or p.endswith("_ai") or "assistant" in p for p in parts)
    if parts[0] == "policies" or is_ai:
        return "AI"
    if "peers" in parts or "graph" in parts:
        return "peers"
    if parts[0] == "population":
        return "people"
    return "history" if "history" in parts else "environment"


def _factor_combinations(
    changes: Mapping[str, Mapping[str, Any]],
) -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
    """Triples of an arm and two others with disjoint changes, whose union it has; and the union."""
    arms = [arm for arm in changes if changes[arm]]
    for i, first in enumerate(arms):
        for second in arms[i + 1 :]:
            union = {**changes[first], **changes[second]}
            if len(union) == len(changes[first]) + len(changes[second]):
                yield from ((arm, first, second, union) for arm in arms if changes[arm] == union)


# --- drawing ------------------------------------------------------------------------------------


def _bar_panel(
    data: ReportData,
    title: str,
    label: str,
    rows: Sequence[tuple[ArmEffect, IntervalEstimate | None]],
) -> PanelSpec:
    bars = [(row, interval) for row, interval in rows if interval is not None]

    def draw(axes: Any) -> None:
        for y, (row, interval) in enumerate(bars):
            color = data.style(row.arm).hex_color
            if row.is_interaction:
                axes.barh(y, interval.value, 0.55, fill=False, edgecolor=color, hatch="////")
            else:
                axes.barh(y, interval.value, 0.55, color=color, edgecolor=color, alpha=0.75)
            if np.isfinite([interval.low, interval.high]).all():
                axes.plot([interval.low, interval.high], [y, y], color=LIGHT_COLORS["ink"], lw=1.3)
        axes.axvline(0, color=LIGHT_COLORS["axis"], linewidth=0.8)
        axes.set_yticks(range(len(bars)), [_bar_label(row) for row, _ in bars])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(False, axis="y")
        axes.set_xlabel(label)
        axes.locator_params(axis="x", nbins=3)

    texts = (f"{row.name} {format_interval(interval)}" for row, interval in bars)
    return PanelSpec(title, f"{'; '.join(texts)}.", draw)


def _bar_label(effect: ArmEffect, max_length: int = 22) -> str:
    """Tick label of a bar: shortened name above the factors."""
    name = effect.name if len(effect.name) <= max_length else f"{effect.name[: max_length - 1]}…"
    return f"{name}\n({'interaction' if effect.is_interaction else ', '.join(effect.factors)})"


def largest_effect(data: ReportData) -> ArmEffect | None:
    """Effect with the largest distance from the control; None if no distance is defined."""
    pairs = [(e.distance.value, e) for e in arm_effects(data) if e.distance is not None]
    pairs = [(distance, effect) for distance, effect in pairs if np.isfinite(distance)]
    return max(pairs, key=lambda pair: pair[0])[1] if pairs else None

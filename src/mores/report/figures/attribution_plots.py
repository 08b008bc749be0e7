"""Attribution: effects of the arms' changes against the control, and their interactions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mores.analysis.intervals import IntervalEstimate, compare, estimate
from mores.experiments.claims.claim_evaluation import effect_by_replicate
from mores.experiments.scenario.cell import Cell
from mores.report.figures.bar_charts import Bar, bar_panel
from mores.report.figures.drift_plots import BAND_DESCRIPTION
from mores.report.figures.plot_data import ReportData, format_interval, value_label
from mores.report.figures.rendering import FigureSpec, PanelSpec

MAX_METRICS = 6
MAX_LABEL_LENGTH = 22


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
    has_distance = effects[0].distance is not None
    panels = []
    if has_distance:
        distances = [effect.distance for effect in effects]
        panels.append(_panel(data, effects, "Distance from the control", "distance", distances))
    for name in effects[0].components:
        components = [effect.components.get(name) for effect in effects]
        panels.append(_panel(data, effects, name, "difference", components))
    caption = (
        f"Effect of each arm against the control “{data.scenario.control}” after "
        f"{data.control_record.rounds[-1]} rounds: "
    )
    if has_distance:
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
    return [FigureSpec("attribution", caption, panels, panel_size=size)]


def _panel(
    data: ReportData,
    effects: Sequence[ArmEffect],
    title: str,
    x_label: str,
    intervals: Sequence[IntervalEstimate | None],
) -> PanelSpec:
    bars = []
    for effect, interval in zip(effects, intervals, strict=True):
        if interval is not None:
            name, is_long = effect.name, len(effect.name) > MAX_LABEL_LENGTH
            short = f"{name[: MAX_LABEL_LENGTH - 1]}…" if is_long else name
            kind = "interaction" if effect.is_interaction else ", ".join(effect.factors)
            text = f"{name} {format_interval(interval)}"
            ends = interval.low, interval.value, interval.high
            color = data.style(effect.arm).color
            bars.append(Bar(f"{short}\n({kind})", text, *ends, color, effect.is_interaction))
    return bar_panel(title, bars, x_label, len(effects))


def arm_effects(data: ReportData) -> list[ArmEffect]:
    """Effects of the arms at the end of the run, followed by the interactions."""
    control, drift = data.control_record, data.drift
    if control is None:
        return []
    if not drift:
        return _metric_effects(data)
    ends = {arm: values[:, :, -1] for arm, values in drift.items()}  # value replicate
    dimensions = {value_label(control, i): i for i in data.top_dimensions(3)}

    def effect(name: str, arm: str, changes: Mapping[str, Any], *singles: str) -> ArmEffect:
        components, distance = {}, None
        for label, i in dimensions.items():
            difference = ends[arm][i]
            for single in singles:
                difference = difference - ends[single][i]
            components[label] = estimate(difference)
        if not singles:
            distance = estimate(effect_by_replicate(data.record(arm), control)[:, -1])
        return ArmEffect(name, _factors(changes), arm, bool(singles), distance, components)

    changes_by_arm = _changed_parameters(data, list(drift))
    effects = [effect(arm, arm, changes) for arm, changes in changes_by_arm.items()]
    for arm, first, second, changes in _factor_combinations(changes_by_arm):
        effects.append(effect(f"{first} + {second}", arm, changes, first, second))
    return effects


def _metric_effects(data: ReportData) -> list[ArmEffect]:
    """Effects on the claims' metrics, by the claims' statistics, without recorded mean values."""
    control, references = data.control_record, {}
    assert control is not None
    for claim in data.scenario.claims:
        if claim.kind != "exact" and claim.metric in control.metrics:
            reference = control.by_replicate(claim.metric)[:, -1]
            if np.isfinite(reference).all():
                references.setdefault(claim.metric, (reference, claim.statistic))
    effects = []
    for arm, changes in _changed_parameters(data, data.treatment_arms).items():
        record = data.record(arm)
        components = {
            name.replace("_", " "): compare(record.by_replicate(name)[:, -1], *reference)
            for name, reference in list(references.items())[:MAX_METRICS]
            if name in record.metrics
        }
        effects.append(ArmEffect(arm, _factors(changes), arm, False, None, components))
    return [effect for effect in effects if effect.components]


def largest_effect(data: ReportData) -> ArmEffect | None:
    """Effect with the largest distance from the control; None if no distance is defined."""
    pairs = [(e.distance.value, e) for e in arm_effects(data) if e.distance is not None]
    pairs = [(distance, effect) for distance, effect in pairs if np.isfinite(distance)]
    return max(pairs, key=lambda pair: pair[0])[1] if pairs else None


# --- changed parameters -------------------------------------------------------------------------


def _changed_parameters(data: ReportData, arms: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Dotted paths at which an arm's cell differs from the control's, with the arm's values."""
    control = flatten(components_of(data.cell(data.scenario.control or "")))
    cells = {arm: flatten(components_of(data.cell(arm))) for arm in arms}
    return {
        arm: {p: cell.get(p) for p in {**cell, **control} if cell.get(p) != control.get(p)}
        for arm, cell in cells.items()
    }


def components_of(cell: Cell) -> dict[str, Any]:
    """Configurations of a cell's environment, population and policies."""
    return {"env": cell.env, "population": cell.population, "policies": cell.policies}


def flatten(config: Any, path: str = "") -> dict[str, Any]:
    """Parameters of a nested mapping by dotted path."""
    if not isinstance(config, Mapping):
        return {path: config}
    prefix = f"{path}." if path else ""
    children = (flatten(child, f"{prefix}{name}") for name, child in config.items())
    return {name: value for child in children for name, value in child.items()}


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

"""What each arm's change did by the end: against the control, alone and beyond the sum of parts."""

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
    """What an arm, or a combination of changes, did by the end.

    Attributes:
        name: of the arm; of a combination what it is of.
        factors: what was changed: AI, peers, history, people, environment.
        arm: whose look it has.
        is_interaction: whether it is what two changes do together beyond the sum of each alone.
        distance: of the centre from the twin's; none where it is not known, or not a distance.
        components: differences from the twin, signed, by the name of the value or measure.
    """

    name: str
    factors: tuple[str, ...]
    arm: str
    is_interaction: bool
    distance: IntervalEstimate | None
    components: Mapping[str, IntervalEstimate]


def attribution_figures(data: ReportData) -> list[FigureSpec]:
    """Bars of all effects; none without a control."""
    rows = arm_effects(data)
    if data.control_record is None or not rows:
        return []
    panels = []
    if rows[0].distance is not None:
        panels.append(_bar_panel(data, "How far", "distance", [(r, r.distance) for r in rows]))
    for name in rows[0].components:
        panels.append(
            _bar_panel(data, name, "difference", [(r, r.components.get(name)) for r in rows])
        )
    after, control = data.control_record.rounds[-1], data.scenario.control
    what = f"What each arm's change did by the end, after {after} rounds: "
    if rows[0].distance is not None:
        what += (
            f"distance of its centre from that of “{control}”, and the difference in each value, "
            f"in value units. Bars: mean of {data.replicates} replicates; whiskers: {BAND_DESCRIPTION}."
        )
    else:
        what += (
            f"its measures less those of “{control}”, by the statistic that claims use. Bars: over "
            f"{data.replicates} replicates; whiskers: 95 % intervals."
        )
    what += " In brackets what was changed."
    if any(row.is_interaction for row in rows):
        what += " Hatched: what two changes do together beyond the sum of what each does alone."
    size = (3.4, 0.9 + 0.42 * len(rows))
    return [FigureSpec("causes", what, tuple(panels), (), size)]


def arm_effects(data: ReportData) -> list[ArmEffect]:
    """Every arm against the control at the end, and what combinations add to their parts."""
    if data.control_record is None:
        return []
    if data.drift_control is None or not data.drift_arms():
        return _metric_effects(data)
    made = [
        ArmEffect(
            arm,
            _factors(changed),
            arm,
            False,
            estimate(effect_by_replicate(data.record(arm), data.drift_control)[:, -1]),
            _effect_components(data, arm),
        )
        for arm, changed in _changed_parameters(data, data.drift_arms()).items()
    ]
    return made + [
        ArmEffect(
            f"{one} + {other}",
            _factors(changed),
            both,
            True,
            None,
            _effect_components(data, both, one, other),
        )
        for both, one, other, changed in _factor_combinations(
            _changed_parameters(data, data.drift_arms())
        )
    ]


def _effect_components(
    data: ReportData, arm: str, *subtracted_arms: str
) -> dict[str, IntervalEstimate]:
    """An arm's centre less the control's, less what other arms have of it alone."""
    assert data.drift_control is not None
    made = {}
    for part in data.top_drift_dimensions:
        apart = data.mean_value_difference(arm, part)[:, -1]
        for other in subtracted_arms:
            apart = apart - data.mean_value_difference(other, part)[:, -1]
        made[value_label(data.drift_control, part)] = estimate(apart)
    return made


def _metric_effects(data: ReportData) -> list[ArmEffect]:
    """Where people have no values: what claims look at, by the statistic that they use."""
    twin, asked = data.control_record, {}
    assert twin is not None
    for claim in data.scenario.claims:
        known = claim.kind != "exact" and claim.metric in twin.metrics
        if known and np.isfinite(twin.by_replicate(claim.metric)[:, -1]).all():
            asked.setdefault(claim.metric, claim.statistic)
    rows = []
    for arm, changed in _changed_parameters(data, data.treatment_arms).items():
        parts = {}
        for name, statistic in list(asked.items())[:MAX_METRICS]:
            if name in data.record(arm).metrics:
                here, there = (r.by_replicate(name)[:, -1] for r in (data.record(arm), twin))
                parts[name.replace("_", " ")] = compare(here, there, statistic)
        rows.append(ArmEffect(arm, _factors(changed), arm, False, None, parts))
    return [row for row in rows if row.components]


# --- what was changed ---------------------------------------------------------------------------


def _changed_parameters(data: ReportData, arms: Sequence[str]) -> dict[str, dict[str, Any]]:
    """By arm: dotted paths at which its cell is not as the control's, and what stands there."""
    twin = _flatten_cell(data.cell(data.scenario.control or ""))
    made = {}
    for arm in arms:
        here = _flatten_cell(data.cell(arm))
        paths = [path for path in {**here, **twin} if here.get(path) != twin.get(path)]
        made[arm] = {path: here.get(path) for path in paths}
    return made


def _flatten_cell(cell: Cell) -> dict[str, Any]:
    return dict(_flatten({"env": cell.env, "people": cell.population, "players": cell.policies}))


def _flatten(part: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(part, Mapping):
        for name, below in part.items():
            yield from _flatten(below, f"{path}.{name}" if path else str(name))
    else:
        yield path, part


def _factors(changes: Mapping[str, Any]) -> tuple[str, ...]:
    """What was changed, in words."""
    return tuple(dict.fromkeys(_factor(path) for path in sorted(changes))) or ("nothing",)


def _factor(path: str) -> str:
    parts = path.split(".")
    about_ai = any(p.startswith("ai_") or p.endswith("_ai") or "assistant" in p for p in parts)
    if parts[0] == "players" or about_ai:
        return "AI"
    if "peers" in parts or "network" in parts:
        return "peers"
    if parts[0] == "people":
        return "people"
    return "history" if "history" in parts else "environment"


def _factor_combinations(
    changed: Mapping[str, Mapping[str, Any]],
) -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
    """Arms that change all that two others change, and nothing else; and those two."""
    arms = [arm for arm in changed if changed[arm]]
    for i, one in enumerate(arms):
        for other in arms[i + 1 :]:
            both = {**changed[one], **changed[other]}
            if len(both) == len(changed[one]) + len(changed[other]):
                yield from ((a, one, other, both) for a in arms if changed[a] == both)


# --- drawing ------------------------------------------------------------------------------------


def _bar_panel(
    data: ReportData,
    title: str,
    label: str,
    rows: Sequence[tuple[ArmEffect, IntervalEstimate | None]],
) -> PanelSpec:
    known = [(row, found) for row, found in rows if found is not None]

    def draw(axes: Any) -> None:
        for place, (row, found) in enumerate(known):
            color = data.style(row.arm).hex_color
            if row.is_interaction:
                axes.barh(place, found.value, 0.55, fill=False, edgecolor=color, hatch="////")
            else:
                axes.barh(place, found.value, 0.55, color=color, edgecolor=color, alpha=0.75)
            if np.isfinite([found.low, found.high]).all():
                axes.plot(
                    [found.low, found.high], [place, place], color=LIGHT_COLORS["ink"], lw=1.3
                )
        axes.axvline(0, color=LIGHT_COLORS["axis"], linewidth=0.8)
        axes.set_yticks(range(len(known)), [_bar_label(row) for row, _ in known])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(False, axis="y")
        axes.set_xlabel(label)
        axes.locator_params(axis="x", nbins=3)

    told = (f"{row.name} {format_interval(found)}" for row, found in known)
    return PanelSpec(title, f"{'; '.join(told)}.", draw)


def _bar_label(effect: ArmEffect, max_length: int = 22) -> str:
    """A name that fits beside a bar, and under it what was changed."""
    name = effect.name if len(effect.name) <= max_length else f"{effect.name[: max_length - 1]}…"
    return f"{name}\n({'beyond the sum' if effect.is_interaction else ', '.join(effect.factors)})"


def largest_effect(data: ReportData) -> ArmEffect | None:
    """The arm that went furthest from its twin."""
    rows = [(row.distance.value, row) for row in arm_effects(data) if row.distance is not None]
    rows = [(far, row) for far, row in rows if np.isfinite(far)]
    return max(rows, key=lambda pair: pair[0])[1] if rows else None

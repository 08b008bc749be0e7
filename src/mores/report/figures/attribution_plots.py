"""What each arm's change did by the end: against the control, alone and beyond the sum of parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mores.analysis.intervals import Estimate, compare, estimate
from mores.experiments.claims.claim_evaluation import drift_from
from mores.experiments.scenario.cell import Cell
from mores.report.figures.drift_plots import BAND
from mores.report.figures.plot_data import Shown, interval, value_name
from mores.report.figures.rendering import Figure, Panel
from mores.report.figures.theme import LIGHT

MOST_MEASURES = 6


class Effect(NamedTuple):
    """What an arm, or a combination of changes, did by the end.

    Attributes:
        name: of the arm; of a combination what it is of.
        causes: what was changed: AI, peers, history, people, environment.
        arm: whose look it has.
        beyond: whether it is what two changes do together beyond the sum of each alone.
        distance: of the centre from the twin's; none where it is not known, or not a distance.
        parts: differences from the twin, signed, by the name of the value or measure.
    """

    name: str
    causes: tuple[str, ...]
    arm: str
    beyond: bool
    distance: Estimate | None
    parts: Mapping[str, Estimate]


def cause_figures(shown: Shown) -> list[Figure]:
    """Bars of all effects; none without a control."""
    rows = effects(shown)
    if shown.twin is None or not rows:
        return []
    panels = []
    if rows[0].distance is not None:
        panels.append(_bars(shown, "How far", "distance", [(r, r.distance) for r in rows]))
    for name in rows[0].parts:
        panels.append(_bars(shown, name, "difference", [(r, r.parts.get(name)) for r in rows]))
    after, control = shown.twin.rounds[-1], shown.scenario.control
    what = f"What each arm's change did by the end, after {after} rounds: "
    if rows[0].distance is not None:
        what += (
            f"distance of its centre from that of “{control}”, and the difference in each value, "
            f"in value units. Bars: mean of {shown.replicates} replicates; whiskers: {BAND}."
        )
    else:
        what += (
            f"its measures less those of “{control}”, by the statistic that claims use. Bars: over "
            f"{shown.replicates} replicates; whiskers: 95 % intervals."
        )
    what += " In brackets what was changed."
    if any(row.beyond for row in rows):
        what += " Hatched: what two changes do together beyond the sum of what each does alone."
    size = (3.4, 0.9 + 0.42 * len(rows))
    return [Figure("causes", what, tuple(panels), (), size)]


def effects(shown: Shown) -> list[Effect]:
    """Every arm against the control at the end, and what combinations add to their parts."""
    if shown.twin is None:
        return []
    if shown.control is None or not shown.drifters():
        return _of_measures(shown)
    made = [
        Effect(
            arm,
            _causes(changed),
            arm,
            False,
            estimate(drift_from(shown.record(arm), shown.control)[:, -1]),
            _parts(shown, arm),
        )
        for arm, changed in _changed(shown, shown.drifters()).items()
    ]
    return made + [
        Effect(
            f"{one} + {other}", _causes(changed), both, True, None, _parts(shown, both, one, other)
        )
        for both, one, other, changed in _combinations(_changed(shown, shown.drifters()))
    ]


def _parts(shown: Shown, arm: str, *alone: str) -> dict[str, Estimate]:
    """An arm's centre less the control's, less what other arms have of it alone."""
    assert shown.control is not None
    made = {}
    for part in shown.directions:
        apart = shown.apart(arm, part)[:, -1]
        for other in alone:
            apart = apart - shown.apart(other, part)[:, -1]
        made[value_name(shown.control, part)] = estimate(apart)
    return made


def _of_measures(shown: Shown) -> list[Effect]:
    """Where people have no values: what claims look at, by the statistic that they use."""
    twin, asked = shown.twin, {}
    assert twin is not None
    for claim in shown.scenario.claims:
        known = claim.kind != "exact" and claim.measure in twin.measures
        if known and np.isfinite(twin.by_replicate(claim.measure)[:, -1]).all():
            asked.setdefault(claim.measure, claim.statistic)
    rows = []
    for arm, changed in _changed(shown, shown.others).items():
        parts = {}
        for name, statistic in list(asked.items())[:MOST_MEASURES]:
            if name in shown.record(arm).measures:
                here, there = (r.by_replicate(name)[:, -1] for r in (shown.record(arm), twin))
                parts[name.replace("_", " ")] = compare(here, there, statistic)
        rows.append(Effect(arm, _causes(changed), arm, False, None, parts))
    return [row for row in rows if row.parts]


# --- what was changed ---------------------------------------------------------------------------


def _changed(shown: Shown, arms: Sequence[str]) -> dict[str, dict[str, Any]]:
    """By arm: dotted paths at which its cell is not as the control's, and what stands there."""
    twin = _flat_cell(shown.cell(shown.scenario.control or ""))
    made = {}
    for arm in arms:
        here = _flat_cell(shown.cell(arm))
        paths = [path for path in {**here, **twin} if here.get(path) != twin.get(path)]
        made[arm] = {path: here.get(path) for path in paths}
    return made


def _flat_cell(cell: Cell) -> dict[str, Any]:
    return dict(_flat({"env": cell.env, "people": cell.people, "players": cell.players}))


def _flat(part: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(part, Mapping):
        for name, below in part.items():
            yield from _flat(below, f"{path}.{name}" if path else str(name))
    else:
        yield path, part


def _causes(changes: Mapping[str, Any]) -> tuple[str, ...]:
    """What was changed, in words."""
    return tuple(dict.fromkeys(_cause(path) for path in sorted(changes))) or ("nothing",)


def _cause(path: str) -> str:
    parts = path.split(".")
    about_ai = any(p.startswith("ai_") or p.endswith("_ai") or "assistant" in p for p in parts)
    if parts[0] == "players" or about_ai:
        return "AI"
    if "peers" in parts or "network" in parts:
        return "peers"
    if parts[0] == "people":
        return "people"
    return "history" if "history" in parts else "environment"


def _combinations(
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


def _bars(
    shown: Shown, title: str, label: str, rows: Sequence[tuple[Effect, Estimate | None]]
) -> Panel:
    known = [(row, found) for row, found in rows if found is not None]

    def draw(axes: Any) -> None:
        for place, (row, found) in enumerate(known):
            color = shown.look(row.arm).hex
            if row.beyond:
                axes.barh(place, found.value, 0.55, fill=False, edgecolor=color, hatch="////")
            else:
                axes.barh(place, found.value, 0.55, color=color, edgecolor=color, alpha=0.75)
            if np.isfinite([found.low, found.high]).all():
                axes.plot([found.low, found.high], [place, place], color=LIGHT["ink"], lw=1.3)
        axes.axvline(0, color=LIGHT["axis"], linewidth=0.8)
        axes.set_yticks(range(len(known)), [_beside(row) for row, _ in known])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(False, axis="y")
        axes.set_xlabel(label)
        axes.locator_params(axis="x", nbins=3)

    told = (f"{row.name} {interval(found)}" for row, found in known)
    return Panel(title, f"{'; '.join(told)}.", draw)


def _beside(row: Effect, most: int = 22) -> str:
    """A name that fits beside a bar, and under it what was changed."""
    name = row.name if len(row.name) <= most else f"{row.name[: most - 1]}…"
    return f"{name}\n({'beyond the sum' if row.beyond else ', '.join(row.causes)})"


def strongest(shown: Shown) -> Effect | None:
    """The arm that went furthest from its twin."""
    rows = [(row.distance.value, row) for row in effects(shown) if row.distance is not None]
    rows = [(far, row) for far, row in rows if np.isfinite(far)]
    return max(rows, key=lambda pair: pair[0])[1] if rows else None

"""Which uncertain parameter carries a result: Sobol or Morris indices as bars."""

from __future__ import annotations

from typing import Any

import numpy as np

from mores.analysis.intervals import Band
from mores.analysis.sensitivity import Indices
from mores.experiments.scenario.claim_inputs import arm_of
from mores.report.figures.plot_data import Shown, number
from mores.report.figures.rendering import Figure, Panel
from mores.report.figures.theme import LIGHT, look

MOST = 20  # parameters in a picture, the most important first
TITLES = {
    "first": "By itself: share of the variance",
    "total": "With all it acts together with",
    "mu_star": "Mean size of its effect (μ*)",
    "sigma": "How its effect varies (σ)",
}
TOLD = {
    "sobol": "By itself: the share of the result's variance that a parameter explains alone. With "
    "all it acts together with: what would remain if all others were known.",
    "morris": "μ*: how much the result changes, on average and in its own units, when a parameter "
    "goes through its whole range. σ: how much that depends on the other parameters.",
}

WIDEST = 3.0  # times the longest bar; whiskers beyond are cut


def sensitivity_figures(shown: Shown, found: Indices | None) -> list[Figure]:
    """Bars of the indices; none where a scenario does not ask for them."""
    asked = shown.scenario.uncertain and shown.scenario.uncertain.sensitivity
    if found is None or not asked:
        return []
    order = [found.names.index(name) for name in found.ranked[:MOST]]
    kinds = ("first", "total") if found.method == "sobol" else ("mu_star", "sigma")
    panels = []
    for place, kind in enumerate(kinds):
        band: Band | None = getattr(found, kind)
        if band is not None and np.isfinite(band.value).any():
            names = [found.names[i] for i in order]
            chosen = Band(*(np.asarray(part)[order] for part in band))
            panels.append(_bars(TITLES[kind], names, chosen, place))
    if not panels:
        return []
    caption = f"What {_result(shown, asked)} depends on. {TOLD[found.method]} {found.about}, "
    caption += (
        f"{found.points} points; whiskers: 95 % intervals, cut at three times the longest bar."
    )
    if found.noise is not None and np.isfinite(found.noise):
        caption += (
            f" Chance between replicates makes up at most {100 * found.noise:.2g} % of the "
            "variance between points."
        )
    if len(found.names) > MOST:
        caption += f" The {MOST} most important of {len(found.names)} parameters."
    size = (3.4, 0.9 + 0.34 * len(order))
    return [Figure("sensitivity", caption, tuple(panels), (), size, 2)]


def _result(shown: Shown, asked: Any) -> str:
    scenario = shown.scenario
    at = scenario.rounds_in(scenario.stage(None)) if asked.at is None else asked.at
    arm = f" in {arm_of(scenario, asked)}" if scenario.arms else ""
    less = f" less that in {asked.against}" if asked.against else ""
    return f"{asked.measure}{arm}{less} after {at} rounds"


def _bars(title: str, names: list[str], band: Band, place: int) -> Panel:
    color = look(place).hex

    def draw(axes: Any) -> None:
        rows = np.arange(len(names))
        axes.barh(rows, band.value, 0.55, color=color, alpha=0.75)
        for row, low, high in zip(rows, band.low, band.high, strict=True):
            if np.isfinite([low, high]).all():
                axes.plot([low, high], [row, row], color=LIGHT["ink"], linewidth=1.3)
        longest = WIDEST * float(np.nanmax(np.abs(band.value), initial=0.0))
        if longest and np.nanmax(band.high) > longest:  # one whisker must not hide all bars
            axes.set_xlim(max(float(np.nanmin(band.low)), -longest) * 1.05, longest)
        axes.axvline(0, color=LIGHT["axis"], linewidth=0.8)
        axes.set_yticks(rows, [_end(name) for name in names])
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.grid(False, axis="y")
        axes.locator_params(axis="x", nbins=3)

    pairs = zip(names, band.value, band.low, band.high, strict=True)
    told = (f"{n} {number(v)} ({number(low)} to {number(high)})" for n, v, low, high in pairs)
    return Panel(title, f"{'; '.join(told)}.", draw)


def _end(path: str, most: int = 24) -> str:
    """The end of a dotted path: what tells parameters apart."""
    return path if len(path) <= most else f"…{path[-most + 1 :]}"

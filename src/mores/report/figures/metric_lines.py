"""Lines over rounds, each a mean of replicates with its band."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mores.analysis.intervals import band
from mores.experiments.scenario.claim_inputs import arm_of
from mores.report.figures.plot_data import Shown, measure_name, number
from mores.report.figures.rendering import Figure, Panel, dashed
from mores.report.figures.theme import Look

MOST_PANELS = 12
MOST_POINTS = 200  # of a line: more would not be seen
BAND = "Lines: mean of {} replicates; bands: 95 % interval of that mean (Student's t)."


class Formula(NamedTuple):
    """What a formula says after some of the rounds."""

    rounds: Int[np.ndarray, " place"]
    values: Float[np.ndarray, " place"]


def measure_figures(shown: Shown) -> list[Figure]:
    """Every measure over the rounds of the last stage."""
    if len(shown.points) > 1 or len(shown.record(shown.arms[0]).rounds) < 2:
        return []
    names = ordered(shown, None)
    panels = [
        lines_panel(
            shown,
            measure_name(name, shown.record(shown.arms[0])),
            {
                arm: shown.record(arm).by_replicate(name)
                for arm in shown.arms
                if name in shown.record(arm).measures
            },
            shown.record(shown.arms[0]).rounds,
            "",
            formulas=_formulas(shown, name),
        )
        for name in names[:MOST_PANELS]
    ]
    if not panels:
        return []
    stage = (
        f" of stage “{shown.record(shown.arms[0]).stages[-1].name}”"
        if shown.scenario.stages
        else ""
    )
    caption = (
        f"Every measure over the rounds{stage}. {BAND.format(shown.replicates)}{left_out(names)}"
    )
    if any(_formulas(shown, name) for name in names[:MOST_PANELS]):
        caption += " Circles: what a formula says."
    return [Figure("measures", caption, tuple(panels), shown.legend(shown.arms))]


def lines_panel(
    shown: Shown,
    title: str,
    rows: Mapping[str, Float[np.ndarray, "replicate column"]],
    at: Sequence[int] | np.ndarray,
    label: str,
    over: str = "round",
    formulas: Mapping[str, Formula] | None = None,
) -> Panel:
    """One line an arm, with its band; circles where a formula says it should be."""

    def draw(axes: Any) -> None:
        for arm, values in rows.items():
            line(axes, at, values, shown.look(arm))
        for arm, (places, said) in (formulas or {}).items():
            color = shown.look(arm).hex
            axes.plot(places, said, "o", ms=4.5, mfc="none", mec=color, mew=1.1)
        axes.set_xlabel(over)
        if label:
            axes.set_ylabel(label)
        axes.locator_params(nbins=5)
        axes.xaxis.get_major_locator().set_params(integer=True)

    told = (f"{arm} {number(float(values[:, -1].mean()))}" for arm, values in rows.items())
    return Panel(title, f"Lines by {over}; at the end: {'; '.join(told)}.", draw)


def _formulas(shown: Shown, name: str) -> dict[str, Formula]:
    """By arm, what a formula says of the mean of a measure, where a claim compares the two."""
    made = {}
    for claim in shown.scenario.claims:
        arm = arm_of(shown.scenario, claim) or ""
        mean = claim.kind == "exact" or claim.statistic == "mean"
        if claim.measure != name or claim.prediction is None or not mean or arm not in shown.arms:
            continue
        stage = shown.record(arm).stage()
        rounds = np.array(stage.rounds)
        said = np.asarray(stage.predictions.get(claim.prediction, np.nan), dtype=np.float64)
        said = said[rounds] if said.ndim else np.full(len(rounds), said)
        chosen = np.unique(np.linspace(0, len(rounds) - 1, 9).round().astype(int))
        chosen = chosen[np.isfinite(said[chosen])]
        made[arm] = Formula(rounds[chosen], said[chosen])
    return made


def line(axes: Any, at: Sequence[int] | np.ndarray, rows: np.ndarray, look: Look) -> None:
    """Mean and band, at the columns where every replicate has a number."""
    known = np.flatnonzero(np.isfinite(rows).all(0))
    if len(known) > MOST_POINTS:
        known = known[np.unique(np.linspace(0, len(known) - 1, MOST_POINTS).round().astype(int))]
    if not len(known):
        return
    middle, low, high = band(rows[:, known])
    x = np.array(at)[known]
    single = {"marker": look.marker, "ms": 4} if len(x) == 1 else {}
    axes.plot(x, middle, color=look.hex, linestyle=dashed(look), **single)
    if len(rows) > 1:
        axes.fill_between(x, low, high, color=look.hex, alpha=0.18, linewidth=0)


def ordered(shown: Shown, stage: str | None) -> list[str]:
    """The measures with numbers in them, those that claims speak of first."""
    records = [shown.record(arm).stage(stage) for arm in shown.arms]
    names = [
        name
        for name in dict.fromkeys(name for record in records for name in record.measures)
        if any(np.isfinite(r.measures[name]).any() for r in records if name in r.measures)
    ]
    claimed = {claim.measure for claim in shown.scenario.claims}
    return sorted(names, key=lambda name: name.partition("[")[0] not in claimed)


def left_out(names: Sequence[str]) -> str:
    """How many measures are not drawn, in words."""
    left = len(names) - MOST_PANELS
    return f" {left} more are in the files of the run." if left > 0 else ""

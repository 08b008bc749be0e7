"""How far each arm went from its twin, and which way, over the rounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mores.analysis.intervals import band
from mores.experiments.claims.claim_evaluation import drift_from
from mores.report.figures.metric_lines import lines_panel
from mores.report.figures.plot_data import Shown, number, value_name
from mores.report.figures.rendering import Figure, Panel, dashed

BAND = "95 % interval of that mean (Student's t)"


def drift_figures(shown: Shown) -> list[Figure]:
    """Over the rounds; none without a control or values."""
    if shown.control is None or not shown.drifters():
        return []
    control, arms = shown.control, shown.drifters()
    far = {arm: drift_from(shown.record(arm), control) for arm in arms}
    panels = [lines_panel(shown, "How far from the control", far, control.rounds, "distance")]
    if len(shown.directions) > 1:
        panels.append(_compass(shown, arms))
    for part in shown.directions:
        which = {arm: shown.apart(arm, part) for arm in arms}
        title = f"{value_name(control, part)}, less the control's"
        panels.append(lines_panel(shown, title, which, control.rounds, "difference"))
    caption = (
        f"Where the centre of each arm's people is, less where it is in “{shown.scenario.control}”,"
        f" which has the same people and the same chance events: what the arm's change caused. "
        f"In value units. Lines: mean of {shown.replicates} replicates; bands: {BAND}."
    )
    return [Figure("drift", caption, tuple(panels), shown.legend(arms))]


def _compass(shown: Shown, arms: Sequence[str]) -> Panel:
    """The way of each arm's centre in the plane of two values, the control's at the origin."""
    control = shown.control
    assert control is not None
    x_part, y_part = sorted(shown.drifted[:2])
    names = value_name(control, x_part), value_name(control, y_part)
    ways = {arm: (shown.apart(arm, x_part), shown.apart(arm, y_part)) for arm in arms}

    def draw(axes: Any) -> None:
        axes.plot(0, 0, marker="+", color=shown.look(shown.scenario.control or "").hex, ms=9)
        for arm, (x, y) in ways.items():
            look, end_x, end_y = shown.look(arm), band(x[:, -1:]), band(y[:, -1:])
            way = band(x).value, band(y).value
            axes.plot(*way, color=look.hex, linestyle=dashed(look), linewidth=1.2)
            if len(x) > 1:
                axes.plot([*end_x.low, *end_x.high], [*end_y.value] * 2, color=look.hex, lw=1)
                axes.plot([*end_x.value] * 2, [*end_y.low, *end_y.high], color=look.hex, lw=1)
            axes.plot(end_x.value, end_y.value, marker=look.marker, color=look.hex, ms=5)
        axes.set(xlabel=names[0], ylabel=names[1])
        axes.margins(0.08)
        axes.locator_params(nbins=5)

    alt = "; ".join(
        f"{arm} {number(float(x[:, -1].mean()))}, {number(float(y[:, -1].mean()))}"
        for arm, (x, y) in ways.items()
    )
    title = "Which way from the control (+)"
    return Panel(title, f"At the end, {names[0]} and {names[1]}: {alt}.", draw)

"""Learning curves: every measure from episode to episode, in stages where somebody learns or not.

A point is a measure after an episode's last round, as claims look at it. Where there are more
episodes than a line can show, it is the mean over a block of them, taken in each replicate first:
the band is over replicates, which are the independent trainings.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mores.experiments.scenario.stages import Stage
from mores.report.figures.metric_lines import BAND, MOST_PANELS, left_out, lines_panel, ordered
from mores.report.figures.plot_data import Shown, measure_name
from mores.report.figures.rendering import Figure, Panel

MOST_BLOCKS = 60  # points of a line


class Blocks(NamedTuple):
    """A measure over blocks of consecutive episodes.

    Attributes:
        at: the middle of each block, in episodes from 1.
        values: its mean over the block.
        size: episodes of a block; the last may have fewer.
    """

    at: Float[np.ndarray, " block"]
    values: Float[np.ndarray, "replicate block"]
    size: int


def learning_figures(shown: Shown) -> list[Figure]:
    """A figure for each stage of several episodes in which somebody plays."""
    if len(shown.points) > 1:
        return []
    stages = [s for s in shown.scenario.played if s.episodes > 1 and s.loop != "fit"]
    return [figure for stage in stages for figure in _figure(shown, stage)]


def _figure(shown: Shown, stage: Stage) -> list[Figure]:
    names = ordered(shown, stage.name)
    panels: list[Panel] = []
    size, gaps = 1, False
    for name in names[:MOST_PANELS]:
        found = {
            arm: in_blocks(shown.record(arm).by_episode(name, stage.name)[:, :, -1])
            for arm in shown.arms
            if name in shown.record(arm).stage(stage.name).measures
        }
        first = next(iter(found.values()))
        size = first.size
        gaps |= any(not np.isfinite(blocks.values).all() for blocks in found.values())
        rows = {arm: blocks.values for arm, blocks in found.items()}
        title = measure_name(name, shown.record(shown.arms[0]))
        panels.append(lines_panel(shown, title, rows, first.at, "", _over(shown, stage)))
    if not panels:
        return []
    told = [_heading(shown, stage), BAND.format(shown.replicates)]
    if size > 1:
        told.insert(1, f"Each point is the mean over {size} episodes.")
    if gaps:
        told.append("A line has gaps where some replicate has no number.")
    caption = f"{' '.join(told)}{left_out(names)}"
    legend = shown.legend(shown.arms)
    kind = "learning" if any(other.learns for other in shown.scenario.played) else "episodes"
    return [Figure(f"{kind}_{stage.name}", caption, tuple(panels), legend)]


def in_blocks(rows: Float[np.ndarray, "replicate episode"]) -> Blocks:
    """Means over blocks of consecutive episodes, as few in each as a line can show."""
    episodes = rows.shape[1]
    size = -(-episodes // MOST_BLOCKS)
    starts = np.arange(0, episodes, size)
    counts = np.diff([*starts, episodes])
    at = starts + (counts + 1) / 2
    return Blocks(at, np.add.reduceat(rows, starts, axis=1) / counts, size)


def _over(shown: Shown, stage: Stage) -> str:
    """What lines run over: the episodes of a stage, which is named where players are frozen."""
    if not any(other.learns for other in shown.scenario.played):
        return "episode"
    return f"episode of {stage.name}" + ("" if stage.learns else " (frozen)")


def _heading(shown: Shown, stage: Stage) -> str:
    """What the stage is, and what is shown of it."""
    what = f"Every measure after the last round of each episode of stage “{stage.name}”"
    if stage.learns:
        who = " and ".join(stage.learn)
        arms = [arm for arm in shown.arms if not shown.record(arm).learners]
        some = 0 < len(arms) < len(shown.arms)
        but = f" (nobody does in {', '.join(arms)})" if some else ""
        return f"{what}, in which {who} learns from reward{but}."
    before = [s.name for s in shown.scenario.until(stage.name) if s.learns]
    if before:
        return f"{what}: players are frozen, as they were after “{before[-1]}”."
    later = any(other.learns for other in shown.scenario.played)
    return f"{what}: players are frozen, before anybody learns." if later else f"{what}."

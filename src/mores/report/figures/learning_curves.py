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
from mores.report.figures.metric_lines import (
    LINES_DESCRIPTION,
    MAX_PANELS,
    describe_omitted,
    line_panel,
    order_metrics,
)
from mores.report.figures.plot_data import ReportData, metric_label
from mores.report.figures.rendering import FigureSpec, PanelSpec

MAX_BLOCKS = 60  # points of a line


class EpisodeBlocks(NamedTuple):
    """A measure over blocks of consecutive episodes.

    Attributes:
        midpoints: the middle of each block, in episodes from 1.
        values: its mean over the block.
        block_size: episodes of a block; the last may have fewer.
    """

    midpoints: Float[np.ndarray, " block"]
    values: Float[np.ndarray, "replicate block"]
    block_size: int


def learning_figures(data: ReportData) -> list[FigureSpec]:
    """A figure for each stage of several episodes in which somebody plays."""
    if len(data.points) > 1:
        return []
    stages = [s for s in data.scenario.stages_or_default if s.episodes > 1 and s.loop != "fit_offline"]
    return [figure for stage in stages for figure in _stage_figures(data, stage)]


def _stage_figures(data: ReportData, stage: Stage) -> list[FigureSpec]:
    names = order_metrics(data, stage.name)
    panels: list[PanelSpec] = []
    size, gaps = 1, False
    for name in names[:MAX_PANELS]:
        found = {
            arm: block_means(data.record(arm).by_episode(name, stage.name)[:, :, -1])
            for arm in data.arms
            if name in data.record(arm).stage(stage.name).metrics
        }
        first = next(iter(found.values()))
        size = first.block_size
        gaps |= any(not np.isfinite(blocks.values).all() for blocks in found.values())
        rows = {arm: blocks.values for arm, blocks in found.items()}
        title = metric_label(name, data.record(data.arms[0]))
        panels.append(line_panel(data, title, rows, first.midpoints, "", _x_label(data, stage)))
    if not panels:
        return []
    told = [_describe_stage(data, stage), LINES_DESCRIPTION.format(data.replicates)]
    if size > 1:
        told.insert(1, f"Each point is the mean over {size} episodes.")
    if gaps:
        told.append("A line has gaps where some replicate has no number.")
    caption = f"{' '.join(told)}{describe_omitted(names)}"
    legend = data.legend(data.arms)
    kind = (
        "learning"
        if any(other.trains_policies for other in data.scenario.stages_or_default)
        else "episodes"
    )
    return [FigureSpec(f"{kind}_{stage.name}", caption, tuple(panels), legend)]


def block_means(values: Float[np.ndarray, "replicate episode"]) -> EpisodeBlocks:
    """Means over blocks of consecutive episodes, as few in each as a line can show."""
    episodes = values.shape[1]
    size = -(-episodes // MAX_BLOCKS)
    starts = np.arange(0, episodes, size)
    counts = np.diff([*starts, episodes])
    at = starts + (counts + 1) / 2
    return EpisodeBlocks(at, np.add.reduceat(values, starts, axis=1) / counts, size)


def _x_label(data: ReportData, stage: Stage) -> str:
    """What lines run over: the episodes of a stage, which is named where players are frozen."""
    if not any(other.trains_policies for other in data.scenario.stages_or_default):
        return "episode"
    return f"episode of {stage.name}" + ("" if stage.trains_policies else " (frozen)")


def _describe_stage(data: ReportData, stage: Stage) -> str:
    """What the stage is, and what is shown of it."""
    what = f"Every measure after the last round of each episode of stage “{stage.name}”"
    if stage.trains_policies:
        who = " and ".join(stage.roles_to_train)
        arms = [arm for arm in data.arms if not data.record(arm).num_models]
        some = 0 < len(arms) < len(data.arms)
        but = f" (nobody does in {', '.join(arms)})" if some else ""
        return f"{what}, in which {who} learns from reward{but}."
    before = [s.name for s in data.scenario.stages_through(stage.name) if s.trains_policies]
    if before:
        return f"{what}: players are frozen, as they were after “{before[-1]}”."
    later = any(other.trains_policies for other in data.scenario.stages_or_default)
    return f"{what}: players are frozen, before anybody learns." if later else f"{what}."

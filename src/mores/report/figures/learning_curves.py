"""Learning curves: metrics by episode, in stages with and without training.

A point is a metric after the last round of an episode, as in claims. If there are more episodes
than points, it is the mean over a block of episodes within each replicate; the band is over
replicates, which are the independent trainings.
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

MAX_BLOCKS = 60  # points per line


class EpisodeBlocks(NamedTuple):
    """Means of a metric over blocks of consecutive episodes.

    Attributes:
        midpoints: midpoint of each block, in episodes from 1.
        values: mean over the block.
        block_size: episodes per block; the last block may have fewer.
    """

    midpoints: Float[np.ndarray, " block"]
    values: Float[np.ndarray, "replicate block"]
    block_size: int


def learning_figures(data: ReportData) -> list[FigureSpec]:
    """One figure per simulated stage with several episodes; empty in a sweep."""
    if len(data.points) > 1:
        return []
    scenario = data.scenario
    stages = [s for s in scenario.stages_or_default if s.episodes > 1 and s.loop != "fit_offline"]
    return [figure for stage in stages for figure in _stage_figures(data, stage)]


def _stage_figures(data: ReportData, stage: Stage) -> list[FigureSpec]:
    names = order_metrics(data, stage.name)
    panels: list[PanelSpec] = []
    block_size, has_gaps = 1, False
    for name in names[:MAX_PANELS]:
        blocks_by_arm = {
            arm: block_means(data.record(arm).by_episode(name, stage.name)[:, :, -1])
            for arm in data.arms
            if name in data.record(arm).stage(stage.name).metrics
        }
        first = next(iter(blocks_by_arm.values()))
        block_size = first.block_size
        has_gaps |= any(not np.isfinite(blocks.values).all() for blocks in blocks_by_arm.values())
        series = {arm: blocks.values for arm, blocks in blocks_by_arm.items()}
        title = metric_label(name, data.record(data.arms[0]))
        panels.append(line_panel(data, title, series, first.midpoints, "", _x_label(data, stage)))
    if not panels:
        return []
    sentences = [_describe_stage(data, stage), LINES_DESCRIPTION.format(data.replicates)]
    if block_size > 1:
        sentences.insert(1, f"Each point is the mean over {block_size} episodes.")
    if has_gaps:
        sentences.append("A gap in a line marks a non-finite value in some replicate.")
    caption = f"{' '.join(sentences)}{describe_omitted(names)}"
    legend = data.legend(data.arms)
    kind = "learning" if _has_training(data) else "episodes"
    return [FigureSpec(f"{kind}_{stage.name}", caption, tuple(panels), legend)]


def block_means(values: Float[np.ndarray, "replicate episode"]) -> EpisodeBlocks:
    """Means over at most `MAX_BLOCKS` blocks of consecutive episodes."""
    episodes = values.shape[1]
    block_size = -(-episodes // MAX_BLOCKS)
    starts = np.arange(0, episodes, block_size)
    counts = np.diff([*starts, episodes])
    midpoints = starts + (counts + 1) / 2
    return EpisodeBlocks(midpoints, np.add.reduceat(values, starts, axis=1) / counts, block_size)


def _has_training(data: ReportData) -> bool:
    return any(stage.trains_policies for stage in data.scenario.stages_or_default)


def _x_label(data: ReportData, stage: Stage) -> str:
    """Label of the x axis, with the stage's name in a scenario with training."""
    if not _has_training(data):
        return "episode"
    return f"episode of {stage.name}" + ("" if stage.trains_policies else " (frozen)")


def _describe_stage(data: ReportData, stage: Stage) -> str:
    """Sentence on the stage for the caption."""
    text = f"Metrics after the last round of each episode of stage “{stage.name}”"
    if stage.trains_policies:
        roles = " and ".join(stage.roles_to_train)
        arms = [arm for arm in data.arms if not data.record(arm).num_models]
        is_partial = 0 < len(arms) < len(data.arms)
        exception = f" (no training in {', '.join(arms)})" if is_partial else ""
        return f"{text}, in which {roles} learns from reward{exception}."
    stages = data.scenario.stages_through(stage.name)
    if trained := [earlier.name for earlier in stages if earlier.trains_policies]:
        return f"{text}, with policies frozen after stage “{trained[-1]}”."
    return f"{text}, with policies frozen before training." if _has_training(data) else f"{text}."

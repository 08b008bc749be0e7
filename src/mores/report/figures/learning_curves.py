"""Learning curves: metrics by episode, in stages with and without training.

A point is a metric after the last round of an episode, as in claims. If there are more episodes
than points, it is the mean over a block of episodes within each replicate; the band is over
replicates, which are the independent trainings.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from mores.experiments.scenario.stages import Stage
from mores.report.figures.metric_lines import LINES_DESCRIPTION, line_panel, metric_series
from mores.report.figures.plot_data import ReportData, metric_label
from mores.report.figures.rendering import FigureSpec

MAX_BLOCKS = 60  # points per line


def learning_figures(data: ReportData) -> list[FigureSpec]:
    """One figure per simulated stage with several episodes; empty in a sweep."""
    if len(data.points) > 1:
        return []
    stages = data.scenario.stages_or_default
    stages = [stage for stage in stages if stage.episodes > 1 and stage.loop != "fit_offline"]
    return [figure for stage in stages for figure in _stage_figures(data, stage)]


def _stage_figures(data: ReportData, stage: Stage) -> list[FigureSpec]:
    series, omitted = metric_series(
        data,
        stage.name,
        lambda record, name: record.by_episode(name, stage.name)[:, :, -1],
    )
    if not series:
        return []
    has_training = any(stage.trains_policies for stage in data.scenario.stages_or_default)
    x_label = "episode"
    if has_training:
        x_label += f" of {stage.name}" + ("" if stage.trains_policies else " (frozen)")
    first = data.record(data.arms[0])
    panels, block_size, has_gaps = [], 1, False
    for name, by_arm in series.items():
        blocks = {arm: block_means(values) for arm, values in by_arm.items()}
        midpoints, _, block_size = next(iter(blocks.values()))
        means = {arm: values for arm, (_, values, _) in blocks.items()}
        has_gaps |= not all(np.isfinite(values).all() for values in means.values())
        panels.append(line_panel(data, metric_label(name, first), means, midpoints, "", x_label))
    sentences = [_describe_stage(data, stage, has_training)]
    if block_size > 1:
        sentences.append(f"Each point is the mean over {block_size} episodes.")
    sentences.append(LINES_DESCRIPTION.format(data.replicates))
    if has_gaps:
        sentences.append("A gap in a line marks a non-finite value in some replicate.")
    name = f"{'learning' if has_training else 'episodes'}_{stage.name}"
    return [FigureSpec(name, f"{' '.join(sentences)}{omitted}", panels, data.legend(data.arms))]


def block_means(
    values: Float[np.ndarray, "replicate episode"],
) -> tuple[Float[np.ndarray, " block"], Float[np.ndarray, "replicate block"], int]:
    """Means over at most `MAX_BLOCKS` blocks of consecutive episodes.

    Returns:
        Midpoint of each block in episodes from 1, the means, and the episodes per block, of which
        the last block may have fewer.
    """
    episodes = values.shape[1]
    block_size = -(-episodes // MAX_BLOCKS)
    starts = np.arange(0, episodes, block_size)
    counts = np.diff([*starts, episodes])
    midpoints = starts + (counts + 1) / 2
    return midpoints, np.add.reduceat(values, starts, axis=1) / counts, block_size


def _describe_stage(data: ReportData, stage: Stage, has_training: bool) -> str:
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
    return f"{text}, with policies frozen before training." if has_training else f"{text}."

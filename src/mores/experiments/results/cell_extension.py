"""Add replicates to a cell: the results on disk, and those of the replicates simulated since.

The sum is what one simulation of all replicates gives. A replicate's numbers depend on its random
streams alone, so rows, sampled people and learned parameters are put one after the other, and
counts are added.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from mores.core.random_streams import Worlds
from mores.experiments.results.cell_result import (
    CellResult,
    PolicyCheckpoint,
    StageResult,
    StoppedTraining,
)
from mores.experiments.results.policy_checkpoints import (
    append_checkpoints,
    num_models,
    order_stopped,
    sum_statuses,
)
from mores.sim.round_recorder import metric_dataset


def append_replicates(
    earlier: CellResult,
    added: CellResult,
    trajectory_worlds: int,
    roles_by_stage: Sequence[tuple[str, Sequence[str]]],
) -> CellResult:
    """The results of a cell with further replicates.

    Args:
        earlier: results of the first replicates, with their checkpoints.
        added: results of the others, of the same cell.
        trajectory_worlds: number of worlds whose people are stored.
        roles_by_stage: name of each stage and its roles that train, in order.

    Raises:
        ValueError: the two are not results of the same cell.
    """
    names = [
        [(stage.name, stage.names, stage.rounds) for stage in r.stages] for r in (earlier, added)
    ]
    if names[0] != names[1]:
        raise ValueError("the earlier replicates have other stages, metrics or rounds")
    checkpoints = _append_all(earlier.checkpoints, added.checkpoints)
    num_worlds = len(earlier.replicate) + len(added.replicate)
    stopped = dict[tuple[str, str], StoppedTraining]()
    for each in (*earlier.stopped, *added.stopped):
        stopped.setdefault((each.role, each.message), each)
    statuses = [*earlier.training_statuses, *added.training_statuses]
    roles = [{(s.stage, s.role) for s in each.training_statuses} for each in (earlier, added)]
    if (checkpoints or stopped) and roles[0] != roles[1]:  # a cell without both stores none
        raise ValueError("the earlier replicates have other learners")
    return dataclasses.replace(
        added,
        stages=tuple(
            _append_worlds(*pair) for pair in zip(earlier.stages, added.stages, strict=True)
        ),
        trajectory=earlier.trajectory.append_worlds(
            added.trajectory, min(trajectory_worlds, num_worlds)
        ),
        drew_random_numbers=earlier.drew_random_numbers or added.drew_random_numbers,
        num_models=num_models(checkpoints),
        uncoupled_roles=tuple(sorted({*earlier.uncoupled_roles, *added.uncoupled_roles})),
        stopped=order_stopped(stopped.values(), roles_by_stage),
        training_statuses=sum_statuses(statuses),
        checkpoints=checkpoints,
    )


def _append_all(
    earlier: Sequence[PolicyCheckpoint], added: Sequence[PolicyCheckpoint]
) -> tuple[PolicyCheckpoint, ...]:
    before = {(each.stage, each.role): each for each in earlier}
    if before.keys() != {(each.stage, each.role) for each in added}:
        raise ValueError("the earlier replicates have other checkpoints")
    return tuple(append_checkpoints(before[each.stage, each.role], each) for each in added)


def _append_worlds(earlier: StageResult, added: StageResult) -> StageResult:
    """One stage of a cell, with the worlds of both results."""
    first, second = earlier.metrics, added.metrics
    metrics = {
        str(name): torch.from_numpy(
            np.concatenate([first[name].values, values.values.astype(np.float32)])
        )
        for name, values in second.items()
    }
    labels = [
        torch.from_numpy(np.concatenate([data[name].values for data in (first, second)]))
        for name in ("replicate", "world", "draw")
    ]
    episodes, names = second.sizes["episode"], added.component_names
    dataset = metric_dataset(metrics, Worlds(*labels), episodes, added.rounds, names)
    for name in metrics:
        dataset[name].attrs |= second[name].attrs
    return StageResult(added.name, dataset, added.analytic_values)

"""The log of a cell: its metrics, and what its learners report, written while it is simulated.

Steps count the episodes of the cell over all stages; a stage with a single episode counts its
rounds instead, and so shows how metrics change within it. Cells that are simulated in chunks of
worlds have the numbers of each chunk, one chunk after another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Shaped
from torch import Tensor

from mores.core.tracker import Log
from mores.experiments.learning_curve import log_values
from mores.experiments.scenario.cell import BuiltStage
from mores.sim.learning_recorder import learning_metrics
from mores.sim.round_recorder import RoundRecorder
from mores.sim.simulator import Simulator


class CellLog:
    """Logs the episodes of a cell.

    Args:
        log: of a tracker, or of several.
        stages: stages of the cell.
        num_worlds: number of worlds of the cell.
        chunk_size: number of worlds that are simulated together.
    """

    def __init__(
        self, log: Log, stages: Sequence[BuiltStage], num_worlds: int, chunk_size: int
    ) -> None:
        self._log, self._stages = log, stages
        self._num_worlds, self._chunk_size = num_worlds, chunk_size

    def simulated(
        self, first_world: int, stage_index: int, recorder: RoundRecorder, simulator: Simulator
    ) -> None:
        """Log an episode that has ended, as recorded by the recorder at its place."""
        staged, episode = self._stages[stage_index], recorder.episode
        rows = slice(first_world, first_world + len(simulator.worlds))
        replicate = simulator.worlds.repetition.numpy()  # of all draws
        learners = {role: simulator.policies[role] for role in simulator.learning_roles}
        num_replicates = len(np.unique(replicate))
        learning = learning_metrics(learners, simulator.policy_states, num_replicates)
        rounds = list(enumerate(recorder.rounds))
        by_round = _counts_rounds(staged)
        for index, number in rounds if by_round else rounds[-1:]:
            metrics = {n: x[rows, episode, index].numpy() for n, x in recorder.tensors.items()}
            own_learning = learning if index == rounds[-1][0] else {}
            step = number if by_round else episode + 1
            self._write(first_world, stage_index, step, metrics, own_learning, replicate)

    def fitted(
        self, first_world: int, stage_index: int, episode: int, learning: Mapping[str, Tensor]
    ) -> None:
        """Log a pass over recorded episodes."""
        self._write(first_world, stage_index, episode + 1, {}, learning, np.zeros(0, np.int64))

    def _write(
        self,
        first_world: int,
        stage_index: int,
        step: int,
        metrics: Mapping[str, Shaped[np.ndarray, "world *component"]],
        learning: Mapping[str, Tensor],
        replicate: np.ndarray,
    ) -> None:
        prefix = f"{self._stages[stage_index].stage.name}/"
        if self._num_worlds > self._chunk_size:
            last = min(first_world + self._chunk_size, self._num_worlds) - 1
            prefix += f"worlds {first_world}-{last}/"
        by_name = {name: values.numpy() for name, values in learning.items()}
        values = log_values(metrics, by_name, replicate)
        lengths = [_length(staged) for staged in self._stages]
        chunk = first_world // self._chunk_size
        before = chunk * sum(lengths) + sum(lengths[:stage_index])
        self._log(before + step, {f"{prefix}{name}": value for name, value in values.items()})


def _counts_rounds(staged: BuiltStage) -> bool:
    """Whether steps count the rounds of a stage."""
    return staged.stage.episodes == 1 and staged.stage.loop != "fit_offline"


def _length(staged: BuiltStage) -> int:
    """Number of steps of a stage."""
    return staged.rounds if _counts_rounds(staged) else staged.stage.episodes

"""Records the metrics of a cell in buffers that are allocated once for all of its worlds."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mores.experiments.results.cell_result import StageResult
from mores.experiments.scenario.cell import BuiltCell
from mores.experiments.scenario.expansion import recorded_rounds
from mores.experiments.scenario.specification import Scenario
from mores.sim.metric_tracker import ResolvedMetrics, resolve_metrics
from mores.sim.simulation import EpisodeRecord, simulate_episode
from mores.sim.simulator import Simulator


class MetricsRecorder:
    """Metrics of all stages, recorded chunk after chunk of worlds.

    Args:
        built_cell: the cell and its objects.
        scenario: its scenario.
        num_worlds: number of worlds of the whole cell.
    """

    def __init__(self, built_cell: BuiltCell, scenario: Scenario, num_worlds: int) -> None:
        self._scenario, self._built_cell, self._num_worlds = scenario, built_cell, num_worlds
        purpose = built_cell.cell.purpose
        self._sample_worlds = min(scenario.sample_worlds, num_worlds) if purpose == "arm" else 0
        self._recorded_rounds = [
            recorded_rounds(scenario, s.stage, purpose) for s in built_cell.stages
        ]
        self._buffers: list[dict[str, np.ndarray]] = [{} for _ in built_cell.stages]
        self._metrics: dict[int, ResolvedMetrics] = {}  # by stage
        self.latent: dict[str, np.ndarray] = {}
        simulated = [n for n, s in enumerate(built_cell.stages) if s.stage.loop != "fit_offline"]
        self._last_stage_index = simulated[-1]
        self.latent_rounds = (
            _latent_rounds(built_cell.stages[self._last_stage_index].rounds)
            if self._sample_worlds
            else ()
        )

    def record_episode(
        self,
        stage_index: int,
        first_world: int,
        episode: int,
        simulator: Simulator,
        callback: Callable[[float], None],
    ) -> None:
        """Simulate the current episode of a simulator and record its metrics.

        Args:
            stage_index: index of the stage.
            first_world: index in the cell of the simulator's first world.
            episode: index of the episode in the stage.
            simulator: at the start of that episode.
            callback: called after every round.
        """
        staged = self._built_cell.stages[stage_index]
        num_sampled = max(0, self._sample_worlds - first_world)
        samples_latent = (
            stage_index == self._last_stage_index
            and episode == staged.stage.episodes - 1
            and num_sampled > 0
        )
        names = list(simulator.environment.latent(simulator.state)) if samples_latent else []
        if stage_index not in self._metrics:
            self._metrics[stage_index] = resolve_metrics(
                simulator.environment,
                simulator.state,
                len(simulator.worlds),
                self._scenario.metric_specs,
            )
        episode_record = simulate_episode(
            simulator,
            self._metrics[stage_index],
            metric_rounds=self._recorded_rounds[stage_index],
            latent_worlds=dict.fromkeys(names, num_sampled),
            latent_rounds=self.latent_rounds if names else (),
            callback=lambda _: callback(1.0),
        )
        rows = slice(first_world, first_world + len(simulator.worlds))
        self._store_metrics(stage_index, rows, episode, episode_record)
        for name, values in episode_record.latent.items():
            if name not in self.latent:
                shape = (self._sample_worlds, *values.shape[1:])
                self.latent[name] = np.empty(shape, values.numpy().dtype)
            self.latent[name][first_world : first_world + len(values)] = values.numpy()

    def _store_metrics(
        self, stage_index: int, rows: slice, episode: int, episode_record: EpisodeRecord
    ) -> None:
        buffers, episodes = (
            self._buffers[stage_index],
            self._built_cell.stages[stage_index].stage.episodes,
        )
        for name, values in _split_components(episode_record.metrics).items():
            if name not in buffers:
                shape = (self._num_worlds, episodes, len(episode_record.rounds))
                buffers[name] = np.empty(shape, values.dtype)
            buffers[name][rows, episode] = values

    def stage_results(self) -> tuple[StageResult, ...]:
        """Recorded metrics of every stage with simulated episodes."""
        return tuple(
            StageResult(
                name=staged.stage.name,
                rounds=rounds,
                metrics=buffers,
                analytic_values=dict(
                    staged.environment.analytic_values(staged.policies, staged.rounds)
                ),
            )
            for staged, rounds, buffers in zip(
                self._built_cell.stages, self._recorded_rounds, self._buffers, strict=True
            )
            if staged.stage.loop != "fit_offline"
        )

    def state_dict(
        self, num_worlds: int, unfinished_stage: int | None, num_episodes: int
    ) -> dict[str, Tensor]:
        """The metrics recorded so far.

        Args:
            num_worlds: number of worlds that have started.
            unfinished_stage: index of a stage in which all worlds have at most `num_episodes`.
            num_episodes: see above.
        """
        output = {f"latent/{name}": torch.from_numpy(v) for name, v in self.latent.items()}
        for index, buffers in enumerate(self._buffers):
            for name, values in buffers.items():
                recorded = (
                    values[:num_worlds, :num_episodes]
                    if index == unfinished_stage
                    else values[:num_worlds]
                )
                output[f"{index}/{name}"] = torch.from_numpy(np.ascontiguousarray(recorded))
        return output

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Restore metrics recorded before."""
        for path, tensor in state_dict.items():
            part, _, name = path.partition("/")
            values = tensor.numpy()
            if part == "latent":
                self.latent[name] = values.copy()
                continue
            index = int(part)
            shape = (
                self._num_worlds,
                self._built_cell.stages[index].stage.episodes,
                values.shape[2],
            )
            buffer = self._buffers[index].setdefault(name, np.empty(shape, values.dtype))
            buffer[: values.shape[0], : values.shape[1]] = values


def _latent_rounds(rounds: int, max_intervals: int = 50) -> tuple[int, ...]:
    """First and last round, and rounds evenly spaced between them."""
    return tuple(
        int(r) for r in np.unique(np.linspace(0, rounds, min(max_intervals, rounds) + 1).round())
    )


def _split_components(metrics: Mapping[str, Tensor]) -> dict[str, Float[np.ndarray, "world round"]]:
    """Metrics with a component axis as one array per component."""
    split: dict[str, np.ndarray] = {}
    for name, tensor in metrics.items():
        values = tensor.numpy()
        if values.ndim == 2:
            split[name] = values
        else:
            split |= {f"{name}[{i}]": values[..., i] for i in range(values.shape[-1])}
    return split

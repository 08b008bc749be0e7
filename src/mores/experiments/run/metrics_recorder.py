"""Records the metrics of a cell in buffers that are allocated once for all of its worlds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mores.experiments.results.cell_result import StageResult
from mores.experiments.scenario.cell import BuiltCell
from mores.experiments.scenario.expansion import recorded_rounds
from mores.experiments.scenario.specification import Scenario
from mores.sim.metric_tracker import ResolvedMetrics, resolve_metrics
from mores.sim.simulation import EpisodeRecord
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

    def episode_options(
        self, stage_index: int, first_world: int, episode: int, simulator: Simulator
    ) -> dict[str, Any]:
        """What `simulate_episode` records: metrics, and in the last episode people for figures.

        Args:
            stage_index: index of the stage.
            first_world: index in the cell of the simulator's first world.
            episode: index of the episode in the stage.
            simulator: at the start of that episode.
        """
        last = (self._last_stage_index, self._built_cell.stages[stage_index].stage.episodes - 1)
        num_sampled = self._sample_worlds - first_world
        environment, state = simulator.environment, simulator.state
        if stage_index not in self._metrics:
            specs, num_worlds = self._scenario.metric_specs, len(simulator.worlds)
            self._metrics[stage_index] = resolve_metrics(environment, state, num_worlds, specs)
        options = {
            "metrics": self._metrics[stage_index],
            "metric_rounds": self._recorded_rounds[stage_index],
        }
        if (stage_index, episode) == last and num_sampled > 0:
            options["latent_worlds"] = dict.fromkeys(environment.latent(state), num_sampled)
            options["latent_rounds"] = self.latent_rounds
        return options

    def record(
        self, stage_index: int, first_world: int, episode: int, episode_record: EpisodeRecord
    ) -> None:
        """Store the record of an episode; the arguments are those of `episode_options`."""
        buffers = self._buffers[stage_index]
        num_episodes = self._built_cell.stages[stage_index].stage.episodes
        for name, values in _split_components(episode_record.metrics).items():
            if name not in buffers:
                shape = (self._num_worlds, num_episodes, values.shape[1])
                buffers[name] = np.empty(shape, values.dtype)
            buffers[name][first_world : first_world + len(values), episode] = values
        for name, tensor in episode_record.latent.items():
            values = tensor.numpy()
            if name not in self.latent:
                self.latent[name] = np.empty((self._sample_worlds, *values.shape[1:]), values.dtype)
            self.latent[name][first_world : first_world + len(values)] = values

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
    ) -> dict[str, Any]:
        """The metrics recorded so far.

        Args:
            num_worlds: number of worlds that have started.
            unfinished_stage: index of a stage in which all worlds have at most `num_episodes`.
            num_episodes: see above.
        """
        stages = []
        for index, buffers in enumerate(self._buffers):
            episodes = num_episodes if index == unfinished_stage else None
            recorded = {name: values[:num_worlds, :episodes] for name, values in buffers.items()}
            stages.append({name: torch.from_numpy(values) for name, values in recorded.items()})
        latent = {name: torch.from_numpy(values) for name, values in self.latent.items()}
        return {"stages": stages, "latent": latent}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore metrics recorded before."""
        self.latent = {name: tensor.numpy() for name, tensor in state_dict["latent"].items()}
        for index, recorded in enumerate(state_dict["stages"]):
            episodes = self._built_cell.stages[index].stage.episodes
            for name, tensor in recorded.items():
                shape = (self._num_worlds, episodes, tensor.shape[2])
                buffer = np.empty(shape, tensor.numpy().dtype)
                buffer[: tensor.shape[0], : tensor.shape[1]] = tensor.numpy()
                self._buffers[index][name] = buffer


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

"""Records the metrics of a cell: one labelled dataset a stage, filled by chunks and episodes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mores.core.component_names import NamedDimensions, component_names
from mores.core.environment import Environment
from mores.core.errors import UserError
from mores.core.random_streams import Worlds
from mores.experiments.results.cell_result import AnalyticValue, StageResult
from mores.experiments.results.trajectory import GROUPS, Trajectory
from mores.experiments.scenario.cell import BuiltCell
from mores.experiments.scenario.recorded_rounds import recorded_rounds
from mores.experiments.scenario.specification import Scenario
from mores.sim.metric_tracker import ResolvedMetrics, names_of_policy_metrics, resolve_metrics
from mores.sim.round_recorder import RoundRecorder, StateRecording
from mores.sim.simulator import Simulator

RESERVED = ("values", GROUPS, "replicate", "world", "round")  # names in a trajectory
BOUND_TOLERANCE = 1e-5  # rounding of a mean in float32


class MetricsRecorder:
    """Metrics of all stages, recorded chunk after chunk of worlds.

    Args:
        built_cell: the cell and its objects.
        scenario: its scenario.
        worlds: all worlds of the cell.
    """

    def __init__(self, built_cell: BuiltCell, scenario: Scenario, worlds: Worlds) -> None:
        self._scenario, self._built_cell, self._worlds = scenario, built_cell, worlds
        purpose = built_cell.cell.purpose
        self._recorders = {
            index: RoundRecorder(
                recorded_rounds(scenario, staged.stage, purpose),
                len(worlds),
                staged.stage.episodes,
            )
            for index, staged in enumerate(built_cell.stages)
            if staged.stage.loop != "fit_offline"
        }
        self._metrics: dict[int, ResolvedMetrics] = {}  # by stage
        self._bounds: dict[int, dict[str, tuple[float, float]]] = {}
        self._component_names: dict[int, dict[str, tuple[str, ...]]] = {}
        self._last_stage = max(self._recorders)
        num_sampled = min(scenario.trajectory.worlds, len(worlds)) if purpose == "arm" else 0
        last = built_cell.stages[self._last_stage].rounds
        rounds = scenario.trajectory.recorded_rounds(last) if num_sampled else ()
        self._latent = RoundRecorder(rounds, num_sampled)
        self._people = RoundRecorder(rounds, num_sampled)  # groups and traits
        self._group_names: tuple[str, ...] = ()

    @property
    def trajectory(self) -> Trajectory:
        """Sampled people and latent quantities of the last episode."""
        if not self._latent.tensors:  # an environment without any
            return Trajectory()
        latent, people = (
            {name: values[:, 0].numpy() for name, values in recorder.tensors.items()}
            for recorder in (self._latent, self._people)
        )
        environment = self._built_cell.stages[self._last_stage].environment
        return Trajectory(
            self._latent.rounds,
            latent,
            people,
            {"values": ("person", "value"), **environment.dimension_names},
            self._group_names,
            self._built_cell.stages[self._last_stage].stage.episodes - 1,
        )

    def episode_options(
        self, stage_index: int, first_world: int, episode: int, simulator: Simulator
    ) -> dict[str, Any]:
        """Arguments of `simulate_episode` that record metrics, and in the last episode people.

        Args:
            stage_index: index of the stage.
            first_world: index in the cell of the simulator's first world.
            episode: index of the episode in the stage.
            simulator: at the start of that episode.
        """
        environment, state = simulator.environment, simulator.state
        recorder = self._recorders[stage_index]
        if stage_index not in self._metrics:
            policies, num_worlds = simulator.policies, len(simulator.worlds)
            of_policies = {name: name for name in names_of_policy_metrics(policies)}
            specs = {**self._scenario.metric_specs, **of_policies}
            metrics = resolve_metrics(environment, state, num_worlds, specs, policies)
            self._metrics[stage_index] = metrics
            self._bounds[stage_index] = metrics.bounds(environment)
            people, population = environment.people(state), self._built_cell.population
            names = NamedDimensions.of(environment, population, people)
            self._component_names[stage_index] = component_names(environment, metrics, names)
        options: dict[str, Any] = {
            "metrics": self._metrics[stage_index],
            "recorder": recorder.at(first_world, episode),
        }
        num_sampled = (self._latent.num_worlds or 0) - first_world
        is_last = stage_index == self._last_stage and episode == recorder.num_episodes - 1
        if is_last and num_sampled > 0:
            people = environment.people(state)
            self._group_names = () if people is None else people.group_names
            options["recordings"] = [
                StateRecording(
                    each.at(first_world, 0), functools.partial(of, environment, num_sampled)
                )
                for each, of in ((self._latent, _latent_of), (self._people, _people_of))
            ]
        return options

    def stage_results(self) -> tuple[StageResult, ...]:
        """Recorded metrics of every stage with simulated episodes."""
        results = []
        for index, recorder in self._recorders.items():
            metrics = recorder.dataset(self._worlds, self._component_names[index])
            for name, bounds in self._bounds[index].items():
                metrics[name].attrs["bounds"] = _checked_bounds(name, metrics[name].values, bounds)
            name = self._built_cell.stages[index].stage.name
            results.append(StageResult(name, metrics, {}))
        return self._with_analytic_values(results)

    def _with_analytic_values(self, results: list[StageResult]) -> tuple[StageResult, ...]:
        """The results with analytic values; those of draws only if a claim over draws has one."""
        cell, claims = self._built_cell.cell, self._scenario.claims
        if not cell.draws:
            values = _analytic_values(self._built_cell)
            return tuple(dataclasses.replace(r, analytic_values=values[r.name]) for r in results)
        if not any(claim.interval == "parameters" and claim.analytic for claim in claims):
            return tuple(results)
        by_draw = {draw.index: _analytic_values(draw.build()) for draw in cell.draws}
        return tuple(
            dataclasses.replace(
                result,
                analytic_values_of_draws={n: values[result.name] for n, values in by_draw.items()},
            )
            for result in results
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
        stages: dict[str, dict[str, Tensor]] = {}
        for index, recorder in self._recorders.items():
            episodes = num_episodes if index == unfinished_stage else None
            recorded = recorder.tensors.items()
            stages[str(index)] = {name: each[:num_worlds, :episodes] for name, each in recorded}
        bounds = {
            str(index): {name: list(pair) for name, pair in by_name.items()}
            for index, by_name in self._bounds.items()
        }
        names = {
            str(index): {name: list(each) for name, each in by_name.items()}
            for index, by_name in self._component_names.items()
        }
        return {
            "stages": stages,
            "latent": self._latent.tensors,
            "people": self._people.tensors,
            "group_names": list(self._group_names),
            "bounds": bounds,
            "component_names": names,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore metrics recorded before."""
        self._latent.tensors.update(state_dict["latent"])
        self._people.tensors.update(state_dict["people"])
        self._group_names = tuple(state_dict["group_names"])
        for index, by_name in state_dict["bounds"].items():
            self._bounds[int(index)] = {name: (low, high) for name, (low, high) in by_name.items()}
        for index, names in state_dict["component_names"].items():
            self._component_names[int(index)] = {n: tuple(each) for n, each in names.items()}
        for index, recorded in state_dict["stages"].items():
            recorder = self._recorders[int(index)]
            for name, tensor in recorded.items():
                shape = (len(self._worlds), recorder.num_episodes, *tensor.shape[2:])
                whole = torch.empty(shape, dtype=tensor.dtype)
                whole[: tensor.shape[0], : tensor.shape[1]] = tensor
                recorder.tensors[name] = whole


def _analytic_values(built_cell: BuiltCell) -> dict[str, dict[str, AnalyticValue]]:
    """Analytic values of each stage, by its name."""
    return {
        staged.stage.name: dict(staged.environment.analytic_values(staged.policies, staged.rounds))
        for staged in built_cell.stages
    }


def _checked_bounds(
    name: str, values: np.ndarray, bounds: tuple[float, float]
) -> tuple[float, float]:
    """The declared bounds of a metric, if its values lie within them."""
    low, high = bounds
    # NaN is neither above nor below.
    outside = (values < low - BOUND_TOLERANCE) | (values > high + BOUND_TOLERANCE)
    if outside.any():
        message = f"{name}: {values[outside][0]:g} is outside its declared bounds, {low} to {high}"
        raise UserError(message, code="out_of_range", path=f"metrics.{name}")
    return bounds


def _latent_of(environment: Environment[Any], num_worlds: int, state: Any) -> dict[str, Tensor]:
    """Latent quantities of the first worlds, and the values of people."""
    people, latent = environment.people(state), dict(environment.latent(state))
    if people is not None:
        latent.setdefault("values", people.values)
    return {name: tensor[:num_worlds] for name, tensor in latent.items()}


def _people_of(environment: Environment[Any], num_worlds: int, state: Any) -> dict[str, Tensor]:
    """Groups and traits of people of the first worlds, but for those that are latent quantities."""
    people, latent = environment.people(state), environment.latent(state)
    if people is None:
        return {}
    found = {n: trait for n, trait in people.traits.items() if n not in (*latent, *RESERVED)}
    if people.groups is not None:
        found[GROUPS] = people.groups
    return {name: tensor[:num_worlds] for name, tensor in found.items()}

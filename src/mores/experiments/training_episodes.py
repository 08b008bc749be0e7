"""Episodes of a training or an evaluation, with what is recorded of them."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Shaped

from mores.core.check_metrics import checked_metrics
from mores.core.component_names import NamedDimensions, component_names
from mores.core.metric_inputs import RETURN
from mores.sim.agent_recorder import AgentRecorder
from mores.sim.learning_recorder import LearningRecorder
from mores.sim.metric_tracker import MetricSpecs, ResolvedMetrics, resolve_metrics, specs_by_name
from mores.sim.round_recorder import RoundRecorder
from mores.sim.simulation import simulate_episode
from mores.sim.simulator import Simulator

if TYPE_CHECKING:
    import xarray


@dataclasses.dataclass(frozen=True)
class EpisodeInfo:
    """An episode of a training that has ended.

    Attributes:
        metrics: metrics at its end, by name.
        learning: what the learners report about their updates in it, by `ROLE.NAME`.
        policy_states: policy states by role, to be read only: the training goes on with them.
    """

    metrics: Mapping[str, Shaped[np.ndarray, "world *component"]]
    learning: Mapping[str, Float[np.ndarray, "replicate model"]]
    policy_states: Mapping[str, Any]


EpisodeCallback = Callable[[int, EpisodeInfo], object]


@dataclasses.dataclass(frozen=True)
class Curves:
    """What is known of the episodes of a training: see `TrainingResult`."""

    curves: xarray.Dataset
    learning: xarray.Dataset


def select_metrics(simulator: Simulator, requested: MetricSpecs) -> ResolvedMetrics:
    """The metrics to record; by default all of the environment, and the return of every role."""
    environment, state, num_worlds = simulator.environment, simulator.state, len(simulator.worlds)
    specs = specs_by_name(requested)
    if not specs:
        own = checked_metrics(environment, state, num_worlds)
        returns = (f"{RETURN}{role.name}" for role in environment.roles)
        specs = {name: name for name in (*own, *returns)}
    return resolve_metrics(environment, state, num_worlds, specs, simulator.policies)


def run_episodes(
    simulator: Simulator,
    episodes: int,
    metrics: ResolvedMetrics,
    agent_recorder: AgentRecorder | None = None,
    before: Curves | None = None,
    callback: EpisodeCallback | None = None,
) -> Curves:
    """Simulate episodes with a simulator at the start of the first one.

    Args:
        simulator: the simulator.
        episodes: number of episodes.
        metrics: metrics to record at the end of each.
        agent_recorder: the recorder of the simulator; it gets the index of each episode.
        before: earlier episodes, with the same metrics, that the results begin with.
        callback: called after each episode with its index and an `EpisodeInfo`.
    """
    first = 0 if before is None else before.curves.sizes["episode"]
    recorder = RoundRecorder((simulator.rounds,), num_episodes=first + episodes)
    learning_recorder = LearningRecorder(simulator.worlds, first + episodes)
    if before is not None:
        _prefill(recorder, learning_recorder, before)
    for index in range(episodes):
        if index:
            simulator.next_episode()
        if agent_recorder is not None:
            agent_recorder.start_episode(index)
        episode = first + index
        simulate_episode(simulator, metrics, recorder.at(0, episode))
        learning = learning_recorder.record(episode, simulator)
        if callback is not None:
            # copies: what a callback does with them does not change the results
            recorded = recorder.tensors.items()
            values = {name: each[:, episode, 0].numpy().copy() for name, each in recorded}
            states = types.MappingProxyType(simulator.policy_states)
            by_name = {name: each.numpy().copy() for name, each in learning.items()}
            callback(index, EpisodeInfo(values, by_name, states))
    environment = simulator.environment
    people = environment.people(simulator.state)
    named = NamedDimensions.of(environment, simulator.population, people)
    names = component_names(environment, metrics, named)
    curves = recorder.dataset(simulator.worlds, names).isel(round=0, drop=True)
    return Curves(curves, learning_recorder.dataset())


def _prefill(recorder: RoundRecorder, learning_recorder: LearningRecorder, before: Curves) -> None:
    """Write earlier episodes into recorders that have room for them and for later ones."""
    for name, variable in before.curves.data_vars.items():
        old = torch.from_numpy(variable.values)[:, :, None]  # [world, episode, round, ...]
        shape = (old.shape[0], recorder.num_episodes, *old.shape[2:])
        recorder.tensors[str(name)] = torch.empty(shape, dtype=old.dtype)
        recorder.tensors[str(name)][:, : old.shape[1]] = old
    for name, variable in before.learning.data_vars.items():
        old = torch.from_numpy(variable.values).transpose(0, 1)  # [episode, replicate, ...]
        old = old.unflatten(1, (old.shape[1], 1)) if old.dim() == 2 else old
        new = torch.full((learning_recorder.num_episodes, *old.shape[1:]), torch.nan)
        new[: len(old)] = old
        learning_recorder.tensors[str(name)] = new

"""Simulate an environment from start to end and record its metrics."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mores.core.arguments import check_callable, check_integer, check_names
from mores.core.component_names import NamedDimensions, component_names
from mores.core.environment import Environment
from mores.core.errors import UserError, describe_exception, did_you_mean
from mores.core.people import Population
from mores.core.policy import Policy
from mores.core.random_streams import Worlds
from mores.registry.specs import Spec, policies_from_specs
from mores.sim.agent_recorder import AgentRecorder
from mores.sim.check_policies import check_instance
from mores.sim.learning_recorder import LearningRecorder
from mores.sim.metric_tracker import MetricSpecs, MetricTracker, ResolvedMetrics, resolve_metrics
from mores.sim.round_recorder import RoundRecorder, StateRecording
from mores.sim.simulator import Simulator

if TYPE_CHECKING:
    import xarray


@dataclasses.dataclass(frozen=True)
class SimulationResult:
    """Result of a simulation.

    Attributes:
        state: final state.
        policy_states: final state of each policy, by role.
        metrics: an xarray Dataset over world and round, as in runs and trainings; `round` counts
            completed rounds, 0 is the start. See `mores.sim.round_recorder.metric_dataset`.
        latent: the requested latent quantities, likewise.
        records: the requested actions, rewards and observations: `AgentRecorder.agent_dataset`.
        learning: what learners report about their updates, over replicate: `LearningRecorder`.
    """

    state: Any
    policy_states: Mapping[str, Any]
    metrics: xarray.Dataset
    latent: xarray.Dataset
    records: xarray.Dataset
    learning: xarray.Dataset

    def __repr__(self) -> str:
        """What was recorded, without the tensors of the states."""
        sizes, names = self.metrics.sizes, ", ".join(map(str, self.metrics.data_vars))
        size = f"{sizes['world']} worlds, {sizes['round']} recorded rounds"
        return f"<SimulationResult: {size}; metrics: {names or 'none'}>"


def simulate(
    environment: Environment[Any],
    policies: Mapping[str, Policy | Spec] | None = None,
    worlds: int | Sequence[int] | Worlds = 1,
    rounds: int = 100,
    seed: int = 0,
    metrics: MetricSpecs = (),
    *,
    metric_rounds: Sequence[int] | None = None,
    population: Population | None = None,
    latent: Collection[str] = (),
    latent_rounds: Sequence[int] | None = None,
    record: Collection[str] = (),
    record_worlds: int | None = None,
    stage: int = 0,
    device: torch.device | str = "cpu",
    callback: Callable[[int], None] | None = None,
) -> SimulationResult:
    """Simulate one episode of `rounds` rounds in every world. A world that ends earlier is frozen.

    Args:
        environment: the environment.
        policies: by role, or their kinds; missing roles get the environment's default policy.
        worlds: number of worlds, or the replicates to simulate, or a `Worlds`.
        rounds: number of rounds.
        seed: seed of all random streams.
        metrics: metrics to record: names of the environment's, registered ones, `return_ROLE`;
            or specifications by name, as in `{"groups": {"kind": "hill_number", "order": 2}}`.
        metric_rounds: rounds at which to record them; default: all, 0 to `rounds`.
        population: source of the people; `None`: the environment's parameters.
        latent: names of latent quantities to record.
        latent_rounds: rounds at which to record them; default: all, 0 to `rounds`.
        record: what to record of every agent in every round: `actions`, `action_masks`, `rewards`,
            `observations`.
        record_worlds: number of worlds, from the first on, of which `latent` and `record` are
            recorded; default: all.
        stage: number of the stage, part of the address of random streams.
        device: device of the tensors.
        callback: called after every round with the number of completed rounds. An exception in it
            stops the simulation.

    Raises:
        UserError: a wrong or unknown argument; a name in place of an object; the callback fails.
    """
    check_instance("environment", environment, Environment)
    check_callable("callback", callback)
    if population is not None:
        check_instance("population", population, Population)
        environment = environment.with_population(population)
    given = policies_from_specs({} if policies is None else policies)
    worlds, rounds = Worlds.of(worlds), check_integer("rounds", rounds)
    agent_recorder = AgentRecorder(environment, record, worlds, record_worlds, rounds)
    simulator = Simulator(
        environment,
        {**environment.default_policies(), **given},
        worlds=worlds,
        rounds=rounds,
        population=population,
        stage=stage,
        device=device,
        recorder=agent_recorder if record else None,
    )
    simulator.reset(seed)
    num_worlds, last = len(simulator.worlds), simulator.rounds
    if record_worlds is not None:
        num_worlds = min(check_integer("record_worlds", record_worlds), num_worlds)
    recorder = RoundRecorder(_check_rounds("metric_rounds", metric_rounds, last))
    latent_recorder = RoundRecorder(_check_rounds("latent_rounds", latent_rounds, last))
    latent_names = check_names("latent", latent)

    def quantities(state: Any) -> dict[str, Tensor]:
        known = environment.latent(state)
        return {name: _lookup("latent", known, name)[:num_worlds] for name in latent_names}

    recordings = [StateRecording(latent_recorder, quantities)] if latent_names else []
    names = NamedDimensions.of(environment, population, environment.people(simulator.state))
    resolved = ResolvedMetrics()
    if metrics:
        state, size = simulator.state, len(simulator.worlds)
        resolved = resolve_metrics(environment, state, size, metrics, simulator.policies)
    on_round = None if callback is None else guarded_callback(callback, "round")
    simulate_episode(simulator, resolved, recorder, recordings, on_round)
    learning_recorder = LearningRecorder(simulator.worlds)
    learning_recorder.record(0, simulator)
    first = simulator.worlds.take(slice(num_worlds))
    return SimulationResult(
        simulator.state,
        simulator.policy_states,
        recorder.dataset(simulator.worlds, component_names(environment, resolved, names)).isel(
            episode=0, drop=True
        ),
        _with_dimensions(
            latent_recorder.dataset(first).isel(episode=0, drop=True), environment, names
        ),
        agent_recorder.agent_dataset().isel(episode=0, drop=True),
        learning_recorder.dataset().isel(episode=0, drop=True),
    )


def _with_dimensions(
    data: xarray.Dataset, environment: Environment[Any], names: NamedDimensions
) -> xarray.Dataset:
    """Latent quantities with the names of dimensions that the environment gives."""
    for name, inner in environment.dimension_names.items():
        if name not in data.data_vars:
            continue
        quantity = data[name]
        dims, sizes = quantity.dims[2:], quantity.shape[2:]
        known = [data.sizes.get(each, size) for each, size in zip(inner, sizes, strict=False)]
        if len(inner) == len(dims) and known == list(sizes):
            data = data.assign({name: quantity.rename(dict(zip(dims, inner, strict=True)))})
    if names.value and data.sizes.get("value") == len(names.value):
        data = data.assign_coords(value=list(names.value))
    return data


def guarded_callback(callback: Callable[..., object], unit: str) -> Callable[..., None]:
    """A user's callback whose exceptions name it.

    Args:
        callback: called with a number of completed rounds or episodes, and possibly more.
        unit: `round` or `episode`.

    Raises:
        UserError: when called, if the callback raises another exception.
    """

    def call(completed: int, *more: Any) -> None:
        try:
            callback(completed, *more)
        except (UserError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            message = f"callback: fails after {unit} {completed}: {describe_exception(error)}"
            raise UserError(message, code="failed", path="callback") from error

    return call


def simulate_episode(
    simulator: Simulator,
    metrics: MetricSpecs,
    recorder: RoundRecorder,
    recordings: Sequence[StateRecording] = (),
    callback: Callable[[int], None] | None = None,
) -> None:
    """Simulate one episode with a simulator at its start and without external agents.

    Args:
        simulator: the simulator.
        metrics: see `simulate`.
        recorder: records the metrics.
        recordings: other quantities to record.
        callback: see `simulate`.
    """
    tracker = MetricTracker(simulator, metrics) if metrics else None
    for completed in range(simulator.rounds + 1):
        if completed:
            if not simulator.all_finished:
                (simulator if tracker is None else tracker).step()
            if callback is not None:
                callback(completed)
        if tracker is not None and recorder.includes(completed):
            recorder.write(completed, tracker.values())
        for recording in recordings:
            if recording.recorder.includes(completed):
                recording.recorder.write(completed, recording.quantities(simulator.state))
    if tracker is not None:
        tracker.close()


def _check_rounds(argument: str, rounds: Sequence[int] | None, last: int) -> tuple[int, ...]:
    """Numbers of rounds in order; `None`: all."""
    if rounds is None:
        return tuple(range(last + 1))
    try:
        numbers = tuple(sorted({operator.index(number) for number in rounds}))
    except TypeError:
        message = f"{argument}: must be whole numbers, not {list(rounds)}"
        raise UserError(message, code="wrong_type", path=argument) from None
    if numbers and not 0 <= numbers[0] <= numbers[-1] <= last:
        message = f"{argument}: must be between 0 and {last}, not {numbers}"
        raise UserError(message, code="out_of_range", path=argument)
    return numbers


def _lookup(argument: str, quantities: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in quantities:
        message = f"{argument}: the environment has no {name!r}{did_you_mean(name, quantities)}"
        raise UserError(message, code="unknown_name", path=argument)
    return quantities[name]

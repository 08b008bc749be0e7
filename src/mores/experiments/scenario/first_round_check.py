"""The first rounds of a scenario's cells, checked before the run.

Every cell is simulated once, for the checks of `mores.sim.first_rounds` and the names and sizes of
its metrics. Of stages and cells that differ only in numbers, the first is compared with a world
simulated alone.
"""

from __future__ import annotations

import contextlib
import json
import traceback
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mores.core import stream_addresses as addresses
from mores.core.check_metrics import checked_metrics
from mores.core.config import Config
from mores.core.environment import with_text
from mores.core.errors import UserError, describe_exception, is_out_of_memory
from mores.core.random_streams import RandomStreams
from mores.experiments.scenario.cell import BuiltCell, BuiltStage, Cell
from mores.experiments.scenario.source_locations import KeyPath, Problem, printable
from mores.registry import REGISTRIES
from mores.sim.first_rounds import check_first_rounds

MAX_OBSERVATION_VALUES = 2**31  # of all agents of one world: 8 GiB
MAX_COMPARED_VALUES = 2**24  # the same; a larger world is not simulated alone as well


class FirstRoundCheck:
    """Simulates the first rounds of the cells of a scenario with a seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._compared: set[str] = set()

    def check(
        self, built: BuiltCell, stage_index: int, problems: list[Problem]
    ) -> Mapping[str, Tensor] | None:
        """The initial metrics of a stage of a cell; `None` if there are none.

        Problems are appended to `problems`. If there are any, policies are not simulated.
        """
        stage, cell = built.stages[stage_index], built.cell
        environment, population = stage.environment, built.population
        size = sum(role.num_agents * role.observation_space.size for role in environment.roles)
        if size > MAX_OBSERVATION_VALUES:
            message = f"is too large: the observations of one world have {size:,} numbers"
            problems.append(cell.source_map.problem(message, "env", code="too_large"))
            return None
        spec = [stage.spec.env, stage.spec.policies, cell.population]
        key = json.dumps(_without_numbers(spec, (int, float)), sort_keys=True)
        compare = key not in self._compared and size <= MAX_COMPARED_VALUES
        self._compared.add(key)
        errors: list[Exception] = []
        try:
            if not problems:
                return check_first_rounds(
                    environment, stage.policies_to_check(), population, self._seed, compare
                )
        except Exception as error:
            errors.append(error)
        errors = [*_policy_errors(stage, self._seed), *errors]
        metrics = None
        try:
            metrics = self.initial_metrics(stage, built)
        except Exception as error:
            errors = errors or [error]
        problems += [_problem(built, stage, error) for error in errors]
        return metrics

    def check_start(self, built: BuiltCell, stage_index: int, problems: list[Problem]) -> None:
        """Append the problem of a stage's initial state, if there is one, to `problems`."""
        stage = built.stages[stage_index]
        try:
            self.initial_metrics(stage, built)
        except Exception as error:
            problems.append(_problem(built, stage, error))

    def initial_metrics(self, built_stage: BuiltStage, built: BuiltCell) -> Mapping[str, Tensor]:
        """The metrics of one world, without policies."""
        streams = RandomStreams.of(self._seed, [0]).child(addresses.EPISODE_START)
        people = built.population and built.population.sample_people(
            streams.child(addresses.POPULATION)
        )
        environment = built_stage.environment
        state = environment.reset(streams.child(addresses.ENVIRONMENT), people)
        return checked_metrics(environment, state, streams.num_worlds)


def structure_key(cell: Cell) -> str:
    """Key of a cell; cells that differ only in fractions have the same."""
    stages = [(stage.env, stage.policies) for stage in cell.stages]
    fields = [cell.env, cell.population, cell.policies, cell.rounds, stages]
    return json.dumps(_without_numbers(fields, (float,)), sort_keys=True)


def _without_numbers(part: Any, types: tuple[type, ...]) -> Any:
    """Nested data without entries that are numbers of these types."""
    if isinstance(part, Mapping):
        items = part.items()
        return {n: _without_numbers(value, types) for n, value in items if type(value) not in types}
    if isinstance(part, (list, tuple)):
        return [_without_numbers(value, types) for value in part]
    return None if type(part) in types else part


def _policy_errors(built_stage: BuiltStage, seed: int) -> list[Exception]:
    """Errors of all policies that refuse their role; a simulation ends at the first one."""
    errors: list[Exception] = []
    environment = built_stage.environment
    streams = RandomStreams.of(seed, [0]).child(addresses.EPISODE_START)
    for role in environment.roles:
        with contextlib.suppress(Exception):  # the simulation has raised it too
            try:
                policy = built_stage.policies[role.name].check_version()
                policy.initial_state(
                    with_text(environment, role), environment.phases, streams.child(role.name)
                )
            except UserError as error:
                errors.append(error)
    return errors


def _problem(built: BuiltCell, stage: BuiltStage, error: Exception) -> Problem:
    """The problem of an error, at the component that raised it."""
    source_map = built.cell.source_map
    if is_out_of_memory(error):
        message = "is too large: two worlds do not fit into memory"
        return source_map.problem(message, "env", code="too_large")
    message, code = f"fails in its first rounds: {describe_exception(error)}", "failed"
    if isinstance(error, UserError):
        message, code = str(error), error.code
    path, message = _component_path(built, stage, error), printable(message, 300)
    if path[0] == "policies":
        return stage.spec.source_map.component_problem(message, *path, code=code)
    message = f"{stage.spec.env['kind']}: {message}" if path == ("env",) else message
    return source_map.problem(message, *path, code=code)


def _component_path(built: BuiltCell, stage: BuiltStage, error: Exception) -> KeyPath:
    """Path of the component in which an error was raised, else the one in the error's path."""
    paths: dict[int, KeyPath] = {
        id(policy): ("policies", role) for role, policy in stage.policies.items()
    }
    paths |= _config_paths(stage.environment, ("env",), ("env",))
    paths[id(built.population)] = ("population",)
    found: KeyPath = ("env",)
    if isinstance(error, UserError):
        parts = error.path.split(".")
        if parts[0] == "policies" and parts[-1] in stage.policies:
            found = ("policies", parts[-1])
        elif parts[0] == "population":
            found = ("population",)
        elif parts[0] in type(stage.environment).model_fields:
            return ("env", *parts)
    for frame, _ in traceback.walk_tb(error.__traceback__):  # ends with the innermost
        instance = frame.f_locals.get("self")
        found = found if instance is None else paths.get(id(instance), found)
    return found


def _config_paths(config: Config, path: KeyPath, component: KeyPath) -> dict[int, KeyPath]:
    """Path of the registered component to which each nested object belongs, by identity."""
    paths = {id(config): component}
    for name in type(config).model_fields:
        part, inner = getattr(config, name), (*path, name)
        if isinstance(part, Config):
            registered = any(each.kind_of(type(part)) for each in REGISTRIES.values())
            paths |= _config_paths(part, inner, inner if registered else component)
    return paths

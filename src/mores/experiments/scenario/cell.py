"""Cells: one arm at one point of the sweep, and the construction of its objects.

A cell may hold several draws of uncertain parameters, which are simulated in one batch: its worlds
are those of its draws, and a parameter that differs between them has a number for each draw.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from pydantic import ValidationError

from mores.core.component_names import NamedDimensions
from mores.core.environment import Environment
from mores.core.errors import UserError
from mores.core.learner import parameter_keys
from mores.core.people import Population
from mores.core.policy import Policy
from mores.core.random_streams import Worlds
from mores.experiments.scenario.overrides import StageSpec, apply_stage_overrides
from mores.experiments.scenario.source_locations import (
    KeyPath,
    Problem,
    ScenarioError,
    SourceMap,
    printable,
    problems_into,
)
from mores.experiments.scenario.specification import Scenario
from mores.experiments.scenario.stages import Stage
from mores.experiments.scenario.validation_problems import problems_from_error
from mores.registry import build, class_of
from mores.registry.specs import policies_from_specs
from mores.registry.varying import accept_draws
from mores.sim.policy_states import continuing_policies

CellPurpose = Literal["arm", "draw", "design"]
MAX_ID_LENGTH = 80  # characters of a folder name


class BuiltStage(NamedTuple):
    """A stage of a cell, with its specification, its environment and the policy of every role."""

    stage: Stage
    rounds: int
    environment: Environment[Any]
    policies: dict[str, Policy]
    spec: StageSpec

    def policies_to_check(self) -> dict[str, Policy]:
        """The policies as checks before a run simulate them: `Policy.check_version`."""
        return {role: policy.check_version() for role, policy in self.policies.items()}


@dataclasses.dataclass(frozen=True)
class BuiltCell:
    """A cell and its objects: its environment, its stages in order, and its population."""

    cell: Cell
    shared_environment: Environment[Any]  # of the stages that do not change it
    stages: tuple[BuiltStage, ...]
    population: Population | None

    @property
    def environment(self) -> Environment[Any]:
        """The environment of the last stage."""
        return self.stages[-1].environment

    @property
    def policies(self) -> dict[str, Policy]:
        """The policies of the last stage, by role."""
        return self.stages[-1].policies

    @property
    def value_names(self) -> tuple[str, ...]:
        """Names of people's values, from the population, else from the environment."""
        return NamedDimensions.of(self.environment, self.population).value

    @property
    def remarks(self) -> list[str]:
        """Notes of the population and of the environments on their data, without repetitions."""
        of_population = () if self.population is None else self.population.remarks
        notes = (note for stage in self.stages for note in stage.environment.remarks)
        return list(dict.fromkeys([*of_population, *notes]))

    def dataset_stage_indices(self, stage_index: int) -> list[int]:
        """Indices of the stages whose recorded episodes a `fit_offline` stage trains on."""
        return _dataset_stage_indices(self.stages[:stage_index], self.stages[stage_index].stage)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One arm at one point of the sweep.

    Attributes:
        id: name of its folder.
        arm: name of the arm; `main` in a scenario without arms.
        point: values by dotted path, of the sweep or of sampled uncertain parameters; in a cell of
            several draws those that all have.
        env: `kind` and parameters of the environment.
        population: `kind` and parameters; `None`: the people of the environment.
        policies: `kind` and parameters by role; other roles get the default policy.
        stages: the stages, in order.
        rounds: rounds per episode, for stages that do not set their own.
        purpose: arm: the arm as written; draw: at a sample of the uncertain parameters;
            design: at a point of a sensitivity analysis.
        index: number of the draw: index of the sample or point.
        draws: a cell for each draw that is simulated in the batch of this one; empty: it is
            simulated alone.
    """

    id: str
    arm: str
    point: Mapping[str, Any]
    env: Mapping[str, Any]
    population: Mapping[str, Any] | None
    policies: Mapping[str, Mapping[str, Any]]
    stages: tuple[Stage, ...]
    rounds: int
    source_map: SourceMap = dataclasses.field(repr=False, compare=False)
    purpose: CellPurpose = "arm"
    index: int = 0
    draws: tuple[Cell, ...] = ()

    @property
    def separate_draws(self) -> tuple[Cell, ...]:
        """A cell for each draw: the cell itself if it has only one."""
        return self.draws or (self,)

    @property
    def roles_by_stage(self) -> list[tuple[str, list[str]]]:
        """Name of each stage, and its roles that train."""
        return [(stage.name, stage.roles_to_train) for stage in self.stages]

    def build(self, components: Components | None = None) -> BuiltCell:
        """Construct the environment and policies of every stage, and the population.

        Stages share an object unless one of them changes it.

        Args:
            components: objects that were constructed before for this cell.

        Raises:
            ScenarioError: unknown names or invalid values.
        """
        components = Components(bool(self.draws)) if components is None else components
        problems: list[Problem] = []

        def make(name: str, spec: Mapping[str, Any], source_map: SourceMap, *path: str) -> Any:
            with problems_into(problems):
                return components.make(name, spec, path, source_map)

        population = None
        if self.population is not None:
            population = make("population", self.population, self.source_map, "population")
        shared_env = make("environment", self.env, self.source_map, "env")
        stages: list[BuiltStage] = []
        defaults: dict[int, dict[str, Policy]] = {}  # default policies by environment
        trained_defaults: dict[str, Policy] = {}  # default policies that trained so far, by role
        for index, stage in enumerate(self.stages):
            with problems_into(problems):
                spec = self.stage_spec(index)
                env = make("environment", spec.env, spec.source_map, "env")
                if stage.loop == "fit_offline" and not stage.env:  # the last that has the roles
                    for earlier in _dataset_stage_indices(stages, stage):
                        dataset_env = stages[earlier].environment
                        if set(stage.roles_to_train) <= {role.name for role in dataset_env.roles}:
                            env = dataset_env
                chosen = {
                    role: make("policy", parameters, spec.source_map, "policies", role)
                    for role, parameters in spec.policies.items()
                }
                if env is None:
                    continue
                if id(env) not in defaults:
                    defaults[id(env)] = policies_from_specs(env.default_policies())
                roles = {role.name for role in env.roles}
                chosen = {role: policy for role, policy in chosen.items() if role in roles}
                policies = continuing_policies(env, defaults[id(env)], trained_defaults) | chosen
                rounds = self.rounds if stage.rounds is None else stage.rounds
                stages.append(BuiltStage(stage, rounds, env, policies, spec))
                for role in (policies.keys() - chosen.keys()) & set(stage.roles_to_train):
                    if parameter_keys(policies[role]):
                        trained_defaults[role] = policies[role]
        if self.population is not None and population is None:
            # The environment was made without what the population states, such as num_people.
            problems = [
                each
                for each in problems
                if each.path[:1] == ("population",) or each.code != "conflict"
            ]
        if problems:
            raise ScenarioError(problems)
        return BuiltCell(self, shared_env, tuple(stages), population)

    def own_replicates(self, scenario: Scenario, replicates: Sequence[int]) -> Sequence[int]:
        """Replicates of the cell: those of the run in an arm, else as `uncertainty` states.

        Draws have different replicates, hence independent random numbers, so that the interval over
        draws includes Monte Carlo error. The points of a sensitivity analysis have the same
        replicates, hence common random numbers: it measures the effect of parameters alone.
        """
        if self.purpose == "arm" or scenario.uncertainty is None:
            return replicates
        if self.draws:
            return sorted({n for draw in self.draws for n in draw.own_replicates(scenario, ())})
        number = scenario.uncertainty.replicates
        first = self.index * number if self.purpose == "draw" else 0
        return range(first, first + number)

    def worlds(self, scenario: Scenario, replicates: Sequence[int]) -> Worlds:
        """The worlds of the cell, draw by draw; `replicates`: those of the run."""
        grids = [
            Worlds.grid(draw.own_replicates(scenario, replicates), scenario.worlds)
            for draw in self.separate_draws
        ]
        numbers = torch.tensor([draw.index for draw in self.separate_draws])
        counts = torch.tensor([len(grid) for grid in grids])
        return Worlds(
            torch.cat([grid.replicate for grid in grids]),
            torch.cat([grid.world for grid in grids]),
            numbers.repeat_interleave(counts),
        )

    def stage_spec(self, stage_index: int) -> StageSpec:
        """Environment and policies of a stage, as `kind` and parameters.

        Raises:
            ScenarioError: the stage overrides a parameter that does not exist.
        """
        stage = self.stages[stage_index]
        return apply_stage_overrides(self.env, self.policies, self.source_map, stage, stage_index)


def _dataset_stage_indices(earlier_stages: Sequence[BuiltStage], fit_stage: Stage) -> list[int]:
    """Indices of the earlier stages whose recorded episodes `fit_stage` trains on."""
    return [
        index
        for index, (stage, *_) in enumerate(earlier_stages)
        if stage.loop != "fit_offline"
        and (not fit_stage.dataset_stages or stage.name in fit_stage.dataset_stages)
    ]


class Components:
    """Objects constructed so far for a cell: equal specifications at one path share an object.

    Args:
        several_draws: whether specifications may have a number for each draw (`per_draw`).
    """

    def __init__(self, several_draws: bool = False) -> None:
        self._made: dict[tuple[KeyPath, str], Any] = {}
        self._accept = accept_draws if several_draws else contextlib.nullcontext

    def make(
        self, registry: str, spec: Mapping[str, Any], path: KeyPath, source_map: SourceMap
    ) -> Any:
        """The object that a `kind` and its parameters specify.

        Parameters are checked as JSON, as strictly as a file: see `scenario.loading`.

        Raises:
            ScenarioError: an unknown kind or parameter, or an invalid value.
        """
        key = (path, json.dumps(spec, sort_keys=True))
        if key in self._made:
            return self._made[key]
        kind = spec["kind"]
        parameters = {name: value for name, value in spec.items() if name != "kind"}
        try:
            with self._accept():
                self._made[key] = build(registry, kind, parameters, strict=True)
        except ValidationError as error:
            unknown, model = f"{kind} has no such parameter", class_of(registry, kind)
            problems = problems_from_error(error, model, parameters, source_map, path, unknown)
            raise ScenarioError(problems) from None
        except UserError as error:
            place = (*path, "kind") if error.path == kind else path
            problem = source_map.problem(printable(error, 300), *place, code=error.code)
            raise ScenarioError([problem]) from error
        return self._made[key]


def cell_id(arm: str, point: Mapping[str, Any], digest: bool = False) -> str:
    """Folder name of a cell: readable, safe on all systems, with a digest if text was replaced."""
    texts = []
    for path, value in point.items():
        digest = digest or (isinstance(value, dict) and len(value) > 1)
        label = value.get("kind", value) if isinstance(value, dict) else value
        texts.append(f"{path}={label if isinstance(label, str) else json.dumps(label)}")
    name = f"{arm}__{','.join(texts)}" if point else arm
    safe = re.sub(r"[^A-Za-z0-9._=,+-]", "_", name)
    if safe == name and len(safe) <= MAX_ID_LENGTH and not digest:
        return safe
    suffix = hashlib.blake2b(json.dumps([arm, point]).encode(), digest_size=4).hexdigest()
    return f"{safe[: MAX_ID_LENGTH - 9]}-{suffix}"

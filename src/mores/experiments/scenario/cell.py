"""Cells: one arm at one point of the sweep, and the construction of its objects."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ValidationError

from mores.core.environment import Environment
from mores.core.errors import UserError, did_you_mean
from mores.core.learner import parameter_keys
from mores.core.people import Population
from mores.core.policy import Policy
from mores.experiments.scenario.overrides import Origin, StageSpec, apply_stage_overrides
from mores.experiments.scenario.source_locations import KeyPath, Problem, ScenarioError, printable
from mores.experiments.scenario.stages import Stage
from mores.experiments.scenario.validation_problems import problems_from_error
from mores.registry import build, class_of
from mores.registry.specs import policies_from_specs
from mores.sim.policy_states import continuing_policies

CellPurpose = Literal["arm", "draw", "design"]
MAX_ID_LENGTH = 80  # characters of a folder name


class BuiltStage(NamedTuple):
    """A stage of a cell, with its environment and the policy of every role."""

    stage: Stage
    rounds: int
    environment: Environment[Any]
    policies: dict[str, Policy]


@dataclasses.dataclass(frozen=True)
class BuiltCell:
    """The objects of a cell: its stages in order, and its population."""

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

    def dataset_stage_indices(self, stage_index: int) -> list[int]:
        """Indices of the stages whose recorded episodes a `fit_offline` stage trains on."""
        return _dataset_stage_indices(self.stages[:stage_index], self.stages[stage_index].stage)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One arm at one point of the sweep.

    Attributes:
        id: name of its folder.
        arm: name of the arm; `main` in a scenario without arms.
        point: values by dotted path, of the sweep or of sampled uncertain parameters.
        env: `kind` and parameters of the environment.
        population: `kind` and parameters; `None`: the people of the environment.
        policies: `kind` and parameters by role; other roles get the default policy.
        stages: the stages, in order.
        rounds: rounds per episode, for stages that do not set their own.
        purpose: arm: the arm as written; draw: at a sample of the uncertain parameters;
            design: at a point of a sensitivity analysis.
        index: index of the sample or point.
    """

    id: str
    arm: str
    point: Mapping[str, Any]
    env: Mapping[str, Any]
    population: Mapping[str, Any] | None
    policies: Mapping[str, Mapping[str, Any]]
    stages: tuple[Stage, ...]
    rounds: int
    origin: Origin = dataclasses.field(repr=False, compare=False)
    purpose: CellPurpose = "arm"
    index: int = 0

    def build(self) -> BuiltCell:
        """Construct the environment and policies of every stage, and the population.

        Stages share an object unless one of them changes it.

        Raises:
            ScenarioError: unknown names, invalid values, or roles that the environment lacks.
        """
        problems: list[Problem] = []

        def make(name: str, spec: Mapping[str, Any], origin: Origin, *path: str) -> Any:
            try:
                return make_component(name, spec, path, origin)
            except ScenarioError as error:
                problems.extend(error.problems)

        population = None
        if self.population is not None:
            population = make("population", self.population, self.origin, "population")
        shared_policies = {
            role: make("policy", spec, self.origin, "policies", role)
            for role, spec in self.policies.items()
        }
        shared_env = make("environment", self.env, self.origin, "env")
        shared_defaults = {} if shared_env is None else _default_policies(shared_env)
        stages: list[BuiltStage] = []
        trained_defaults: dict[str, Policy] = {}  # default policies that trained so far, by role
        for index, stage in enumerate(self.stages):
            try:
                spec = self.stage_spec(index)
            except ScenarioError as error:
                problems.extend(error.problems)
                continue
            env = shared_env
            if stage.env:
                env = make("environment", spec.env, spec.origin, "env")
            elif stage.loop == "fit_offline":
                env = _dataset_environment(stages, stage) or shared_env
            policies = {
                role: shared_policies[role]
                if parameters == self.policies.get(role)
                else make("policy", parameters, spec.origin, "policies", role)
                for role, parameters in spec.policies.items()
            }
            if env is not None:
                problems.extend(self._unknown_role_problems(env))
                names = {role.name for role in env.roles}
                chosen = {role: policy for role, policy in policies.items() if role in names}
                rounds = self.rounds if stage.rounds is None else stage.rounds
                defaults = shared_defaults if env is shared_env else _default_policies(env)
                policies = {**continuing_policies(env, defaults, trained_defaults), **chosen}
                stages.append(BuiltStage(stage, rounds, env, policies))
                to_train = (policies.keys() - chosen.keys()) & set(stage.roles_to_train)
                trained_defaults |= {
                    r: policies[r] for r in to_train if parameter_keys(policies[r])
                }
        if problems:
            raise ScenarioError(list(dict.fromkeys(problems)))
        return BuiltCell(tuple(stages), population)

    def stage_spec(self, stage_index: int) -> StageSpec:
        """Environment and policies of a stage, as `kind` and parameters.

        Raises:
            ScenarioError: the stage overrides a parameter that does not exist.
        """
        return apply_stage_overrides(
            self.env, self.policies, self.origin, self.stages[stage_index], stage_index
        )

    def environment_specs(self) -> list[tuple[Mapping[str, Any], Origin]]:
        """The distinct environment specifications of the stages, with their origins.

        Raises:
            ScenarioError: a stage overrides a parameter that does not exist.
        """
        changed = [index for index, stage in enumerate(self.stages) if stage.env]
        shared = [(self.env, self.origin)] if len(changed) < len(self.stages) else []
        specs = [self.stage_spec(index) for index in changed]
        return [*shared, *((spec.env, spec.origin) for spec in specs)]

    def _unknown_role_problems(self, environment: Environment[Any]) -> list[Problem]:
        """Policies of roles that the environment lacks."""
        roles = [role.name for role in environment.roles]
        if any(stage.env for stage in self.stages):
            return []  # another stage may have the role
        return [
            unknown_role_problem(role, roles, self) for role in self.policies if role not in roles
        ]


def _default_policies(environment: Environment[Any]) -> dict[str, Policy]:
    return policies_from_specs(environment.default_policies())


def _dataset_stage_indices(earlier_stages: Sequence[BuiltStage], fit_stage: Stage) -> list[int]:
    """Indices of the earlier stages whose recorded episodes `fit_stage` trains on."""
    return [
        index
        for index, (stage, *_) in enumerate(earlier_stages)
        if stage.loop != "fit_offline"
        and (not fit_stage.dataset_stages or stage.name in fit_stage.dataset_stages)
    ]


def _dataset_environment(
    earlier_stages: Sequence[BuiltStage], fit_stage: Stage
) -> Environment[Any] | None:
    """The last environment in the dataset of `fit_stage` that has the roles to train."""
    for index in reversed(_dataset_stage_indices(earlier_stages, fit_stage)):
        environment = earlier_stages[index].environment
        if set(fit_stage.roles_to_train) <= {role.name for role in environment.roles}:
            return environment
    return None


def unknown_role_problem(
    role: str, roles: list[str], cell: Cell, source_path: KeyPath = ()
) -> Problem:
    """Problem of a policy whose role does not exist. `source_path`: its key, if a stage sets it."""
    near = did_you_mean(printable(role), roles)
    message = f"{cell.env['kind']} has no role {printable(role, 40)!r}{near}"
    if source_path:
        return Problem(
            cell.origin.source_map.key_location(source_path), source_path, message, "unknown_name"
        )
    return cell.origin.problem(("policies", role), message, True, code="unknown_name")


def make_component(registry: str, spec: Mapping[str, Any], path: KeyPath, origin: Origin) -> Any:
    """The object that a `kind` and its parameters specify.

    Parameters are checked as JSON, as strictly as a file: see `scenario.loading`.

    Raises:
        ScenarioError: an unknown kind or parameter, or an invalid value.
    """
    kind = spec["kind"]
    parameters = {name: value for name, value in spec.items() if name != "kind"}
    try:
        component_class = class_of(registry, kind)
    except UserError as error:
        problem = origin.problem((*path, "kind"), str(error), code=error.code)
        raise ScenarioError([problem]) from None
    except ImportError as error:
        message = f"{printable(kind)} cannot be imported: {printable(error)}"
        problem = origin.problem((*path, "kind"), message, code="not_installed")
        raise ScenarioError([problem]) from None
    try:
        return build(registry, kind, parameters, strict=True)
    except ValidationError as error:
        problems = problems_from_error(
            error,
            component_class,
            parameters,
            origin.source_map,
            prefix=path,
            source_paths=origin.source_paths,
            unknown_key_message=f"{kind} has no such parameter",
        )
        raise ScenarioError(problems) from None
    except (UserError, TypeError) as error:
        if isinstance(error, TypeError) and issubclass(component_class, BaseModel):
            raise  # a defect of the class
        code = error.code if isinstance(error, UserError) else "failed"
        raise ScenarioError([origin.problem(path, printable(error, 300), code=code)]) from None


def cell_id(arm: str, point: Mapping[str, Any], digest: bool = False) -> str:
    """Folder name of a cell: readable, safe on all systems, with a digest if text was replaced."""
    texts = [f"{path}={_value_label(value)}" for path, value in point.items()]
    name = f"{arm}__{','.join(texts)}" if point else arm
    digest = digest or any(isinstance(value, dict) and len(value) > 1 for value in point.values())
    safe = re.sub(r"[^A-Za-z0-9._=,+-]", "_", name)
    if safe == name and len(safe) <= MAX_ID_LENGTH and not digest:
        return safe
    suffix = hashlib.blake2b(json.dumps([arm, point]).encode(), digest_size=4).hexdigest()
    return f"{safe[: MAX_ID_LENGTH - 9]}-{suffix}"


def _value_label(value: Any) -> str:
    """A swept value in a folder name. A component is represented by its kind."""
    if isinstance(value, dict) and "kind" in value:
        return str(value["kind"])
    return value if isinstance(value, str) else json.dumps(value)

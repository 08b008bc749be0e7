"""A user's Mesa model as an environment: scenarios, claims, Gymnasium and PettingZoo.

    mores.register("environment", "schelling", Schelling)
    mores.register("environment", "planned", make_mesa_environment(Schelling, [Planner()]))

Every world is one Mesa model; a round is one `step` of it. Models are stepped one after the other
in Python: a run costs what it costs in Mesa, in as many processes as `--jobs` says.

A model is seeded by Mesa's own parameter, with 48 bits of the random streams of its world, so that
replicate k has the same seed in all arms. Later draws depend on the model: arms whose models draw a
different number of times are no longer coupled, unlike those of other environments. Results are
marked `same seed, not coupled`. Arms with equal parameters are equal.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import ValidationError, create_model
from torch import Tensor

from mores.clients.mesa.installed_mesa import mesa
from mores.clients.mesa.mesa_role import MesaRole
from mores.clients.mesa.mesa_state import MesaState, ModelStepper, make_state
from mores.clients.mesa.model_cache import CachedModel, ModelCache
from mores.clients.mesa.model_spec import MesaModelSpec, shown
from mores.clients.mesa.parameters import fields_of, seed_parameter
from mores.clients.mesa.reporters import collector_of, is_number
from mores.core.environment import Environment, Phase, Role, StepResult
from mores.core.errors import UserError
from mores.core.people import People
from mores.core.random_streams import RandomStreams

SEED_BITS = 24  # of each of two uniform numbers
STEP = "step"
WORLD_ELEMENTS = 2**17  # as many as make batches of 64 worlds, whose models are in memory at once


class MesaEnvironment(Environment[MesaState]):
    """Worlds of a user's Mesa model. `make_mesa_environment` returns a subclass for a model class.

    Agents:
        Those of the given `MesaRole`s. Without roles the environment has no agents.

    Dynamics:
        `MesaRole.act` for every agent, then `step` of the model.

    End:
        When the model sets `running` to False.

    Metrics:
        What the model's `datacollector` reports: `mores.clients.mesa.reporters`.
    """

    tags: ClassVar[Mapping[str, object]] = {"stochastic": True, "phases": 1}
    random_source: ClassVar[str] = (
        "`self.random` or `self.rng` of the model (networkx: its argument `seed`)"
    )
    model_class: ClassVar[type[mesa.Model]]
    mesa_roles: ClassVar[tuple[MesaRole, ...]] = ()

    @property
    def couples_arms(self) -> bool:
        """Arms share the seeds of models, not the draws within them."""
        return False

    @property
    def elements_per_world(self) -> int:
        """See `Environment`."""
        return max(super().elements_per_world, WORLD_ELEMENTS)

    # --- models ------------------------------------------------------------------------------

    def _parameters(self, names: Collection[str]) -> dict[str, Any]:
        """Arguments of the model's constructor for some of the fields."""
        fields = type(self).model_fields
        return {fields[name].alias or name: getattr(self, name) for name in fields if name in names}

    @functools.cached_property
    def _spec(self) -> MesaModelSpec:
        parameters = self._parameters(type(self).model_fields)
        return MesaModelSpec(self.model_class, parameters, self.mesa_roles)

    @functools.cached_property
    def _model_cache(self) -> ModelCache:
        return ModelCache()

    @property
    def _stepper(self) -> ModelStepper:
        return ModelStepper(self._spec, self._model_cache)

    @property
    def _initial_model(self) -> CachedModel:
        """A model at its start, from which roles and metrics are read."""
        return self._model_cache.initial_model(lambda: self._spec.new(0))

    @functools.cached_property
    def _initial_reports(self) -> Mapping[str, Any]:
        return self._spec.initial_reports(self._initial_model)

    @functools.cached_property
    def _metric_names(self) -> tuple[str, ...]:
        """Names of the reporters that give numbers for a model at its start."""
        return tuple(name for name, each in self._initial_reports.items() if is_number(each))

    def _state(self, models: Sequence[CachedModel], device: torch.device) -> MesaState:
        """The state of a batch of models."""
        metric_names = self._metric_names
        return make_state(self._spec, models, metric_names, self.roles, self.phases[0], device)

    # --- roles -------------------------------------------------------------------------------

    @functools.cached_property
    def roles(self) -> tuple[Role, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One for each `MesaRole`."""
        spec, initial, found = self._spec, self._initial_model, list[Role]()
        for role in self.mesa_roles:
            count = len(spec.agents(role, initial))
            space = spec.observation_space(role, initial)
            if not count:
                spec.refuse(f"{role.name}.agents returns no agents", "out_of_range")
            found.append(Role(role.name, count, space))
        return tuple(found)

    @functools.cached_property
    def phases(self) -> tuple[Phase, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One phase, in which all roles act."""
        spec, initial = self._spec, self._initial_model
        spaces = {role.name: spec.action_space(role, initial) for role in self.mesa_roles}
        return (Phase(STEP, spaces),)

    def default_policies(self) -> Mapping[str, Any]:
        """`MesaRole.default_policy`, where a role has one."""
        given = {role.name: role.default_policy for role in self.mesa_roles}
        return {name: policy for name, policy in given.items() if policy is not None}

    # --- dynamics ----------------------------------------------------------------------------

    def reset(self, streams: RandomStreams, people: People | None = None) -> MesaState:
        """New models.

        Raises:
            UserError: there is a population, the constructor fails, or the number of agents of a
                role depends on the seed.
        """
        if people is not None:
            self._spec.refuse(
                "has its own people: it takes no population", "unsupported", "population"
            )
        uniform = streams.uniform("mesa_seed", 1, 2)[:, 0].double().cpu()
        words = (uniform * 2**SEED_BITS).long()
        seeds = (words[:, 0] | words[:, 1] << SEED_BITS).tolist()
        models = [self._spec.new(seed) for seed in seeds]
        state = self._state(models, streams.device)
        self._stepper.cache_models(models)
        return state

    def observe(self, state: MesaState, role: str, phase: str) -> Tensor:
        """See `MesaRole.observe`."""
        return state.observations[role]

    def action_mask(self, state: MesaState, role: str, phase: str) -> Tensor | None:
        """See `MesaRole.action_mask`."""
        return state.action_masks.get(role)

    def step(
        self,
        state: MesaState,
        phase: str,
        actions: Mapping[str, Tensor],
        streams: RandomStreams,
    ) -> StepResult[MesaState]:
        """The models after a step. Models that no longer run stay as they are."""
        stepper = self._stepper
        arrays = {name: action.detach().cpu().numpy() for name, action in actions.items()}
        models = [
            stepper.step_world(
                state, world, {name: array[world].copy() for name, array in arrays.items()}
            )
            for world in range(len(state.seed))
        ]
        device = state.seed.device
        new = self._state(models, device)
        reward = {
            role.name: torch.tensor([each.rewards[role.name] for each in models], device=device)
            for role in self.mesa_roles
        }
        stepper.cache_models(models)
        return StepResult(new, reward, ~new.running)

    def metrics(self, state: MesaState) -> Mapping[str, Tensor]:
        """What the model's `datacollector` reports; `mores describe NAME` lists them."""
        return dict(state.metrics)

    def missing_metric_hint(self, name: str) -> str:
        """Why the model has no metric of that name, if that is known."""
        if collector_of(self._initial_model.model) is None:
            return "its model has no mesa.DataCollector as `datacollector`"
        if name not in self._initial_reports:
            return ""
        given = shown(self._initial_reports[name])
        return f"its reporter is left out, because it gives {given} at the start, no number"

    @classmethod
    def description_sections(cls) -> Mapping[str, str]:
        """Metrics and roles of the model with its default parameters."""
        roles = [f"{role.name}: default policy {role.default_policy}" for role in cls.mesa_roles]
        sections = {"Roles": "\n".join(roles)} if roles else {}
        try:
            metrics = "\n".join(cls()._metric_names) or "none"
        except ValidationError:
            metrics = "those of the `datacollector`; not read here: a parameter has no default"
        except UserError as error:
            metrics = f"not known: {error}"
        return {"Metrics": metrics, **sections}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without the class, which is made from that of the model."""
        parameters = self._parameters(self.model_fields_set)
        return _unpickle, (self.model_class, self.mesa_roles, parameters)


def make_mesa_environment(
    model_class: type[mesa.Model], roles: Sequence[MesaRole] = ()
) -> type[MesaEnvironment]:
    """A class of environments of a class of Mesa models, with its constructor's parameters.

    Args:
        model_class: the class of models.
        roles: roles whose agents get their actions from policies or clients of mores.

    Raises:
        UserError: another type; the constructor takes no seed, or requires a parameter that cannot
            be written in YAML; a role has no name, one that is no identifier, or that of another.
    """
    if not (isinstance(model_class, type) and issubclass(model_class, mesa.Model)):
        instance = isinstance(model_class, mesa.Model)
        given = f"an instance of {type(model_class).__name__}" if instance else shown(model_class)
        message = f"model_class: must be a subclass of mesa.Model, not {given}"
        raise UserError(message, code="wrong_type", path="model_class")
    if isinstance(roles, str) or not isinstance(roles, Sequence):
        hint = f": write [{type(roles).__name__}()]" if isinstance(roles, MesaRole) else ""
        message = f"{model_class.__name__}: roles must be a list, not {shown(roles)}{hint}"
        raise UserError(message, code="wrong_type", path="roles")
    for role in roles:
        _check_role(model_class, role)
    return _environment_class(model_class, tuple(roles))


def _check_role(model_class: type[mesa.Model], role: Any) -> None:
    """Refuse what is no role, and a name that scenario files and paths cannot hold."""
    where = f"{model_class.__name__}: roles"
    if not isinstance(role, MesaRole):
        hint = f": write {role.__name__}()" if isinstance(role, type) else ""
        message = f"{where}: a MesaRole is needed, not {shown(role)}{hint}"
        raise UserError(message, code="wrong_type", path="roles")
    name: Any = getattr(role, "name", None)
    if not isinstance(name, str) or not name.isidentifier():
        what = f"{type(role).__name__}.name must be an identifier, such as planner"
        message = f"{where}: {what}, not {shown(name)}"
        code = "invalid_value" if isinstance(name, str) else "wrong_type"
        raise UserError(message, code=code, path="roles")


@functools.cache
def _environment_class(
    model_class: type[mesa.Model], roles: tuple[MesaRole, ...]
) -> type[MesaEnvironment]:
    """One class for equal arguments of `make_mesa_environment`, so that objects can be equal."""
    seed_parameter(model_class)
    names = [role.name for role in roles]
    if len({*names}) < len(names):
        message = f"{model_class.__name__}: two roles have one name: {names}"
        raise UserError(message, code="duplicate", path="roles")
    made = create_model(
        model_class.__name__,
        __base__=MesaEnvironment,
        __module__=model_class.__module__,
        __doc__=_documentation(model_class),
        **fields_of(model_class, dir(MesaEnvironment)),
    )
    made.model_class, made.mesa_roles = model_class, roles
    return made


def _documentation(model_class: type[mesa.Model]) -> str:
    """Docstring of the user's class, else of a base class of the user's."""
    classes = model_class.__mro__[: model_class.__mro__.index(mesa.Model)]
    found = (inspect.cleandoc(each.__doc__) for each in classes if each.__doc__)
    return next(found, f"The Mesa model {model_class.__name__}, which has no docstring.")


def _unpickle(
    model_class: type[mesa.Model], roles: tuple[MesaRole, ...], parameters: Mapping[str, Any]
) -> MesaEnvironment:
    """An environment that was pickled."""
    return make_mesa_environment(model_class, roles)(**parameters)

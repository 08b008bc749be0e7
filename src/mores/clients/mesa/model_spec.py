"""Calls of a user's Mesa model and of its roles: errors name them, results are checked."""

from __future__ import annotations

import copy
import functools
import operator
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn, TypeVar

import numpy as np
from jaxtyping import Bool, Float

from mores.clients.mesa import reporters
from mores.clients.mesa.installed_mesa import mesa
from mores.clients.mesa.mesa_role import MesaRole
from mores.clients.mesa.model_cache import Actions, CachedModel, ModelKey
from mores.clients.mesa.parameters import SIMULATOR, seed_parameter, takes_simulator
from mores.clients.mesa.reporters import Reporter
from mores.core.errors import UserError, describe_exception, printable
from mores.core.names import name_problem
from mores.core.spaces import Box, Discrete, MultiDiscrete, Space
from mores.core.value_checking import values_are_checked
from mores.sim.global_generators import SearchEnded

Result = TypeVar("Result")
PASSED_ON = (KeyboardInterrupt, SystemExit, GeneratorExit, SearchEnded)


class MesaModelSpec(NamedTuple):
    """A class of Mesa models, its parameters, and the roles whose agents get actions from mores."""

    model_class: type[mesa.Model]
    parameters: Mapping[str, Any]
    roles: tuple[MesaRole, ...] = ()

    def call(self, what: str, function: Callable[..., Result], *arguments: Any) -> Result:
        """A result of the user's code, whose exceptions name it.

        Raises:
            UserError: it raises an exception.
        """
        try:
            return function(*arguments)
        except (UserError, *PASSED_ON):
            raise
        except BaseException as error:  # also a class of the user that is no `Exception`
            name, reason = self.model_class.__name__, describe_exception(error)
            raise UserError(f"{name}: {what} fails: {reason}", code="failed") from error

    def refuse(self, message: str, code: str, path: str = "") -> NoReturn:
        """Raise the error of a class of models."""
        raise UserError(f"{self.model_class.__name__}: {message}", code=code, path=path)

    # --- models ------------------------------------------------------------------------------

    def new(self, seed: int) -> CachedModel:
        """A model at its start."""
        # A model may change its arguments: each has its own.
        arguments = {**copy.deepcopy(self.parameters), seed_parameter(self.model_class): seed}
        what = "the constructor"
        if takes_simulator(self.model_class):
            what += f" without {SIMULATOR!r}, Mesa's event scheduler, which is not supported,"
        model = self.call(what, functools.partial(self.model_class, **arguments))
        if not hasattr(model, "steps"):
            seed_name = seed_parameter(self.model_class)
            message = f"the constructor does not call super().__init__({seed_name}={seed_name})"
            self.refuse(message, "failed")
        rewards = {role.name: [0.0] * len(self._agents(role, model)) for role in self.roles}
        return CachedModel(model, [ModelKey(seed)], rewards=rewards)

    def is_running(self, cached: CachedModel) -> bool:
        """Mesa's `running`.

        Raises:
            UserError: the model has deleted it.
        """
        if not hasattr(cached.model, "running"):
            self.refuse(f"has no `running` {_when(cached)}: set it to False at its end", "failed")
        return bool(cached.model.running)

    def advance(self, cached: CachedModel, actions: Actions) -> None:
        """One round: the actions of all agents, and the step of the model.

        `MesaRole.act` may change or keep the array that it is given: it is a copy.
        """
        model, new_key = cached.model, cached.key.after(actions)
        deciding = {role: self.agents(role, cached) for role in self.roles}
        for role, agents in deciding.items():
            act, what = functools.partial(role.act, model), f"{role.name}.act"
            for agent, action in zip(agents, actions[role.name], strict=True):
                plain = int(action) if np.ndim(action) == 0 else action.copy()
                self.call(what, act, agent, plain)
        self.call("step", model.step)
        cached.rewards = {
            role.name: [self._reward(role, model, agent) for agent in self.agents(role, cached)]
            for role in self.roles
        }
        cached.keys.append(new_key)
        cached.actions.append(actions)

    # --- metrics -----------------------------------------------------------------------------

    def initial_reports(self, cached: CachedModel) -> dict[str, Any]:
        """Values of all reporters of a model at its start, numbers or not, by name.

        Raises:
            UserError: a reporter fails, two have one name, or a name cannot be that of a metric.
        """
        found: dict[str, Any] = {}
        for reporter in self._reporters(cached):
            name = reporter.name
            if name in found:
                message = f"the reporter {name!r} has the name of the mean of "
                message += f"{reporter.title}: rename one of them"
                self.refuse(message, "duplicate", "metrics")
            found[name] = self.call(reporter.title, reporter.evaluate)
            problem = name_problem(name)
            if problem and reporters.is_number(found[name]):
                self.refuse(f"the reporter {name!r}: {problem}", "invalid_value", "metrics")
        return found

    def metrics(self, cached: CachedModel, names: Collection[str]) -> dict[str, float]:
        """Numbers of the reporters that are metrics; NaN where no agent has a number.

        Raises:
            UserError: a reporter fails, or gives no number; in the first rounds of a scenario also
                if it draws from the generators of the model.
        """
        found: dict[str, float] = {}
        before = _generator_states(cached.model) if values_are_checked() else None
        for reporter in self._reporters(cached):
            value = self.call(reporter.title, reporter.evaluate)
            if before is not None and _generator_states(cached.model) != before:
                message = f"{reporter.title} draws random numbers from the model, whose next steps "
                message += "then differ from those without reporters"
                self.refuse(message, "failed", "metrics")
            if reporter.name in names:
                found[reporter.name] = self._number(reporter, value, cached)
        if lost := [name for name in names if name not in found]:
            self.refuse(f"the reporter {lost[0]!r} is gone {_when(cached)}", "failed", "metrics")
        return found

    def _number(self, reporter: Reporter, value: Any, cached: CachedModel) -> float:
        """The number that a reporter has returned."""
        if value is None and reporter.of_agents:
            return float("nan")
        problem = "not a number: return float('nan') where there is none"
        if reporters.is_number(value):
            number: Any = value
            try:
                return float(number)
            except OverflowError:
                problem = "too large for a float"
        name, returned = self.model_class.__name__, f"returns {shown(value)} {_when(cached)}"
        message = f"{name}: {reporter.title} {returned}, {problem}"
        raise UserError(message, code="failed", path="metrics")

    def _reporters(self, cached: CachedModel) -> list[Reporter]:
        return self.call("the data collector", reporters.reporters_of, cached.model)

    # --- roles -------------------------------------------------------------------------------

    def observation_space(self, role: MesaRole, cached: CachedModel) -> Box:
        """`MesaRole.observation_space`, checked."""
        what = f"{role.name}.observation_space"
        space = self.call(what, role.observation_space, cached.model)
        if not isinstance(space, Box):
            self.refuse(f"{what} must return a Box, not {shown(space)}", "wrong_type")
        self.call(what, getattr, space, "limits")  # its parts are numbers
        return space

    def action_space(self, role: MesaRole, cached: CachedModel) -> Space:
        """`MesaRole.action_space`, checked."""
        what = f"{role.name}.action_space"
        space = self.call(what, role.action_space, cached.model)
        if not isinstance(space, (Discrete, MultiDiscrete, Box)):
            message = f"{what} must return a Discrete, MultiDiscrete or Box, not "
            self.refuse(message + shown(space), "wrong_type")
        if not self.call(what, _has_choice, space):
            self.refuse(f"{what} returns {space}, which has no options", "out_of_range")
        return space

    def _agents(self, role: MesaRole, model: mesa.Model) -> Sequence[Any]:
        what = f"{role.name}.agents"
        agents = self.call(what, role.agents, model)
        if not isinstance(agents, Iterable):
            message = f"{what} must return a list of agents, not {shown(agents)}"
            self.refuse(message, "wrong_type")
        return self.call(what, list, agents)  # a generator runs here

    def agents(self, role: MesaRole, cached: CachedModel) -> Sequence[Any]:
        """The agents of a role, as many as at the start."""
        agents, expected = self._agents(role, cached.model), len(cached.rewards[role.name])
        if len(agents) != expected:
            message = f"{role.name}.agents returns {len(agents)} agents, at the start {expected}"
            self.refuse(message, "wrong_shape")
        return agents

    def _reward(self, role: MesaRole, model: mesa.Model, agent: Any) -> float:
        what = f"{role.name}.reward"
        given = self.call(what, role.reward, model, agent)
        row = self._numbers(what, given, "a number")
        if len(row) != 1:
            self._refuse_entries(what, given, "a number", "wrong_shape")
        return float(row[0])

    def observations(
        self, role: MesaRole, cached: CachedModel, size: int
    ) -> Float[np.ndarray, "agent size"]:
        """Observations of the agents of a role. `size`: that of its space."""
        what, agents = f"{role.name}.observe", self.agents(role, cached)
        given = [self.call(what, role.observe, cached.model, agent) for agent in agents]
        rows = [self._numbers(what, each) for each in given]
        if wrong := [len(row) for row in rows if len(row) != size]:
            self.refuse(f"{what} returns {wrong[0]} numbers, its space has {size}", "wrong_shape")
        return np.stack(rows)

    def masks(
        self, role: MesaRole, cached: CachedModel, size: int
    ) -> Bool[np.ndarray, "agent option"]:
        """Legal options of the agents of a role. `size`: number of options of its space."""
        what, agents = f"{role.name}.action_mask", self.agents(role, cached)
        given = [self.call(what, role.action_mask, cached.model, agent) for agent in agents]
        masks = [
            np.ones(size, bool) if mask is None else self._truth_values(what, mask)
            for mask in given
        ]
        if wrong := [mask.shape for mask in masks if mask.shape != (size,)]:
            self.refuse(f"{what} returns {wrong[0]} entries, not {size}", "wrong_shape")
        return np.stack(masks)

    def _numbers(
        self, what: str, given: Any, entries: str = "numbers"
    ) -> Float[np.ndarray, " size"]:
        """A number, or a nested sequence of numbers, in one row.

        Raises:
            UserError: it holds something else, or a number that is not finite in float32.
        """
        array = self._array(what, given, entries, "biufO")
        if array.dtype == object and any(
            each is None or isinstance(each, str) for each in array.flat
        ):
            self._refuse_entries(what, given, entries)
        try:
            with np.errstate(over="ignore"):
                row = np.asarray(given, np.float32).reshape(-1)
        except (TypeError, ValueError):
            self._refuse_entries(what, given, entries)
        except OverflowError:  # a whole number
            row = np.full(1, np.inf, np.float32)
        if not np.isfinite(row).all():
            self._refuse_entries(what, given, f"{entries} (finite in float32)", "not_finite")
        return row

    def _truth_values(self, what: str, given: Any) -> Bool[np.ndarray, "..."]:
        array = self._array(what, given, "booleans", "biuf")
        if not np.isin(array, (0, 1)).all():
            self._refuse_entries(what, given, "booleans")
        return array.astype(bool)

    def _array(self, what: str, given: Any, entries: str, kinds: str) -> np.ndarray:
        """An array of some of numpy's kinds of types."""
        try:
            array = np.asarray(given)
        except (TypeError, ValueError, RuntimeError):  # lists of different lengths, for example
            self._refuse_entries(what, given, entries)
        if array.dtype.kind not in kinds:
            self._refuse_entries(what, given, entries)
        return array

    def _refuse_entries(
        self, what: str, given: Any, entries: str, code: str = "wrong_type"
    ) -> NoReturn:
        self.refuse(f"{what} must return {entries}, not {shown(given)}", code)


def shown(value: object) -> str:
    """What a user's code returned, as it is written in Python, for a message."""
    return printable(repr(value), 60)


def _has_choice(space: Space) -> bool:
    """Whether every part of an action has an option, or the vector a number."""
    counts = space.size if isinstance(space, Box) else space.num_options
    counts = counts if isinstance(counts, tuple) else (counts,)
    return bool(counts) and all(operator.index(count) >= 1 for count in counts)


def _when(cached: CachedModel) -> str:
    rounds = cached.key.rounds
    return f"after step {rounds}" if rounds else "at the start"


def _generator_states(model: mesa.Model) -> list[Any]:
    """States of the generators of a model, to be compared."""
    generator, rng = getattr(model, "random", None), getattr(model, "rng", None)
    return [
        generator.getstate() if isinstance(generator, random.Random) else None,
        repr(rng.bit_generator.state) if isinstance(rng, np.random.Generator) else None,
    ]

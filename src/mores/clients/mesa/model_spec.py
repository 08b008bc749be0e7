"""Calls of a user's Mesa model and of its roles: errors name them, results are checked."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn, TypeVar

import numpy as np
from jaxtyping import Bool, Float

from mores.clients.mesa import reporters
from mores.clients.mesa.installed_mesa import mesa
from mores.clients.mesa.mesa_role import MesaRole
from mores.clients.mesa.model_cache import Actions, CachedModel, ModelKey
from mores.clients.mesa.parameters import SIMULATOR, seed_parameter, takes_simulator
from mores.core.errors import UserError, describe_exception
from mores.core.names import name_problem

Result = TypeVar("Result")


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
        except UserError:
            raise
        except Exception as error:
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
        rewards = {role.name: [0.0] * len(self._agents(role, model)) for role in self.roles}
        return CachedModel(model, [ModelKey(seed)], rewards=rewards)

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
            role.name: [
                float(self.call(f"{role.name}.reward", role.reward, model, agent))
                for agent in self.agents(role, cached)
            ]
            for role in self.roles
        }
        cached.keys.append(new_key)
        cached.actions.append(actions)

    # --- metrics -----------------------------------------------------------------------------

    def metric_names(self, cached: CachedModel) -> tuple[str, ...]:
        """Names of the reporters that give numbers for a model at its start."""
        names = self.call("a reporter", reporters.numeric_reporters, cached.model)
        for name in names:
            if problem := name_problem(name):
                self.refuse(f"the reporter {name!r}: {problem}", "invalid_value", "metrics")
        return names

    def metrics(self, cached: CachedModel) -> dict[str, float]:
        """Numbers of the reporters."""
        return self.call("a reporter", reporters.report, cached.model)

    # --- roles -------------------------------------------------------------------------------

    def _agents(self, role: MesaRole, model: mesa.Model) -> Sequence[Any]:
        return self.call(f"{role.name}.agents", role.agents, model)

    def agents(self, role: MesaRole, cached: CachedModel) -> Sequence[Any]:
        """The agents of a role, as many as at the start."""
        agents, expected = self._agents(role, cached.model), len(cached.rewards[role.name])
        if len(agents) != expected:
            message = f"{role.name}.agents returns {len(agents)} agents, at the start {expected}"
            self.refuse(message, "wrong_shape")
        return agents

    def observations(
        self, role: MesaRole, cached: CachedModel, size: int
    ) -> Float[np.ndarray, "agent size"]:
        """Observations of the agents of a role. `size`: that of its space."""
        what, agents = f"{role.name}.observe", self.agents(role, cached)
        given = [self.call(what, role.observe, cached.model, agent) for agent in agents]
        rows = [np.asarray(each, np.float32).reshape(-1) for each in given]
        if wrong := [len(row) for row in rows if len(row) != size]:
            self.refuse(f"{what} returns {wrong[0]} numbers, its space has {size}", "wrong_shape")
        return np.stack(rows)

    def masks(
        self, role: MesaRole, cached: CachedModel, size: int
    ) -> Bool[np.ndarray, "agent option"]:
        """Legal options of the agents of a role. `size`: number of options of its space."""
        what, agents = f"{role.name}.action_mask", self.agents(role, cached)
        given = [self.call(what, role.action_mask, cached.model, agent) for agent in agents]
        masks = [np.ones(size, bool) if mask is None else np.asarray(mask, bool) for mask in given]
        if wrong := [mask.shape for mask in masks if mask.shape != (size,)]:
            self.refuse(f"{what} returns {wrong[0]} entries, not {size}", "wrong_shape")
        return np.stack(masks)

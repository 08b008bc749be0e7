"""Roles of a user's Mesa model: agents whose actions come from policies or clients of mores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from mores.core.spaces import Box, Space


class MesaRole(ABC):
    """Defines agents of a Mesa model whose actions come from policies or clients of mores.

    It defines which agents act, what they observe, and what an action changes. A subclass is
    written for one class of models and given to `make_mesa_environment`. In every round all agents
    of all roles observe the same state; `act` is called for each of them, role by role, and then
    the model makes its step. An agent may be any object of the model: a Mesa agent, or the model
    itself for a planner. The methods depend on their arguments alone and store nothing: one object
    serves all worlds.

    Attributes:
        name: name of the role, an identifier; agents are called `<name>_0`, `<name>_1`, ...
        default_policy: policy of the role where a scenario or a client names none, by its kind, or
            a mapping with its kind and parameters. None: each has to name one.
    """

    name: ClassVar[str]
    default_policy: ClassVar[str | Mapping[str, Any] | None] = None

    @abstractmethod
    def agents(self, model: Any) -> Sequence[Any]:
        """The agents, in a fixed order. Their number is the same in all rounds and seeds.

        An agent that the model removed stays in its place, or another takes it.
        """

    @abstractmethod
    def observation_space(self, model: Any) -> Box:
        """Named parts of one agent's observation. `model`: a model at its start."""

    @abstractmethod
    def action_space(self, model: Any) -> Space:
        """Space of one agent's action. `model`: a model at its start."""

    @abstractmethod
    def observe(self, model: Any, agent: Any) -> Sequence[float]:
        """Observation of an agent: finite numbers `[size]`, the parts in their order."""

    @abstractmethod
    def act(self, model: Any, agent: Any, action: int | np.ndarray) -> None:
        """Apply an agent's action.

        Args:
            model: the model.
            agent: one of `agents`.
            action: an option (`Discrete`), or an array `[size]`.
        """

    def reward(self, model: Any, agent: Any) -> float:
        """Reward of an agent for a round, finite, after the step of the model. Default: 0."""
        return 0.0

    def action_mask(self, model: Any, agent: Any) -> Sequence[bool] | None:
        """Legal options of an agent, `num_options` booleans. Default, None: all are legal.

        Those of the components of a multi-discrete action are concatenated.
        """
        return None

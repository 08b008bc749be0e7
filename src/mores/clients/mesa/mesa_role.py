"""Decisions in a user's Mesa model that come from outside: from policies or clients of mores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from mores.core.spaces import Box, Space


class MesaRole(ABC):
    """A role of a Mesa model: who decides, what it observes, and what its actions do.

    A subclass states it for one class of models and is given to `mesa_environment`. In every round
    all agents of all roles observe the same state; `act` is called for each of them, role by role,
    and then the model makes its step. An agent may be anything that the model holds: a Mesa agent,
    or the model itself for a planner. The methods depend on their arguments alone and keep nothing:
    one object serves all worlds.

    Attributes:
        name: name of the role; agents are called `<name>_0`, `<name>_1`, ...
    """

    name: ClassVar[str]

    @abstractmethod
    def agents(self, model: Any) -> Sequence[Any]:
        """The deciding agents, in a fixed order. Their number is the same in all rounds and seeds.

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
        """Observation of an agent, the parts one after the other."""

    @abstractmethod
    def act(self, model: Any, agent: Any, action: int | np.ndarray) -> None:
        """Apply an agent's action: an option (`Discrete`), or an array."""

    def reward(self, model: Any, agent: Any) -> float:
        """Reward of an agent for a round, after the step of the model. Default: 0."""
        return 0.0

    def action_mask(self, model: Any, agent: Any) -> Sequence[bool] | None:
        """Legal options of an agent. Default: all."""
        return None

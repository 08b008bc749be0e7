"""Mesa models with a mistake each, and two whose arguments are hard to handle."""

from __future__ import annotations

import random
from typing import Any

import mesa
import numpy as np


class Unseeded(mesa.Model):
    """Draws from a generator of its own, which is not seeded."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(seed=seed)
        self.x = 0.0
        self.datacollector = mesa.DataCollector({"x": "x"})
        self.own = np.random.default_rng()

    def step(self) -> None:
        self.x = self.draw()

    def draw(self) -> float:
        return self.own.random()


class Global(Unseeded):
    """Draws from Python's own generator."""

    def draw(self) -> float:
        return random.random()


class Failing(Unseeded):
    """Fails in the second step."""

    def draw(self) -> float:
        return 1 / (2 - self.steps)


class BadReporter(Unseeded):
    """A reporter that fails."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(seed=seed)
        mesa.Agent(self)
        reporters = {"x": lambda agent: agent.nothing}
        self.datacollector = mesa.DataCollector(agent_reporters=reporters)


class BadName(Unseeded):
    """A reporter whose name cannot be that of a metric."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(seed=seed)
        self.datacollector = mesa.DataCollector({"x/y": "x"})


class SameName(Unseeded):
    """A model reporter with the name of the mean of an agent reporter."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(seed=seed)
        self.datacollector = mesa.DataCollector({"mean_x": "x"}, {"x": lambda agent: 1.0})


class DrawingReporter(Unseeded):
    """A reporter that draws from the generator of the model."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(seed=seed)
        self.datacollector = mesa.DataCollector({"x": lambda model: model.random.random()})


class NoSuper(mesa.Model):
    """Does not call the constructor of Mesa."""

    def __init__(self, seed: int | None = None) -> None:
        self.x = seed


class Interrupting(Unseeded):
    """Raises an exception that is no `Exception`."""

    def draw(self) -> float:
        class Stop(BaseException): ...

        raise Stop("enough")


class Later(mesa.Model):
    """`x` is a number at the start, and `later` after the first step; `none` is never one."""

    later: Any = 1.0

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(seed=seed)
        self.x, self.none = 0.0, None
        self.datacollector = mesa.DataCollector({"x": "x", "none": "none"})

    def step(self) -> None:
        self.x = self.later


class NoSeed(mesa.Model):
    """Cannot be seeded."""

    def __init__(self, size: int = 3) -> None:
        super().__init__()


class NotSerializable(mesa.Model):
    """Requires a parameter that cannot be written in YAML."""

    def __init__(self, space: mesa.space.NetworkGrid, seed: int | None = None) -> None:
        super().__init__(seed=seed)


class UsesSimulator(Unseeded):
    """Needs an event scheduler, as some of Mesa's examples do."""

    def __init__(self, seed: int | None = None, simulator: Any = None) -> None:
        super().__init__(seed=seed)
        simulator.setup(self)


class RequiresSimulator(Unseeded):
    """The same without a default."""

    def __init__(self, simulator: mesa.experimental.devs.ABMSimulator, seed: int = 0) -> None:
        super().__init__(seed=seed)
        simulator.setup(self)


class WithSimulator(Unseeded):
    """An object that has a default, as in Mesa's examples, and names that environments use."""

    def __init__(
        self,
        roles: int = 3,
        simulator: mesa.space.NetworkGrid | None = None,
        rng: Any = None,
        **others: Any,
    ) -> None:
        super().__init__(seed=rng)
        self.size = roles


class Lists(mesa.Model):
    """Changes the list that it is given; `x` moves by its next number, and by `move`."""

    def __init__(self, plan: list[float] = [0.0, 1.0], seed: int | None = None) -> None:  # noqa: B006
        super().__init__(seed=seed)
        self.plan, self.x, self.move = plan, 0.0, np.zeros(1)
        self.datacollector = mesa.DataCollector({"x": "x"})

    def step(self) -> None:
        self.plan.append(self.plan.pop(0))
        self.x += self.plan[0] + float(self.move[0])

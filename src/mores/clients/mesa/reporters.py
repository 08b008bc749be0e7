"""Metrics of a Mesa model: what its DataCollector reports, as one number a world.

Model reporters keep their names. Of an agent reporter there is the mean over agents, `mean_NAME`,
without those for which it is None; NaN if there is none. Reporters whose first value is no number
are left out, and so are reporters of agent types and tables.

Reporters are evaluated after every step, whether or not the model collects data itself: the
numbers of a round are those of the state at its end.
"""

from __future__ import annotations

import functools
import numbers
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mores.clients.mesa.installed_mesa import mesa

MEAN = "mean_"  # before the name of an agent reporter


class Reporter(NamedTuple):
    """A reporter of a model.

    Attributes:
        name: name of the metric.
        evaluate: its value in the current state; of agents the mean, None if none has a number.
        of_agents: whether it is an agent reporter.
    """

    name: str
    evaluate: Callable[[], Any]
    of_agents: bool

    @property
    def title(self) -> str:
        """What a message calls it."""
        if self.of_agents:
            return f"the agent reporter {self.name.removeprefix(MEAN)!r}"
        return f"the reporter {self.name!r}"


def collector_of(model: mesa.Model) -> mesa.DataCollector | None:
    """The DataCollector of a model, where Mesa's tools expect it; None: it has none."""
    collector = getattr(model, "datacollector", None)
    return collector if isinstance(collector, mesa.DataCollector) else None


def reporters_of(model: mesa.Model) -> list[Reporter]:
    """The reporters of a model. Their evaluation does not change its collector."""
    collector = collector_of(model)
    if collector is None:
        return []
    return [
        *(
            Reporter(name, functools.partial(_model_value, model, name, reporter), False)
            for name, reporter in collector.model_reporters.items()
        ),
        *(
            Reporter(f"{MEAN}{name}", functools.partial(_agent_mean, model, reporter), True)
            for name, reporter in collector.agent_reporters.items()
        ),
    ]


def is_number(value: Any) -> bool:
    """Whether a value is a real number; numpy's scalars and truth values are."""
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    return isinstance(value, numbers.Real)


def _model_value(model: mesa.Model, name: str, reporter: Any) -> Any:
    fresh = mesa.DataCollector(model_reporters={name: reporter})
    fresh.collect(model)
    return fresh.model_vars[name][-1]


def _agent_mean(model: mesa.Model, reporter: Callable[[Any], Any]) -> Any:
    """Mean over agents; the first value that is no number, if there is one."""
    values = [value for agent in model.agents if (value := reporter(agent)) is not None]
    for value in values:
        if not is_number(value):
            return value
    return _mean(values)


def _mean(values: Sequence[Any]) -> float | None:
    return sum(map(float, values)) / len(values) if values else None

"""Metrics of a Mesa model: what its DataCollector reports, as one number a world.

Model reporters keep their names. Of an agent reporter there is the mean over agents, `mean_NAME`,
without those for which it is None. Reporters whose first value is no number are left out, and so
are reporters of agent types and tables. A number that is missing later is NaN.

Reporters are evaluated after every step, whether or not the model collects data itself: the
numbers of a round are those of the state at its end.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

from mores.clients.mesa.installed_mesa import mesa

NAN = float("nan")


def report(model: mesa.Model) -> dict[str, float]:
    """Numbers of a model's current state, by name; NaN where a reporter gives none.

    The collector of the model is not changed.
    """
    return {
        name: float(value) if _is_number(value) else NAN for name, value in _collect(model).items()
    }


def numeric_reporters(model: mesa.Model) -> tuple[str, ...]:
    """Names of the reporters that give numbers for a model at its start."""
    return tuple(name for name, value in _collect(model).items() if _is_number(value))


def _collect(model: mesa.Model) -> dict[str, Any]:
    """Values of model reporters, and means of agent reporters; None: not of numbers."""
    collector = getattr(model, "datacollector", None)
    if not isinstance(collector, mesa.DataCollector):
        return {}
    fresh = mesa.DataCollector(model_reporters=collector.model_reporters)
    fresh.collect(model)
    found = {name: values[-1] for name, values in fresh.model_vars.items()}
    for name, reporter in collector.agent_reporters.items():
        values = [value for agent in model.agents if (value := reporter(agent)) is not None]
        found[f"mean_{name}"] = _mean(values)
    return found


def _is_number(value: Any) -> bool:
    """Whether a value is a real number; numpy's scalars and truth values are."""
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    return isinstance(value, numbers.Real)


def _mean(values: Sequence[Any]) -> float | None:
    """Mean of numbers; None if there are none, or something else is among them."""
    if not values or not all(map(_is_number, values)):
        return None
    return sum(map(float, values)) / len(values)

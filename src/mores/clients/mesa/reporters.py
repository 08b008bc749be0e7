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

import mesa

NAN = float("nan")


def report(model: mesa.Model) -> dict[str, float]:
    """Numbers of a model at this moment, by name; NaN where a reporter gives none.

    The collector of the model is not changed.
    """
    collector = getattr(model, "datacollector", None)
    if not isinstance(collector, mesa.DataCollector):
        return {}
    fresh = mesa.DataCollector(model_reporters=collector.model_reporters)
    fresh.collect(model)
    found = {name: _number(values[-1]) for name, values in fresh.model_vars.items()}
    for name, reporter in collector.agent_reporters.items():
        values = [value for agent in model.agents if (value := reporter(agent)) is not None]
        found[f"mean_{name}"] = _mean(values)
    return found


def numeric(model: mesa.Model) -> tuple[str, ...]:
    """Names of the reporters that give numbers for a model at its start."""
    collector = getattr(model, "datacollector", None)
    if not isinstance(collector, mesa.DataCollector):
        return ()
    fresh = mesa.DataCollector(model_reporters=collector.model_reporters)
    fresh.collect(model)
    names = [name for name, values in fresh.model_vars.items() if _is_number(values[-1])]
    for name, reporter in collector.agent_reporters.items():
        values = [value for agent in model.agents if (value := reporter(agent)) is not None]
        if values and all(map(_is_number, values)):
            names.append(f"mean_{name}")
    return tuple(names)


def _is_number(value: Any) -> bool:
    """Whether a value is a real number; numpy's scalars and truth values are."""
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    return isinstance(value, numbers.Real)


def _number(value: Any) -> float:
    return float(value) if _is_number(value) else NAN


def _mean(values: Sequence[Any]) -> float:
    """Mean of numbers; NaN of none, or if there is something else among them."""
    if not values or not all(map(_is_number, values)):
        return NAN
    return sum(map(float, values)) / len(values)

"""Names of the components of metrics that are vectors over values or groups.

`mean_value[care]` is a component by name, `mean_value[0]` the same by index, from 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mores.core.environment import Environment
from mores.core.metric import Metric
from mores.core.names import name_problem
from mores.core.people import People, Population

_COMPONENT = re.compile(r"\[([^\[\]]+)\]$")
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")


class NamedDimensions(NamedTuple):
    """Names along the dimensions `value` and `group`; empty: no names.

    Attributes:
        value: names of the values.
        group: names of the groups.
    """

    value: tuple[str, ...] = ()
    group: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        environment: Environment[Any],
        population: Population | None,
        people: People | None = None,
    ) -> NamedDimensions:
        """The names of an environment with its population; `people`: of one of its states."""
        values = (population and population.value_names) or environment.value_names
        groups = people.group_names if people is not None else ()
        groups = groups or (population.group_names if population is not None else ())
        return cls(*(names if _are_distinct(names) else () for names in (values, groups)))

    def along(self, dimension: str | None) -> tuple[str, ...]:
        """Names along a dimension."""
        return {"value": self.value, "group": self.group}.get(dimension or "", ())


def metric_dimension(environment: Environment[Any], name: str, metric: Metric | None) -> str | None:
    """Name of the dimension of a metric after the world; None: it has none, or no name.

    Args:
        environment: the environment.
        name: of the metric.
        metric: the registered metric; None: it is the environment's own.
    """
    if metric is not None:
        return metric.component_dimension
    return next(iter(environment.dimension_names.get(name, ())), None)


def component_names(
    environment: Environment[Any], metrics: Mapping[str, Metric | None], names: NamedDimensions
) -> dict[str, tuple[str, ...]]:
    """Names of the components of each metric that has any."""
    found = {n: names.along(metric_dimension(environment, n, m)) for n, m in metrics.items()}
    return {name: components for name, components in found.items() if components}


def split_component(metric: str) -> tuple[str, str | None]:
    """Name and component: (`mean_value`, `care`) of `mean_value[care]`; None: no component."""
    match = _COMPONENT.search(metric)
    return (metric[: match.start()], match[1]) if match else (metric, None)


def component_index(component: str, names: Sequence[str], size: int) -> int | None:
    """Index of a component given by its name or index; None: there is no such component."""
    if component in names[:size]:
        return names.index(component)
    index = int(component) if _INDEX.fullmatch(component) else size
    return index if index < size else None


def component_labels(names: Sequence[str], size: int) -> list[str]:
    """The names of all components if there are as many, else their indices."""
    return list(names) if len(names) == size else [str(i) for i in range(size)]


def _are_distinct(names: Sequence[str]) -> bool:
    """Whether all may be names; a user's classes may return any texts."""
    return len({*names}) == len(names) and not any(map(name_problem, names))

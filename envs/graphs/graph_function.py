"""Graphs from a user's function: `@mores.register("graph", "ring")` above it makes it a kind.

The function takes `num_people` and parameters, and returns the graph of all worlds. If it takes
`values` `[world, agent, value]` or `streams` as well, it returns a list with one graph for each
world. Its other parameters, with their annotations and defaults, are parameters of the kind.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, get_type_hints

from pydantic import create_model

from mores.core.graph import GraphSource

GIVEN = ("num_people", "values", "streams")


class FunctionGraph(GraphSource):
    """A kind of graph made by `function`."""

    function: ClassVar[Callable[..., Any]]
    arguments: ClassVar[frozenset[str]]  # names of `GIVEN` that the function takes

    def shared_graph(self, num_people: int) -> Any:
        """The graph of all worlds, if the function makes one."""
        if self.arguments & {"values", "streams"}:
            return None
        return self._call(num_people=num_people)

    def world_graphs(self, values: Any, streams: Any) -> Any:
        """One graph for each world, if the function makes them."""
        return self._call(num_people=values.shape[1], values=values, streams=streams)

    def _call(self, **given: Any) -> Any:
        own = {name: getattr(self, name) for name in type(self).model_fields}
        given = {name: value for name, value in given.items() if name in self.arguments}
        return type(self).function(**given, **own)


def adapt(kind: str, entry: Any) -> Any:
    """A class for a function; other entries unchanged."""
    if not inspect.isfunction(entry):
        return entry
    hints, fields = get_type_hints(entry, include_extras=True), {}
    parameters = inspect.signature(entry).parameters
    for name, parameter in parameters.items():
        if name not in GIVEN:
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[name] = (hints.get(name, Any), default)
    made = create_model(
        entry.__name__, __base__=FunctionGraph, __module__=entry.__module__, **fields
    )
    made.__doc__ = entry.__doc__
    made.function = entry
    made.arguments = frozenset(parameters) & frozenset(GIVEN)
    return made

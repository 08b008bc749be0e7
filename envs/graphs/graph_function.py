"""Graphs from a user's function: `@mores.register("graph", "ring")` above it makes it a kind.

The function takes `num_people` and parameters, and returns the graph of all worlds. If it takes
`values` `[world, agent, value]` or `streams` as well, it returns a list with one graph for each
world. Its other parameters, with their annotations and defaults, are parameters of the kind.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NoReturn, get_type_hints

from pydantic import TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticSchemaGenerationError

from mores.core.errors import UserError
from mores.core.graph import GraphSource

GIVEN = ("num_people", "values", "streams")
RESERVED = ("kind", "function", "arguments")


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
    """A class for a function; other entries unchanged.

    Raises:
        UserError: the function has an argument that cannot be a parameter, or the entry is another
            callable object.
    """
    if not inspect.isfunction(entry):
        if callable(entry) and not isinstance(entry, (type, GraphSource)):
            _refuse(kind, f"must be a function or a class, not an object of {type(entry).__name__}")
        return entry
    try:
        hints = get_type_hints(entry, include_extras=True)
    except NameError as error:
        _refuse(kind, f"an annotation cannot be read: {error}", "invalid_value")
    parameters = inspect.signature(entry).parameters
    fields = {
        name: _field(kind, parameter, hints)
        for name, parameter in parameters.items()
        if name not in GIVEN
    }
    made = create_model(
        entry.__name__, __base__=FunctionGraph, __module__=entry.__module__, **fields
    )
    made.__doc__ = entry.__doc__
    made.function = entry
    made.arguments = frozenset(parameters) & frozenset(GIVEN)
    return made


def _field(kind: str, parameter: inspect.Parameter, hints: Mapping[str, Any]) -> Any:
    """Type and default of a parameter. Without annotation it has the type of its default."""
    name, default = parameter.name, parameter.default
    if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
        _refuse(kind, f"{parameter} cannot be given by name", "invalid_value")
    if name in RESERVED or name.startswith("_") or hasattr(FunctionGraph, name):
        _refuse(kind, f"a parameter cannot be named {name!r}", "invalid_value")
    if default is parameter.empty:
        return hints.get(name, Any), ...
    annotation = hints.get(name, Any if default is None else type(default))
    try:
        return annotation, TypeAdapter(annotation).validate_python(default)
    except ValidationError as error:
        _refuse(kind, f"default of {name!r}: {error.errors()[0]['msg']}")
    except PydanticSchemaGenerationError:
        _refuse(kind, f"{name!r} has a type, {annotation!r:.60}, that no file can hold")


def _refuse(kind: str, message: str, code: str = "wrong_type") -> NoReturn:
    raise UserError(f"graph {kind!r}: {message}", code=code, path=kind)

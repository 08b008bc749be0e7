"""What a parameter may be, in words: its type, its limits, its default."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

TYPE_NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false"}
LIMIT_PHRASES = {Ge: "at least", Gt: "more than", Le: "at most", Lt: "less than"}


def describe_type(annotation: Any, quote: str = "`") -> str:
    """A type; names that are to be written as they are stand between marks."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return describe_type(inner[0], quote) + describe_limits(_flat_metadata(inner[1:]))
    if origin is Literal:
        return " or ".join(f"{quote}{one}{quote}" for one in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(describe_type(one, quote) for one in inner if one is not type(None))
    if origin is list:
        return f"list of {describe_type(inner[0], quote)}"
    if origin is tuple:
        if inner[-1:] == (...,):
            return f"list of {describe_type(inner[0], quote)}"
        return "[" + ", ".join(describe_type(one, quote) for one in inner) + "]"
    if origin in (dict, Mapping):
        return f"mapping of names to {describe_type(inner[1], quote)}"
    if annotation is Any:
        return "anything"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"{quote}{kind_literal(annotation) or annotation.__name__.lower()}{quote}"
    return TYPE_NAMES.get(annotation) or getattr(annotation, "__name__", str(annotation))


def kind_literal(model: type[BaseModel]) -> str | None:
    """The `kind` by which a file chooses this one among several, if it does."""
    field = model.model_fields.get("kind")
    found = get_args(field.annotation) if field is not None else ()
    return str(found[0]) if len(found) == 1 else None


def describe_limits(metadata: list[Any]) -> str:
    """Limits of a number, after a comma; nothing where there are none."""
    found = []
    for limit in metadata:
        for kind, said in LIMIT_PHRASES.items():
            if isinstance(limit, kind):
                bound = getattr(limit, kind.__name__.lower())
                found.append(f"{said} {'2^63' if bound == 2**63 else f'{bound:,}'}")
    return ", " + " and ".join(found) if found else ""


def _flat_metadata(metadata: tuple[Any, ...]) -> list[Any]:
    """The limits among what stands beside a type."""
    return [
        limit
        for mark in metadata
        for limit in (mark.metadata if isinstance(mark, FieldInfo) else [mark])
    ]


def default_value(field: FieldInfo) -> Any:
    """What a parameter is where nobody says; a group of parameters as a mapping."""
    value = field.get_default(call_default_factory=True)  # type: ignore[call-arg]
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def format_value(value: Any) -> str:
    """A value on one line, as a file would have it."""
    if isinstance(value, Mapping):
        return (
            "{" + ", ".join(f"{name}: {format_value(part)}" for name, part in value.items()) + "}"
        )
    if isinstance(value, (list, tuple, set, frozenset)):
        return "[" + ", ".join(map(format_value, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else str(value)

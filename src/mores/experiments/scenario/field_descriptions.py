"""Text descriptions of a parameter: its type, its limits, its default value."""

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
    """Description of a type. Literal values and kinds stand between quotes."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return describe_type(inner[0], quote) + describe_limits(_flat_metadata(inner[1:]))
    if origin is Literal:
        return " or ".join(f"{quote}{value}{quote}" for value in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(describe_type(part, quote) for part in inner if part is not type(None))
    if origin is list:
        return f"list of {describe_type(inner[0], quote)}"
    if origin is tuple and inner[-1:] == (...,):
        return f"list of {describe_type(inner[0], quote)}"
    if origin is tuple:
        return "[" + ", ".join(describe_type(part, quote) for part in inner) + "]"
    if origin in (dict, Mapping):
        return f"mapping of names to {describe_type(inner[1], quote)}"
    if annotation is Any:
        return "anything"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        is_spec = annotation.model_config.get("extra") == "allow"
        name = "kind" if is_spec else annotation.__name__.lower()
        return f"{quote}{kind_literal(annotation) or name}{quote}"
    return TYPE_NAMES.get(annotation) or getattr(annotation, "__name__", str(annotation))


def kind_literal(model: type[BaseModel]) -> str | None:
    """The only allowed value of a model's `kind`. None without such a field."""
    field = model.model_fields.get("kind")
    values = get_args(field.annotation) if field is not None else ()
    return str(values[0]) if len(values) == 1 else None


def describe_limits(metadata: list[Any]) -> str:
    """Limits of a number, after a comma. Empty without limits."""
    limits = []
    for limit in metadata:
        for kind, phrase in LIMIT_PHRASES.items():
            if isinstance(limit, kind):
                bound = getattr(limit, kind.__name__.lower())
                limits.append(f"{phrase} {'2^63' if bound == 2**63 else f'{bound:,}'}")
    return ", " + " and ".join(limits) if limits else ""


def _flat_metadata(metadata: tuple[Any, ...]) -> list[Any]:
    """Metadata of a type, with those inside a `Field`."""
    nested = [entry.metadata if isinstance(entry, FieldInfo) else [entry] for entry in metadata]
    return [limit for limits in nested for limit in limits]


def default_value(field: FieldInfo) -> Any:
    """Default value of a parameter. A nested model is returned as a mapping."""
    value = field.get_default(call_default_factory=True)  # type: ignore[call-arg]
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def format_value(value: Any) -> str:
    """A value on one line, in the syntax of a scenario file."""
    if isinstance(value, Mapping):
        parts = [f"{name}: {format_value(part)}" for name, part in value.items()]
        return "{" + ", ".join(parts) + "}"
    if isinstance(value, (list, tuple, set, frozenset)):
        return "[" + ", ".join(map(format_value, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else str(value)

"""Text descriptions of a parameter: its type, its limits, its default value."""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

TYPE_NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false"}
LIMIT_PHRASES = {Ge: "at least", Gt: "more than", Le: "at most", Lt: "less than"}


class ParameterInfo(NamedTuple):
    """Name, default, allowed values and description of a parameter, or of a group of parameters."""

    name: str
    default: str
    allowed: str
    description: str


def describe_field(name: str, field: FieldInfo, quote: str = "`") -> ParameterInfo:
    """Description of a field. Literal values and kinds stand between quotes."""
    value = None if field.is_required() else field.get_default(call_default_factory=True)  # type: ignore[call-arg]
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    default = "required" if field.is_required() else format_value(value)
    allowed = describe_type(field.annotation, quote) + describe_limits(field.metadata)
    return ParameterInfo(field.alias or name, default, allowed, field.description or "")


def describe_type(annotation: Any, quote: str = "`") -> str:
    """Description of a type. Literal values and kinds stand between quotes."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return describe_type(inner[0], quote) + describe_limits(inner[1:])
    if origin is Literal:
        return " or ".join(f"{quote}{value}{quote}" for value in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(describe_type(part, quote) for part in inner if part is not type(None))
    if origin is list or (origin is tuple and inner[-1:] == (...,)):
        return f"list of {describe_type(inner[0], quote)}"
    if origin is tuple:
        return "[" + ", ".join(describe_type(part, quote) for part in inner) + "]"
    if origin in (dict, Mapping):
        return f"mapping of names to {describe_type(inner[1], quote)}"
    if annotation is Any:
        return "any value"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        is_spec = annotation.model_config.get("extra") == "allow"
        name = "kind" if is_spec else _words(annotation.__name__)
        return f"{quote}{kind_literal(annotation) or name}{quote}"
    return TYPE_NAMES.get(annotation) or getattr(annotation, "__name__", str(annotation))


def _words(class_name: str) -> str:
    """`answer scale` of `AnswerScale`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", class_name).lower()


def kind_literal(model: type[BaseModel]) -> str | None:
    """The only allowed value of a model's `kind`. None without such a field."""
    field = model.model_fields.get("kind")
    values = get_args(field.annotation) if field is not None else ()
    return str(values[0]) if len(values) == 1 else None


def describe_limits(metadata: Iterable[Any]) -> str:
    """Limits of a number and what may stand in its place, after commas. Empty without either."""
    limits, alternative = [], ""
    for limit in metadata:
        if phrase := LIMIT_PHRASES.get(type(limit)):
            bound = getattr(limit, type(limit).__name__.lower())
            limits.append(f"{phrase} {'2^63' if bound == 2**63 else f'{bound:,}'}")
        elif isinstance(limit, FieldInfo):
            limits += [describe_limits(limit.metadata).removeprefix(", ")]
        elif hasattr(limit, "limits"):  # a `WorldNumber`, whose module imports torch
            limits += [describe_limits(limit.limits).removeprefix(", ")]
            alternative = f", {limit.alternative}" if limit.alternative else ""
    limits = [limit for limit in limits if limit]
    return (", " + " and ".join(limits) if limits else "") + alternative


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

"""Messages for pydantic's validation errors, for scenario files and for Python calls."""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from mores.core.errors import ParameterError, describe_value, did_you_mean, nearest_name, printable

KeyPath = tuple[str | int, ...]  # mapping keys and list indices

MAX_ERRORS = 1000  # that are described: the nearest names of an error take a millisecond

_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
EXPECTED_TYPES = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "dict_type": "a mapping of `key: value` lines",
    "model_type": "a mapping of `key: value` lines",
    "model_attributes_type": "a mapping of `key: value` lines",
    "dataclass_type": "a mapping of `key: value` lines",
}
_SIZES = {
    "string_too_short": ("must have at least", "min_length", "character", "characters"),
    "string_too_long": ("must have at most", "max_length", "character", "characters"),
    "too_short": ("needs at least", "min_length", "entry", "entries"),
    "too_long": ("needs at most", "max_length", "entry", "entries"),
}
_CODES = {
    "extra_forbidden": "unknown_name",
    "missing": "missing",
    "union_tag_invalid": "unknown_name",
    "union_tag_not_found": "missing",
    "literal_error": "invalid_value",
    "string_pattern_mismatch": "invalid_value",
    "finite_number": "not_finite",
    "too_short": "wrong_shape",
    "too_long": "wrong_shape",
    "string_too_short": "invalid_value",
    "string_too_long": "too_large",
    **dict.fromkeys(_BOUNDS, "out_of_range"),
    **dict.fromkeys(EXPECTED_TYPES, "wrong_type"),
}


class ValidationProblem(NamedTuple):
    """One error of a validated object.

    Attributes:
        path: where pydantic found it, without pydantic's names of union members.
        blamed_path: the value to correct, which a validator of a whole model may name.
        message: what is wrong, without the path.
        code: one of `mores.core.errors.CODES`.
        details: pydantic's description.
    """

    path: KeyPath
    blamed_path: KeyPath
    message: str
    code: str
    details: Mapping[str, Any]


def validation_problems(
    error: ValidationError, model: Any, document: Any, unknown_message: str = "unknown key"
) -> list[ValidationProblem]:
    """The errors of a validation, without those that follow from others.

    These are `too_short` because a list item is invalid, and wrong types among those of a union of
    which another one fits but for an error in it.

    At most the first `MAX_ERRORS`.

    Args:
        error: the validation error.
        model: the class under validation, for the known names.
        document: the validated data.
        unknown_message: message for a key that is not a field of the model.
    """
    errors = error.errors(include_url=False)
    parents = {each["loc"][:length] for each in errors for length in range(len(each["loc"]))}
    paths = [_document_path(each, document) for each in errors[:MAX_ERRORS]]
    elsewhere = {
        path[:length]
        for each, path in zip(errors, paths, strict=False)
        for length in range(len(path) + (each["type"] not in EXPECTED_TYPES))
    }
    problems = []
    for details, path in zip(errors, paths, strict=False):
        kind = details["type"]
        if kind == "too_short" and details["loc"] in parents:
            continue
        if kind in EXPECTED_TYPES and details["loc"] != path and path in elsewhere:
            continue  # another type of a union, which fits and has an error in it
        cause = details.get("ctx", {}).get("error")
        if isinstance(cause, ParameterError):
            found = path + cause.path, printable(cause, 300), cause.code
        else:
            message = _message(details, path, model, document, unknown_message)
            code = _CODES.get(kind, "wrong_type" if kind.endswith("_type") else "invalid_value")
            list_is_short = kind == "missing" and isinstance(details["loc"][-1], int)
            found = path, message, "wrong_shape" if list_is_short else code
        problems.append(ValidationProblem(path, *found, details))
    return problems


def _document_path(error: Mapping[str, Any], document: Any) -> KeyPath:
    path: list[str | int] = []
    node, loc = document, error["loc"]
    for i, part in enumerate(loc):
        is_key = isinstance(node, Mapping) and part in node
        is_index = isinstance(node, (list, tuple)) and isinstance(part, int) and part < len(node)
        if is_key or is_index:
            node = node[part]
        elif not (i == len(loc) - 1 and error["type"] == "missing"):
            continue
        path.append(part)
    if error["type"] == "union_tag_invalid":
        path.append(_discriminator(error))
    return tuple(path)


def _message(
    error: Mapping[str, Any], path: KeyPath, model: Any, document: Any, unknown_message: str
) -> str:
    """Message of an error that is not a `ParameterError`, without its path."""
    kind, given, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key_message(path, model, document, unknown_message)
    if kind == "missing" and isinstance(path[-1], int):
        return "the list is too short"
    if kind == "missing":
        field = _fields(_type_at(model, path[:-1])).get(str(path[-1]))
        return f"is missing ({field.description})" if field and field.description else "is missing"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        tag_name = _discriminator(error)
        models = model_classes(_type_at(model, path[:-1] if kind == "union_tag_invalid" else path))
        kinds = [name for each in models for name in _kinds(each, tag_name)]
        if kind == "union_tag_not_found":
            listed = " or ".join([", ".join(kinds[:-1]), *kinds[-1:]] if kinds[1:] else kinds)
            return f"{path[-1]} needs a {tag_name}: {listed}"
        tag = context["tag"]
        return f"unknown {tag_name} {printable(tag, 40)!r}{did_you_mean(tag, kinds)}"
    if kind in _BOUNDS:
        phrase, key = _BOUNDS[kind]
        bound = context[key]
        bound = int(bound) if isinstance(bound, float) and bound.is_integer() else bound
        return f"must be {phrase} {printable(bound)}, not {printable(given, 40)}"
    if kind == "literal_error":
        members = union_members(_type_at(model, path))
        options = [str(option) for member in members for option in get_args(member)]
        hint = nearest_name(given, options) if isinstance(given, str) else ""
        return f"must be {printable(context['expected'], 200)}, not {describe_value(given)}{hint}"
    if kind in EXPECTED_TYPES:
        return f"must be {EXPECTED_TYPES[kind]}, not {describe_value(given)}"
    if kind == "string_too_short" and not given:
        return "must not be empty"
    if kind in _SIZES:
        verb, key, unit, units = _SIZES[kind]
        return f"{verb} one {unit}" if context[key] == 1 else f"{verb} {context[key]} {units}"
    text = str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return printable(text if kind == "value_error" else text[:1].lower() + text[1:], 300)


def _discriminator(error: Mapping[str, Any]) -> str:
    """The key that selects one of several classes."""
    return str(error["ctx"]["discriminator"]).strip("'")


def _unknown_key_message(path: KeyPath, model: Any, document: Any, unknown_message: str) -> str:
    """Message for an unknown key, with the nearest field, or with the fields not given."""
    parent = functools.reduce(lambda node, part: node[part], path[:-1], document)
    kind = parent.get("kind") if isinstance(parent, Mapping) else None
    known = keys_at(model, path[:-1], kind) or []
    hint = nearest_name(path[-1], known)
    hint = hint or did_you_mean("", [name for name in known if name not in parent])
    if isinstance(kind, str) and len(model_classes(_type_at(model, path[:-1]))) > 1:
        unknown_message = f"{printable(kind, 40)} has no such parameter"
    return f"{unknown_message}{hint}"


def keys_at(model: Any, path: KeyPath, kind: object = None) -> list[str] | None:
    """Keys allowed at a path below a model; `None`: any key.

    In a union of models, only the fields of the model that `kind` selects, if there is one.
    """
    models = model_classes(_type_at(model, path))
    chosen = [each for each in models if kind in _kinds(each)] or models
    if any(each.model_config.get("extra") == "allow" for each in chosen):
        return None
    return [name for each in chosen for name in _fields(each)] or None


def union_members(annotation: Any) -> list[Any]:
    """The types that an annotation allows."""
    if get_origin(annotation) is Annotated:
        return union_members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [member for part in get_args(annotation) for member in union_members(part)]
    return [annotation]


def child_type(annotation: Any, part: str | int) -> Any:
    """The type of the value at a key or list index."""
    for member in union_members(annotation):
        if field := _fields(member).get(str(part)):
            return field.annotation
        if get_origin(member) in (list, tuple, set, frozenset, dict) and get_args(member):
            return get_args(member)[-1 if get_origin(member) is dict else 0]
    return Any


def _type_at(model: Any, path: KeyPath) -> Any:
    return functools.reduce(child_type, path, model)


def model_classes(annotation: Any) -> list[type[BaseModel]]:
    """The model classes that an annotation allows."""
    members = union_members(annotation)
    return [each for each in members if isinstance(each, type) and issubclass(each, BaseModel)]


def _fields(annotation: Any) -> dict[str, FieldInfo]:
    """Fields of the model classes that an annotation allows, by the names in a document."""
    return {
        field.alias or name: field
        for model in model_classes(annotation)
        for name, field in model.model_fields.items()
    }


def _kinds(model: type[BaseModel], tag: str = "kind") -> list[str]:
    """Values of the discriminator `tag` that select a class."""
    field = model.model_fields.get(tag)
    return [] if field is None else [str(name) for name in get_args(field.annotation)]

"""Messages for pydantic's validation errors, for scenario files and for Python calls."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from mores.core.errors import ParameterError, describe_value, did_you_mean, nearest_name, printable

KeyPath = tuple[str | int, ...]  # mapping keys and list indices

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
        path: where pydantic found it.
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
    """The errors of a validation, each with its path, message and code.

    Args:
        error: the validation error.
        model: the class under validation, for the known names.
        document: the validated data.
        unknown_message: message for a key that is not a field of the model.
    """
    problems = []
    for details in validation_errors(error):
        path = error_path(details, document)
        message = error_message(details, path, model, document, unknown_message)
        blamed = blamed_path(details, document)
        problems.append(ValidationProblem(path, blamed, message, error_code(details), details))
    return problems


def error_code(error: Mapping[str, Any]) -> str:
    """The code of an error: one of `mores.core.errors.CODES`."""
    cause, kind = error.get("ctx", {}).get("error"), error["type"]
    if isinstance(cause, ParameterError):
        return cause.code
    if kind == "missing" and isinstance(error["loc"][-1], int):  # a list is too short
        return "wrong_shape"
    return _CODES.get(kind, "wrong_type" if kind.endswith("_type") else "invalid_value")


def blamed_path(error: Mapping[str, Any], document: Any) -> KeyPath:
    """The path of the value to correct, which a validator of a whole model may name."""
    cause = error.get("ctx", {}).get("error")
    field_path = cause.path if isinstance(cause, ParameterError) else ()
    return error_path(error, document) + field_path


def validation_errors(error: ValidationError) -> list[Any]:
    """Validation errors, minus `too_short` errors caused by an invalid list item."""
    errors = error.errors(include_url=False)
    parents = {each["loc"][:length] for each in errors for length in range(len(each["loc"]))}
    return [each for each in errors if each["type"] != "too_short" or each["loc"] not in parents]


def error_path(error: Mapping[str, Any], document: Any) -> KeyPath:
    """The path of an error in the document, without pydantic's names of union members."""
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


def error_message(
    error: Mapping[str, Any],
    path: KeyPath,
    model: Any,
    document: Any,
    unknown_message: str = "unknown key",
) -> str:
    """Message of an error, without its path.

    Args:
        error: one of `validation_errors`.
        path: its `error_path`.
        model: the class under validation, for the known names.
        document: the validated data.
        unknown_message: message for a key that is not a field of the model.
    """
    kind, given, context = error["type"], error["input"], error.get("ctx", {})
    if isinstance(context.get("error"), ParameterError):
        return printable(context["error"], 300)
    if kind == "extra_forbidden":
        return _unknown_key_message(path, model, document, unknown_message)
    if kind == "missing":
        return _missing_message(model, path)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        classes = _models_at(model, path[:-1] if kind == "union_tag_invalid" else path)
        kinds = [name for each in classes for name in kinds_of(each, _discriminator(error))]
        if kind == "union_tag_not_found":
            return f"{path[-1]} needs a {_discriminator(error)}: {_join_with_or(kinds)}"
        tag, hint = printable(context["tag"], 40), did_you_mean(context["tag"], kinds)
        return f"unknown {_discriminator(error)} {tag!r}{hint}"
    if kind in _BOUNDS:
        phrase, key = _BOUNDS[kind]
        bound = context[key]
        bound = int(bound) if isinstance(bound, float) and bound.is_integer() else bound
        return f"must be {phrase} {printable(bound)}, not {printable(given, 40)}"
    if kind == "literal_error":
        hint = nearest_name(given, _choices_at(model, path)) if isinstance(given, str) else ""
        return f"must be {printable(context['expected'], 200)}, not {describe_value(given)}{hint}"
    if kind in EXPECTED_TYPES:
        return f"must be {EXPECTED_TYPES[kind]}, not {describe_value(given)}"
    if kind == "string_too_short" and not given:
        return "must not be empty"
    if kind in ("string_too_long", "string_too_short"):
        bound = context.get("max_length", context.get("min_length"))
        return f"must have at {'most' if 'long' in kind else 'least'} {bound} characters"
    if kind in ("too_short", "too_long"):
        bound = context.get("min_length" if kind == "too_short" else "max_length")
        return f"needs at {'least' if kind == 'too_short' else 'most'} {bound} entries"
    text = str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return printable(text if kind == "value_error" else text[:1].lower() + text[1:], 300)


def _discriminator(error: Mapping[str, Any]) -> str:
    """The key that selects one of several classes."""
    return str(error["ctx"]["discriminator"]).strip("'")


def _join_with_or(names: list[str]) -> str:
    return ", ".join(names[:-1]) + f" or {names[-1]}" if len(names) > 1 else "".join(names)


def _unknown_key_message(path: KeyPath, model: Any, document: Any, unknown_message: str) -> str:
    """Message for an unknown key, with the nearest field, or with the fields not given."""
    parent = _value_at(document, path[:-1])
    kind = parent.get("kind") if isinstance(parent, Mapping) else None
    known = keys_at(model, path[:-1], kind) or []
    hint = nearest_name(printable(path[-1]), known)
    hint = hint or did_you_mean("", [name for name in known if name not in parent])
    if isinstance(kind, str) and len(_models_at(model, path[:-1])) > 1:
        unknown_message = f"{printable(kind, 40)} has no such parameter"
    return f"{unknown_message}{hint}"


def _value_at(document: Any, path: KeyPath) -> Any:
    for part in path:
        document = document[part]
    return document


def keys_at(model: Any, path: KeyPath, kind: object = None) -> list[str] | None:
    """Keys allowed at a path below a model; `None`: any key.

    In a union of models, only the fields of the model that `kind` selects, if there is one.
    """
    classes = _models_at(model, path)
    names: list[str] = []
    for each in [c for c in classes if kind in kinds_of(c)] or classes:
        if each.model_config.get("extra") == "allow":
            return None
        names += [field.alias or name for name, field in each.model_fields.items()]
    return names or None


def kinds_of(model: type[BaseModel], tag: str = "kind") -> list[str]:
    """Values of the discriminator `tag` that select a class."""
    field = model.model_fields.get(tag)
    return [] if field is None else [str(name) for name in get_args(field.annotation)]


def _models_at(model: Any, path: KeyPath) -> list[type[BaseModel]]:
    """The model classes allowed at a path below a model."""
    for part in path:
        model = child_type(model, part)
    members = union_members(model)
    return [each for each in members if isinstance(each, type) and issubclass(each, BaseModel)]


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
        if isinstance(member, type) and issubclass(member, BaseModel):
            for name, field in member.model_fields.items():
                if part == (field.alias or name):
                    return field.annotation
        elif get_origin(member) in (list, tuple, set, frozenset, dict) and get_args(member):
            return get_args(member)[-1 if get_origin(member) is dict else 0]
    return Any


def _missing_message(model: Any, path: KeyPath) -> str:
    if isinstance(path[-1], int):
        return "the list is too short"
    parent: Any = model
    for part in path[:-1]:
        parent = child_type(parent, part)
    for member in union_members(parent):
        if isinstance(member, type) and issubclass(member, BaseModel):
            for name, field in member.model_fields.items():
                if path[-1] == (field.alias or name) and field.description:
                    return f"is missing ({field.description})"
    return "is missing"


def _choices_at(model: Any, path: KeyPath) -> list[str]:
    for part in path:
        model = child_type(model, part)
    return [str(option) for member in union_members(model) for option in get_args(member)]

"""What pydantic found wrong with parameters, in words: for scenario files, and from Python."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from mores.core.errors import ParameterError, describe_value, did_you_mean, printable

KeyPath = tuple[str | int, ...]  # of keys and list positions

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


def code_of(found: Mapping[str, Any]) -> str:
    """The code of what pydantic found: one of `mores.core.errors.CODES`."""
    cause, kind = found.get("ctx", {}).get("error"), found["type"]
    if isinstance(cause, ParameterError):
        return cause.code
    if kind == "missing" and isinstance(found["loc"][-1], int):  # a list is too short
        return "wrong_shape"
    return _CODES.get(kind, "wrong_type" if kind.endswith("_type") else "invalid_value")


def blame_of(found: Mapping[str, Any], document: Any) -> KeyPath:
    """The path of what is to be put right: a check of several parameters says which of them."""
    cause = found.get("ctx", {}).get("error")
    below = cause.path if isinstance(cause, ParameterError) else ()
    return error_path(found, document) + below


def validation_errors(error: ValidationError) -> list[Any]:
    """All that is wrong, without lists that are too short since an entry of them is wrong."""
    found = error.errors(include_url=False)
    above = {one["loc"][:length] for one in found for length in range(len(one["loc"]))}
    return [one for one in found if one["type"] != "too_short" or one["loc"] not in above]


def error_path(error: Mapping[str, Any], document: Any) -> KeyPath:
    """The path of a problem: pydantic also names the branch of a union it tried."""
    path: list[str | int] = []
    node, loc = document, error["loc"]
    for i, part in enumerate(loc):
        inside = isinstance(node, Mapping) and part in node
        listed = isinstance(node, (list, tuple)) and isinstance(part, int) and part < len(node)
        if inside or listed:
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
    unknown_message: str = "there is no such key",
) -> str:
    """What is wrong, without saying where.

    Args:
        error: one of what was `validation_errors` an error.
        path: of the problem, see `error_path`.
        model: the class that was to be made, for the names it knows.
        document: what it was to be made from.
        unknown_message: what to say of a name that the model does not know.
    """
    kind, given, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key_message(path, model, document, unknown_message)
    if kind == "missing":
        return _missing_message(model, path)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        classes = _models_at(model, path[:-1] if kind == "union_tag_invalid" else path)
        kinds = [name for one in classes for name in kinds_of(one, _discriminator(error))]
        if kind == "union_tag_not_found":
            return f"{path[-1]} needs a {_discriminator(error)}: {_join_with_or(kinds)}"
        return f"there is no {printable(context['tag'], 40)!r}{did_you_mean(context['tag'], kinds)}"
    if kind in _BOUNDS:
        phrase, key = _BOUNDS[kind]
        bound = context[key]
        bound = int(bound) if isinstance(bound, float) and bound.is_integer() else bound
        return f"must be {phrase} {printable(bound)}, not {printable(given, 40)}"
    if kind == "literal_error":
        near = did_you_mean(given, _choices_at(model, path)) if isinstance(given, str) else ""
        near = near if "mean" in near else ""
        return f"must be {printable(context['expected'], 200)}, not {describe_value(given)}{near}"
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
    return (
        printable(text[:1].lower() + text[1:], 300)
        if kind != "value_error"
        else printable(text, 300)
    )


def _discriminator(error: Mapping[str, Any]) -> str:
    """The key that says which of several classes is meant."""
    return str(error["ctx"]["discriminator"]).strip("'")


def _join_with_or(names: list[str]) -> str:
    return ", ".join(names[:-1]) + f" or {names[-1]}" if len(names) > 1 else "".join(names)


def _unknown_key_message(path: KeyPath, model: Any, document: Any, unknown_message: str) -> str:
    """What to say of a name that is not known: the nearest, or what else there is."""
    holder = _value_at(document, path[:-1])
    kind = holder.get("kind") if isinstance(holder, Mapping) else None
    known = keys_at(model, path[:-1], kind) or []
    near = did_you_mean(printable(path[-1]), known)
    if "did you mean" not in near:  # a list of what may be meant: not of what is there
        near = did_you_mean("", [name for name in known if name not in holder])
    if isinstance(kind, str) and len(_models_at(model, path[:-1])) > 1:
        unknown_message = f"{printable(kind, 40)} has no such parameter"
    return f"{unknown_message}{near}"


def _value_at(document: Any, path: KeyPath) -> Any:
    for part in path:
        document = document[part]
    return document


def keys_at(model: Any, path: KeyPath, kind: object = None) -> list[str] | None:
    """The keys that may stand at a path below a model; `None` where any may.

    Where classes of several kinds may stand there, those of that `kind`, if it is one of them.
    """
    classes = _models_at(model, path)
    names: list[str] = []
    for one in [c for c in classes if kind in kinds_of(c)] or classes:
        if one.model_config.get("extra") == "allow":
            return None
        names += [field.alias or name for name, field in one.model_fields.items()]
    return names or None


def kinds_of(model: type[BaseModel], tag: str = "kind") -> list[str]:
    """What a class is called among others that may stand at its place."""
    field = model.model_fields.get(tag)
    return [] if field is None else [str(name) for name in get_args(field.annotation)]


def _models_at(model: Any, path: KeyPath) -> list[type[BaseModel]]:
    """The classes that may be made of what stands at a path below a model."""
    for part in path:
        model = child_type(model, part)
    found = union_members(model)
    return [one for one in found if isinstance(one, type) and issubclass(one, BaseModel)]


def union_members(annotation: Any) -> list[Any]:
    """The types an annotation allows."""
    if get_origin(annotation) is Annotated:
        return union_members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [branch for part in get_args(annotation) for branch in union_members(part)]
    return [annotation]


def child_type(annotation: Any, part: str | int) -> Any:
    """The type of what stands under a key or in a list."""
    for branch in union_members(annotation):
        if isinstance(branch, type) and issubclass(branch, BaseModel):
            for name, field in branch.model_fields.items():
                if part == (field.alias or name):
                    return field.annotation
        elif get_origin(branch) in (list, tuple, set, frozenset, dict) and get_args(branch):
            return get_args(branch)[-1 if get_origin(branch) is dict else 0]
    return Any


def _missing_message(model: Any, path: KeyPath) -> str:
    if isinstance(path[-1], int):
        return "the list is too short"
    parent: Any = model
    for part in path[:-1]:
        parent = child_type(parent, part)
    for branch in union_members(parent):
        if isinstance(branch, type) and issubclass(branch, BaseModel):
            for name, field in branch.model_fields.items():
                if path[-1] == (field.alias or name) and field.description:
                    return f"is missing ({field.description})"
    return "is missing"


def _choices_at(model: Any, path: KeyPath) -> list[str]:
    for part in path:
        model = child_type(model, part)
    return [str(option) for branch in union_members(model) for option in get_args(branch)]

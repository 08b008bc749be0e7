"""What pydantic found wrong with parameters, in words: for scenario files, and from Python."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from mores.core.errors import ParameterError, did_you_mean, said, shown

Path = tuple[str | int, ...]  # of keys and list positions

_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
WANTED = {
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
    **dict.fromkeys(WANTED, "wrong_type"),
}


def code_of(found: Mapping[str, Any]) -> str:
    """The code of what pydantic found: one of `mores.core.errors.CODES`."""
    cause, kind = found.get("ctx", {}).get("error"), found["type"]
    if isinstance(cause, ParameterError):
        return cause.code
    if kind == "missing" and isinstance(found["loc"][-1], int):  # a list is too short
        return "wrong_shape"
    return _CODES.get(kind, "wrong_type" if kind.endswith("_type") else "invalid_value")


def blame_of(found: Mapping[str, Any], document: Any) -> Path:
    """The path of what is to be put right: a check of several parameters says which of them."""
    cause = found.get("ctx", {}).get("error")
    below = cause.path if isinstance(cause, ParameterError) else ()
    return path_of(found, document) + below


def found_in(error: ValidationError) -> list[Any]:
    """All that is wrong, without lists that are too short since an entry of them is wrong."""
    found = error.errors(include_url=False)
    above = {one["loc"][:length] for one in found for length in range(len(one["loc"]))}
    return [one for one in found if one["type"] != "too_short" or one["loc"] not in above]


def path_of(found: Mapping[str, Any], document: Any) -> Path:
    """The path of a problem: pydantic also names the branch of a union it tried."""
    path: list[str | int] = []
    node, loc = document, found["loc"]
    for i, part in enumerate(loc):
        inside = isinstance(node, Mapping) and part in node
        listed = isinstance(node, (list, tuple)) and isinstance(part, int) and part < len(node)
        if inside or listed:
            node = node[part]
        elif not (i == len(loc) - 1 and found["type"] == "missing"):
            continue
        path.append(part)
    if found["type"] == "union_tag_invalid":
        path.append(_tag(found))
    return tuple(path)


def words(
    found: Mapping[str, Any],
    path: Path,
    model: Any,
    document: Any,
    unknown: str = "there is no such key",
) -> str:
    """What is wrong, without saying where.

    Args:
        found: one of what was `found_in` an error.
        path: of the problem, see `path_of`.
        model: the class that was to be made, for the names it knows.
        document: what it was to be made from.
        unknown: what to say of a name that the model does not know.
    """
    kind, given, context = found["type"], found["input"], found.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown(path, model, document, unknown)
    if kind == "missing":
        return _missing(model, path)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        classes = _classes(model, path[:-1] if kind == "union_tag_invalid" else path)
        kinds = [name for one in classes for name in kinds_of(one, _tag(found))]
        if kind == "union_tag_not_found":
            return f"{path[-1]} needs a {_tag(found)}: {_listed(kinds)}"
        return f"there is no {shown(context['tag'], 40)!r}{did_you_mean(context['tag'], kinds)}"
    if kind in _BOUNDS:
        phrase, key = _BOUNDS[kind]
        bound = context[key]
        bound = int(bound) if isinstance(bound, float) and bound.is_integer() else bound
        return f"must be {phrase} {shown(bound)}, not {shown(given, 40)}"
    if kind == "literal_error":
        near = did_you_mean(given, _options(model, path)) if isinstance(given, str) else ""
        near = near if "mean" in near else ""
        return f"must be {shown(context['expected'], 200)}, not {said(given)}{near}"
    if kind in WANTED:
        return f"must be {WANTED[kind]}, not {said(given)}"
    if kind == "string_too_short" and not given:
        return "must not be empty"
    if kind in ("string_too_long", "string_too_short"):
        bound = context.get("max_length", context.get("min_length"))
        return f"must have at {'most' if 'long' in kind else 'least'} {bound} characters"
    if kind in ("too_short", "too_long"):
        bound = context.get("min_length" if kind == "too_short" else "max_length")
        return f"needs at {'least' if kind == 'too_short' else 'most'} {bound} entries"
    text = str(found["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return shown(text[:1].lower() + text[1:], 300) if kind != "value_error" else shown(text, 300)


def _tag(found: Mapping[str, Any]) -> str:
    """The key that says which of several classes is meant."""
    return str(found["ctx"]["discriminator"]).strip("'")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:-1]) + f" or {names[-1]}" if len(names) > 1 else "".join(names)


def _unknown(path: Path, model: Any, document: Any, unknown: str) -> str:
    """What to say of a name that is not known: the nearest, or what else there is."""
    holder = _at(document, path[:-1])
    kind = holder.get("kind") if isinstance(holder, Mapping) else None
    known = names_at(model, path[:-1], kind) or []
    near = did_you_mean(shown(path[-1]), known)
    if "did you mean" not in near:  # a list of what may be meant: not of what is there
        near = did_you_mean("", [name for name in known if name not in holder])
    if isinstance(kind, str) and len(_classes(model, path[:-1])) > 1:
        unknown = f"{shown(kind, 40)} has no such parameter"
    return f"{unknown}{near}"


def _at(document: Any, path: Path) -> Any:
    for part in path:
        document = document[part]
    return document


def names_at(model: Any, path: Path, kind: object = None) -> list[str] | None:
    """The keys that may stand at a path below a model; `None` where any may.

    Where classes of several kinds may stand there, those of that `kind`, if it is one of them.
    """
    classes = _classes(model, path)
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


def _classes(model: Any, path: Path) -> list[type[BaseModel]]:
    """The classes that may be made of what stands at a path below a model."""
    for part in path:
        model = below(model, part)
    found = branches_of(model)
    return [one for one in found if isinstance(one, type) and issubclass(one, BaseModel)]


def branches_of(annotation: Any) -> list[Any]:
    """The types an annotation allows."""
    if get_origin(annotation) is Annotated:
        return branches_of(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [branch for part in get_args(annotation) for branch in branches_of(part)]
    return [annotation]


def below(annotation: Any, part: str | int) -> Any:
    """The type of what stands under a key or in a list."""
    for branch in branches_of(annotation):
        if isinstance(branch, type) and issubclass(branch, BaseModel):
            for name, field in branch.model_fields.items():
                if part == (field.alias or name):
                    return field.annotation
        elif get_origin(branch) in (list, tuple, set, frozenset, dict) and get_args(branch):
            return get_args(branch)[-1 if get_origin(branch) is dict else 0]
    return Any


def _missing(model: Any, path: Path) -> str:
    if isinstance(path[-1], int):
        return "the list is too short"
    parent: Any = model
    for part in path[:-1]:
        parent = below(parent, part)
    for branch in branches_of(parent):
        if isinstance(branch, type) and issubclass(branch, BaseModel):
            for name, field in branch.model_fields.items():
                if path[-1] == (field.alias or name) and field.description:
                    return f"is missing ({field.description})"
    return "is missing"


def _options(model: Any, path: Path) -> list[str]:
    for part in path:
        model = below(model, part)
    return [str(option) for branch in branches_of(model) for option in get_args(branch)]

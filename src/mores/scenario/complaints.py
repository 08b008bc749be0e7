"""What pydantic found wrong, in the words of somebody who writes scenario files."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from mores.errors import did_you_mean
from mores.scenario.document import IN_WORDS, At, Kind
from mores.scenario.places import Path, Places, Problem, said, shown
from mores.scenario.strict_yaml import type_of

_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
_WANTED = {
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


def problems_of(
    error: ValidationError,
    model: type[BaseModel],
    document: Any,
    places: Places,
    below: Path = (),
    place_of: Mapping[Path, Path] | None = None,
    unknown: str = "there is no such key",
) -> list[Problem]:
    """One problem for each place at which something is wrong.

    Args:
        error: what pydantic raised.
        model: the class that was to be made, for the names it knows.
        document: what it was to be made from.
        places: where things stand.
        below: where the document stands in the whole scenario.
        place_of: by path in the scenario (the longest that fits), its path in the file.
        unknown: what to say of a name that the model does not know.
    """

    def to_file(path: Path) -> Path:
        found = in_file(below + path, place_of or {})
        known = found in places.values or len(path) == 0
        return found if known else _setter(below + path, place_of or {}) or found

    messages: dict[tuple[Path, bool], list[str]] = {}
    for found in error.errors(include_url=False):
        path = _without_tags(found, document)
        on_key = found["type"] in ("extra_forbidden", "missing") or found["loc"][-1:] == ("[key]",)
        written = places.texts.get(to_file(path))
        message = _message(found, path, model, document, written, unknown)
        known = messages.setdefault((path, on_key), [])
        if message not in known:
            known.append(message)
    problems = []
    for (path, on_key), known in messages.items():
        where = to_file(path)
        if on_key and where not in places.keys and where and isinstance(where[-1], int):
            where = where[:-1]  # one value of a sweep: its path is the key
        place = places.key(where) if on_key else places.value(where)
        problems.append(Problem(place, where, " or ".join(known)))
    return problems


def in_file(path: Path, place_of: Mapping[Path, Path]) -> Path:
    """The path in the file of what stands at `path` once arms and sweeps are put in."""
    for length in range(len(path), 0, -1):
        if path[:length] in place_of:
            return place_of[path[:length]] + path[length:]
    return path


def _setter(path: Path, place_of: Mapping[Path, Path]) -> Path | None:
    """What made a part that is there only because something below it is set."""
    return next((where for put, where in place_of.items() if put[: len(path)] == path), None)


def names_at(model: Any, path: Path) -> list[str] | None:
    """The keys that may stand at a path below a model; `None` where any may."""
    for part in path:
        model = _below(model, part)
    names: list[str] = []
    for branch in _branches(model):
        if not (isinstance(branch, type) and issubclass(branch, BaseModel)):
            continue
        if branch.model_config.get("extra") == "allow":
            return None
        names += [field.alias or name for name, field in branch.model_fields.items()]
    return names or None


def _branches(annotation: Any) -> list[Any]:
    """The types an annotation allows."""
    if get_origin(annotation) is Annotated:
        return _branches(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [branch for part in get_args(annotation) for branch in _branches(part)]
    return [annotation]


def _below(annotation: Any, part: str | int) -> Any:
    """The type of what stands under a key or in a list."""
    for branch in _branches(annotation):
        if isinstance(branch, type) and issubclass(branch, BaseModel):
            for name, field in branch.model_fields.items():
                if part == (field.alias or name):
                    return field.annotation
        elif get_origin(branch) in (list, tuple, set, frozenset, dict) and get_args(branch):
            return get_args(branch)[-1 if get_origin(branch) is dict else 0]
    return Any


def _without_tags(found: Any, document: Any) -> Path:
    """The path of a problem: pydantic also names the branch of a union it tried."""
    path: list[str | int] = []
    node, loc = document, found["loc"]
    for i, part in enumerate(loc):
        inside = isinstance(node, Mapping) and part in node
        listed = isinstance(node, list) and isinstance(part, int) and part < len(node)
        if inside or listed:
            node = node[part]
        elif not (i == len(loc) - 1 and found["type"] == "missing"):
            continue
        path.append(part)
    cause = found.get("ctx", {}).get("error")
    return (*path, *cause.path) if isinstance(cause, At) else tuple(path)


def _message(
    found: Any,
    path: Path,
    model: type[BaseModel],
    document: Any,
    written: str | None,
    unknown: str,
) -> str:
    kind, given, context = found["type"], found["input"], found.get("ctx", {})
    if kind == "extra_forbidden":
        known = names_at(model, path[:-1]) or []
        near = did_you_mean(shown(path[-1]), known)
        if "did you mean" not in near:  # a list of what may be meant: not of what is there
            near = did_you_mean("", [name for name in known if not _holds(document, path, name)])
        return f"{unknown}{near}"
    if kind == "missing":
        return _missing(model, path)
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        bound = context[key]
        bound = int(bound) if isinstance(bound, float) and bound.is_integer() else bound
        return f"must be {words} {shown(bound)}, not {shown(given, 40)}"
    if kind == "literal_error":
        near = did_you_mean(given, _options(model, path)) if isinstance(given, str) else ""
        near = near if "mean" in near else ""
        return f"must be {shown(context['expected'], 200)}, not {said(given)}{near}"
    if kind in _WANTED:
        hint = _hint(_WANTED[kind], given, path, model, written)
        return f"must be {_WANTED[kind]}, not {said(given)}{hint}"
    if kind == "string_pattern_mismatch":
        allowed = IN_WORDS.get(context["pattern"], f"text that fits {context['pattern']}")
        return f"must be {allowed}; it is {said(given)}"
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


def _holds(document: Any, path: Path, name: str) -> bool:
    """Whether a known name is given already, beside the unknown one at `path`."""
    for part in path[:-1]:
        document = document[part]
    return name in document


def _missing(model: type[BaseModel], path: Path) -> str:
    if isinstance(path[-1], int):
        return "the list is too short"
    parent: Any = model
    for part in path[:-1]:
        parent = _below(parent, part)
    for branch in _branches(parent):
        if isinstance(branch, type) and issubclass(branch, BaseModel):
            for name, field in branch.model_fields.items():
                if path[-1] == (field.alias or name) and field.description:
                    return f"is missing ({field.description})"
    return "is missing"


def _options(model: Any, path: Path) -> list[str]:
    for part in path:
        model = _below(model, part)
    return [str(option) for branch in _branches(model) for option in get_args(branch)]


def _hint(wanted: str, given: Any, path: Path, model: Any, written: str | None) -> str:
    """How to write what was probably meant."""
    if wanted == "text" and isinstance(given, (bool, int, float)):
        return f": put it in quotes, '{shown(written if written is not None else given, 40)}'"
    if wanted == "a whole number" and isinstance(given, float) and given.is_integer():
        return f": write {int(given)}"
    if isinstance(given, str) and wanted in ("a whole number", "a number", "true or false"):
        if type_of(given) in ("int", "float", "bool"):
            return ": leave out the quotes"
        without = given.replace("_", "")
        if without != given and type_of(without) in ("int", "float"):
            return f": write {shown(without, 40)}"
    if isinstance(given, str) and given.isidentifier() and "mapping" in wanted:
        for part in path:
            model = _below(model, part)
        if Kind in _branches(model):
            return f": write {{kind: {shown(given, 40)}}}"
    return ""

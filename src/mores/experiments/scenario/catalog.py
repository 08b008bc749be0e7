"""Catalog of the registries: summaries, tags and parameters of their entries."""

from __future__ import annotations

import inspect
import types
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mores.core.errors import UserError, did_you_mean
from mores.experiments.scenario.class_source import (
    UnreadableClassError,
    class_skeleton,
    source_docstring,
)
from mores.experiments.scenario.field_descriptions import (
    default_value,
    describe_limits,
    describe_type,
    format_value,
    kind_literal,
)
from mores.experiments.scenario.loading import known_scenarios
from mores.experiments.scenario.source_locations import printable
from mores.experiments.scenario.strict_yaml import parse
from mores.registry import REGISTRIES, class_of
from mores.registry.component import component


class CatalogEntry(NamedTuple):
    """An entry of a registry.

    Attributes:
        category: name of the registry.
        name: name in scenario files and on the command line.
        summary: first line of the docstring, or `about` of the scenario.
        tags: values by name; for a scenario `source`, `construct` and `env`, its environment.
    """

    category: str
    name: str
    summary: str
    tags: Mapping[str, Any]


def list_entries() -> list[CatalogEntry]:
    """All entries, by registry. Where a class cannot be imported, its summary says so."""
    return [
        _scenario_entry(name) if registry == "scenario" else _component_entry(registry, name)
        for registry, names in REGISTRIES.items()
        for name in sorted(names)
    ]


def _component_entry(registry: str, name: str) -> CatalogEntry:
    """Entry of a class or function. Of a location only the source is read: nothing is imported."""
    location = REGISTRIES[registry][name]
    if not isinstance(location, str):
        return _entry_of(location, registry, name)
    try:
        return _entry_of(class_skeleton(location), registry, name)
    except UnreadableClassError:  # a function, or a class whose tags are computed
        summary = source_docstring(location)
        return CatalogEntry(registry, name, summary.partition("\n")[0], {})


def _entry_of(component: Any, registry: str, name: str) -> CatalogEntry:
    """Entry of a class. For a learner, `loop` lists the stage loops in which it trains."""
    summary = (inspect.getdoc(component) or "").partition("\n")[0]
    tags = dict(getattr(component, "tags", {}))
    if registry in ("policy", "recipe"):
        modes = getattr(component, "trains", ())
        if not isinstance(modes, Collection):
            modes = ("online", "offline")  # a property: those of its members
        loops = {"online": "train", "offline": "fit_offline"}
        if modes:
            tags |= {"trains": True, "loop": [loops[mode] for mode in loops if mode in modes]}
    return CatalogEntry(registry, name, summary, tags)


def _scenario_entry(name: str) -> CatalogEntry:
    try:
        file = known_scenarios()[name]
        document = parse(file.read_text(encoding="utf-8"), file.name).document
        about = " ".join(str(document["about"]).split())
    except (UserError, OSError, UnicodeDecodeError, TypeError, KeyError):
        return CatalogEntry("scenario", name, f"(see mores check {name})", {})
    tags = {key: document[key] for key in ("source", "construct") if key in document}
    env = document.get("env")
    return CatalogEntry("scenario", name, about, {**tags, **({"env": env["kind"]} if env else {})})


def filter_entries(
    entries: Sequence[CatalogEntry], conditions: Iterable[str]
) -> list[CatalogEntry]:
    """Entries that meet every condition, a tag (`stochastic`) or a value (`paper=2506.06166`).

    Raises:
        UserError: no entry has the tag; the message suggests the closest one.
    """
    known = {tag for entry in entries for tag in entry.tags}
    for condition in conditions:
        tag, equals, value = condition.partition("=")
        if tag not in known:
            raise UserError(
                f"--where {printable(condition)}: no entry has the tag {printable(tag, 40)!r}"
                f"{did_you_mean(tag, known)}",
                code="unknown_name",
                path="where",
            )
        entries = [entry for entry in entries if _has_tag(entry, tag, value if equals else None)]
    return list(entries)


def _has_tag(entry: CatalogEntry, tag: str, value: str | None) -> bool:
    content = entry.tags.get(tag)
    if value is None:
        return bool(content)
    contents = content if isinstance(content, (list, tuple, set, frozenset)) else [content]
    return value.lower() in {str(item).lower() for item in contents if item is not None}


def format_tag(tag: tuple[str, Any]) -> str:
    """Text of a tag, such as `stochastic`, `not real` (false), `paper 2506.06166`."""
    name, value = tag
    if isinstance(value, bool):
        return name if value else f"not {name}"
    if isinstance(value, (list, tuple, set, frozenset)):
        value = " ".join(str(item) for item in value)
    return f"{name} {value}"


class ParameterInfo(NamedTuple):
    """Name, default, allowed values and description of a parameter, or of a group of parameters."""

    name: str
    default: str
    allowed: str
    description: str


class KindDescription(NamedTuple):
    """Documentation of an entry of a registry."""

    registry: str
    text: str
    parameters: list[ParameterInfo]


def describe_kind(name: str) -> list[KindDescription]:
    """Documentation of the entries of that name, one for each registry that has it.

    Raises:
        UserError: no registry has that name, or it is a scenario.
    """
    found = []
    for registry, names in REGISTRIES.items():
        if name in names and registry != "scenario":
            entry = class_of(registry, name)
            found.append(
                KindDescription(registry, _description(entry, registry), _parameter_infos(entry))
            )
    if found:
        return found
    known = [each for names in REGISTRIES.values() for each in names]
    hint = did_you_mean(printable(name), known)
    if name in REGISTRIES["scenario"]:
        hint = f"; it is a scenario: mores check {name}"
    raise UserError(
        f"nothing is registered as {printable(name)!r}{hint}", code="unknown_name", path=name
    )


def _description(component_class: Any, registry: str) -> str:
    """Docstring of a class; for an environment also of its metrics and analytic values."""
    from mores.core.environment import Environment

    parts = [inspect.getdoc(component_class) or ""]
    titles = {"metrics": "Metrics", "analytic_values": "Analytic values"}
    for name, title in titles.items() if registry == "environment" else ():
        doc = inspect.getdoc(getattr(component_class, name, None))
        if doc and doc != inspect.getdoc(getattr(Environment, name)):
            first, _, rest = doc.partition("\n")
            lines = (rest.strip() or first).split("\n")
            body = "\n".join(f"    {line}" if line else "" for line in lines)
            parts.append(f"{title}:\n{body}")
    return "\n\n".join(parts)


def _parameter_infos(component_class: Any, prefix: str = "", kind: str = "") -> list[ParameterInfo]:
    """Fields of a class. Fields of nested models have dotted names.

    Args:
        component_class: the class.
        prefix: prefix of the dotted names.
        kind: the `kind` of a nested model to which the fields belong, if there are several.
    """
    infos: list[ParameterInfo] = []
    for name, field in getattr(component_class, "model_fields", {}).items():
        path = f"{prefix}{field.alias or name}"
        chosen_from = _registry_of(field)
        nested = [] if chosen_from else _nested_models(field.annotation)
        if kind and name == "kind":
            continue
        if len(nested) == 1 and inspect.isclass(field.annotation):
            infos.append(ParameterInfo(path, "", "", field.description or ""))
            infos += _parameter_infos(nested[0], f"{path}.")
            continue
        default = "required" if field.is_required() else format_value(default_value(field))
        allowed = describe_type(field.annotation, quote="") + describe_limits(field.metadata)
        if chosen_from:
            allowed = f"kind of {chosen_from.replace('_', ' ')}, see `mores list`"
        only = f"(of {kind}) " if kind else ""
        infos.append(ParameterInfo(path, default, allowed, only + (field.description or "")))
        for model in nested:
            infos += _parameter_infos(model, f"{path}.", kind_literal(model) or model.__name__)
    return infos


def _registry_of(field: FieldInfo) -> str | None:
    """Registry from which the value of a field is chosen, if it is a `component`."""
    parts = [field.metadata, *(getattr(a, "__metadata__", ()) for a in get_args(field.annotation))]
    found = [each for part in parts for each in part if isinstance(each, component)]
    return found[0].registry_name if found else None


def _nested_models(annotation: Any) -> list[type[BaseModel]]:
    """Model classes that an annotation allows."""
    if get_origin(annotation) in (Annotated, Union, types.UnionType):
        return [model for part in get_args(annotation) for model in _nested_models(part)]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return []

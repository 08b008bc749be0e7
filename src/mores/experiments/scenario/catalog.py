"""Catalog of the registries: summaries, tags and parameters of their entries."""

from __future__ import annotations

import contextlib
import inspect
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mores.core.errors import UserError, did_you_mean, list_known, nearest_name, printable
from mores.core.validation_messages import model_classes
from mores.experiments.scenario.class_source import (
    UnreadableClassError,
    class_skeleton,
    source_docstring,
)
from mores.experiments.scenario.field_descriptions import (
    ParameterInfo,
    describe_field,
    kind_literal,
)
from mores.experiments.scenario.scenario_summary import ScenarioSummary, summarize_scenario
from mores.registry import REGISTRIES, class_of, name_hint
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
    entry = REGISTRIES[registry][name]
    if not isinstance(entry, str):
        with contextlib.suppress(UserError):  # a user's class that does not fit
            entry = class_of(registry, name)
    try:
        return _entry_of(class_skeleton(entry) if isinstance(entry, str) else entry, registry, name)
    except UnreadableClassError:  # a function, or a class whose tags are computed
        return CatalogEntry(registry, name, source_docstring(entry).partition("\n")[0], {})


def _entry_of(component: Any, registry: str, name: str) -> CatalogEntry:
    """Entry of a class. For a learner, `loop` lists the stage loops in which it trains."""
    summary = (inspect.getdoc(component) or "").partition("\n")[0]
    tags = dict(getattr(component, "tags", {}))
    modes = getattr(component, "trains", ()) if registry in ("policy", "recipe") else ()
    if not isinstance(modes, Collection):
        modes = ("online", "offline")  # a property: those of its members
    loops = {"online": "train", "offline": "fit_offline"}
    if modes:
        tags |= {"trains": True, "loop": [loops[mode] for mode in loops if mode in modes]}
    return CatalogEntry(registry, name, summary, tags)


def _scenario_entry(name: str) -> CatalogEntry:
    try:
        summary = summarize_scenario(REGISTRIES["scenario"].load(name))
    except UserError:
        return CatalogEntry("scenario", name, f"(see mores check {name})", {})
    return CatalogEntry("scenario", name, summary.about, summary.tags)


def filter_entries(
    entries: Sequence[CatalogEntry], conditions: Iterable[str]
) -> list[CatalogEntry]:
    """Entries that meet every condition, a tag (`stochastic`) or a value (`paper=2506.06166`).

    Raises:
        UserError: no entry has the tag, or the value; the message suggests the closest one.
    """
    listed = entries
    known = {tag for entry in listed for tag in entry.tags}
    for condition in conditions:
        tag, equals, value = condition.partition("=")
        if tag not in known:
            raise UserError(
                f"--where {printable(condition)}: no entry has the tag {printable(tag, 40)!r}"
                f"{did_you_mean(tag, known)}",
                code="unknown_name",
                path="where",
            )
        values = {each for entry in listed for each in _values(entry, tag)}
        if equals and value.lower() not in values:
            near = nearest_name(value, values) or list_known(
                [repr(each) for each in sorted(values)]
            )
            raise UserError(
                f"--where {printable(condition)}: no entry has the value {printable(value, 40)!r} "
                f"of {tag}{near}",
                code="unknown_name",
                path="where",
            )
        entries = [
            entry
            for entry in entries
            if (value.lower() in _values(entry, tag) if equals else entry.tags.get(tag))
        ]
    return list(entries)


def _values(entry: CatalogEntry, tag: str) -> set[str]:
    """Values of a tag, in lower case."""
    content = entry.tags.get(tag)
    contents = content if isinstance(content, (list, tuple, set, frozenset)) else [content]
    return {str(item).lower() for item in contents if item is not None}


def format_tag(tag: tuple[str, Any]) -> str:
    """Text of a tag: `stochastic` (true), `not real` (false), `no changes` (None), `phases 2`."""
    name, value = tag
    if isinstance(value, bool):
        return name if value else f"not {name}"
    if value is None:
        return f"no {name}"
    if isinstance(value, (list, tuple, set, frozenset)):
        value = " ".join(str(item) for item in value)
    return f"{name} {value}"


class KindDescription(NamedTuple):
    """Documentation of an entry of a registry; `scenario` are the parts of a scenario."""

    registry: str
    name: str
    text: str
    parameters: list[ParameterInfo]
    scenario: ScenarioSummary | None = None


def describe_kind(name: str) -> list[KindDescription]:
    """Documentation of the entries of that name, one for each registry that has it.

    Args:
        name: a name, or `registry/name` for the entry of one registry.

    Raises:
        UserError: no registry has that name, or an entry cannot be imported or read.
    """
    category, slash, kind = name.rpartition("/")
    searched = list(REGISTRIES)
    if slash:
        searched = [each for each in REGISTRIES if category in (each, each.replace("_", " "))]
        if not searched:
            raise UserError(
                f"{printable(name)}: there is no category {printable(category, 40)!r}"
                f"{did_you_mean(category, REGISTRIES)}",
                code="unknown_name",
                path=name,
            )
    having = [each for each in searched if kind in REGISTRIES[each]]
    if not having:
        problem = "nothing is registered"
        if slash:
            problem = f"no {searched[0].replace('_', ' ')} is registered"
        raise UserError(
            f"{problem} as {printable(kind)!r}{name_hint(kind, *searched)}",
            code="unknown_name",
            path=name,
        )
    return [_describe_entry(registry, kind) for registry in having]


def _describe_entry(registry: str, name: str) -> KindDescription:
    if registry == "scenario":
        summary = summarize_scenario(class_of(registry, name))
        return KindDescription(registry, name, summary.about, [], summary)
    entry = class_of(registry, name)
    return KindDescription(registry, name, _description(entry, registry), _parameter_infos(entry))


def _description(component_class: Any, registry: str) -> str:
    """Docstring of a class; for an environment also of what its methods report."""
    from mores.core.environment import Environment

    parts, sections = [inspect.getdoc(component_class) or ""], dict[str, str]()
    titles = {
        "metrics": "Metrics",
        "latent": "Latent quantities (recorded on request; inputs of metrics of your own)",
        "analytic_values": "Analytic values",
    }
    for name, title in titles.items() if registry == "environment" else ():
        doc = inspect.getdoc(getattr(component_class, name, None))
        if doc and doc != inspect.getdoc(getattr(Environment, name)):
            first, _, rest = doc.partition("\n")
            sections[title] = rest.strip() or first
    if registry == "environment":
        sections |= component_class.description_sections()
    parts += [f"{title}:\n{textwrap.indent(text, '    ')}" for title, text in sections.items()]
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
        if kind and name == "kind":
            continue
        info = describe_field(name, field, quote="")
        info = info._replace(name=f"{prefix}{info.name}")
        registry, nested = _registry_of(field), model_classes(field.annotation)
        if registry is not None:
            nested, allowed = [], f"kind of {registry.replace('_', ' ')}, see `mores list`"
            info = info._replace(allowed=allowed)
        elif inspect.isclass(field.annotation) and nested:
            infos.append(info._replace(default="", allowed=""))
            infos += _parameter_infos(nested[0], f"{info.name}.")
            continue
        elif get_origin(field.annotation) is list and (entry := _entry_class(field.annotation)):
            infos += [info, *_parameter_infos(entry, f"{info.name}.0.")]
            continue
        only = f"(of {kind}) " if kind else ""
        infos.append(info._replace(description=only + info.description))
        for model in nested:
            infos += _parameter_infos(model, f"{info.name}.", kind_literal(model) or model.__name__)
    return infos


def _entry_class(annotation: Any) -> type[BaseModel] | None:
    """The class of the entries of a list of models."""
    classes = [each for inner in get_args(annotation) for each in model_classes(inner)]
    return classes[0] if len(classes) == 1 else None


def _registry_of(field: FieldInfo) -> str | None:
    """Registry from which the value of a field is chosen, if it is a `component`."""
    parts = [field.metadata, *(getattr(a, "__metadata__", ()) for a in get_args(field.annotation))]
    found = (each.registry_name for part in parts for each in part if isinstance(each, component))
    return next(found, None)

"""What there is to write into a scenario: classes by name, and the scenarios that are shipped."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel

from mores.core.environment import Environment, Policy
from mores.core.errors import UserError, did_you_mean
from mores.experiments.scenario.field_descriptions import (
    default_value,
    describe_limits,
    describe_type,
    format_value,
    kind_literal,
)
from mores.experiments.scenario.loading import bundled_scenarios
from mores.experiments.scenario.source_locations import printable
from mores.experiments.scenario.strict_yaml import parse
from mores.registry import REGISTRIES, class_of


class CatalogEntry(NamedTuple):
    """Something with a name.

    Attributes:
        category: `environment`, `player`, `population` or `scenario`.
        name: what a scenario calls it.
        summary: one line.
        traits: by name; of a scenario what it says of itself.
    """

    category: str
    name: str
    summary: str
    traits: Mapping[str, Any]


def list_entries() -> list[CatalogEntry]:
    """Everything by name. A class that cannot be imported here is listed with the reason."""
    found: list[CatalogEntry] = []
    for shelf, names in REGISTRIES.items():
        for name in sorted(names):
            try:
                made = class_of(shelf, name)
            except ImportError as error:
                found.append(
                    CatalogEntry(shelf, name, f"(cannot be imported: {printable(error)})", {})
                )
                continue
            about = (inspect.getdoc(made) or "").partition("\n")[0]
            found.append(CatalogEntry(shelf, name, about, _traits_of(made)))
    return found + [_scenario_entry(name) for name in bundled_scenarios()]


def _traits_of(component_class: Any) -> dict[str, Any]:
    """What a class says of itself; of a player also in which loops of stages it learns."""
    traits = dict(getattr(component_class, "traits", {}))
    if inspect.isclass(component_class) and issubclass(component_class, Policy):
        loops = {"train": "update", "fit_offline": "fit_offline"}
        able = [
            loop
            for loop, way in loops.items()
            if getattr(component_class, way) is not getattr(Policy, way)
        ]
        if able:
            traits = {"learns": True, **traits, "loop": able}
    return traits


def _scenario_entry(name: str) -> CatalogEntry:
    file = bundled_scenarios()[name]
    try:
        told = parse(file.read_text(encoding="utf-8"), file.name).document
        about = " ".join(str(told["about"]).split())
    except (UserError, UnicodeDecodeError, TypeError, KeyError):
        return CatalogEntry("scenario", name, f"(see mores check {name})", {})
    traits = {key: told[key] for key in ("source", "construct") if key in told}
    env = told.get("env")
    return CatalogEntry(
        "scenario", name, about, {**traits, **({"env": env["kind"]} if env else {})}
    )


def filter_entries(
    entries: Sequence[CatalogEntry], conditions: Iterable[str]
) -> list[CatalogEntry]:
    """Those that have every trait: `stochastic`, or `paper=2506.06166`.

    Raises:
        UserError: a trait that nothing has, with the nearest one.
    """
    known = {trait for entry in entries for trait in entry.traits}
    for condition in conditions:
        trait, equals, value = condition.partition("=")
        if trait not in known:
            raise UserError(
                f"--where {printable(condition)}: nothing has the trait {printable(trait, 40)!r}"
                f"{did_you_mean(trait, known)}",
                code="unknown_name",
                path="where",
            )
        entries = [
            entry for entry in entries if _has_trait(entry, trait, value if equals else None)
        ]
    return list(entries)


def _has_trait(entry: CatalogEntry, trait: str, value: str | None) -> bool:
    mine = entry.traits.get(trait)
    if value is None:
        return bool(mine)
    all_mine = mine if isinstance(mine, (list, tuple, set, frozenset)) else [mine]
    return value.lower() in {str(one).lower() for one in all_mine if one is not None}


def format_trait(trait: tuple[str, Any]) -> str:
    """`stochastic`, `not real`, `paper 2506.06166`."""
    name, value = trait
    if isinstance(value, bool):
        return name if value else f"not {name}"
    if isinstance(value, (list, tuple, set, frozenset)):
        value = " ".join(str(one) for one in value)
    return f"{name} {value}"


class ParameterInfo(NamedTuple):
    """A parameter of something with a name: what it is called, what it may be, what it means."""

    name: str
    default: str
    allowed: str
    description: str


class KindDescription(NamedTuple):
    """All that there is to know of an environment, a player or a population."""

    registry: str
    text: str
    parameters: list[ParameterInfo]


def describe_kind(name: str) -> KindDescription:
    """What it is, and its parameters.

    Raises:
        UserError: nothing is called so.
    """
    for shelf, names in REGISTRIES.items():
        if name in names:
            made = class_of(shelf, name)
            return KindDescription(shelf, _description(made, shelf), _parameter_infos(made, ""))
    known = [name for names in REGISTRIES.values() for name in names]
    message = f"nothing is called {printable(name)!r}{did_you_mean(printable(name), known)}"
    raise UserError(message, code="unknown_name", path=name)


def _description(component_class: Any, registry: str) -> str:
    """What a class says of itself; of an environment also what it measures and predicts."""
    parts = [inspect.getdoc(component_class) or ""]
    for name in ("metrics", "predictions") if registry == "environment" else ():
        told = inspect.getdoc(getattr(component_class, name, None))
        if told and told != inspect.getdoc(getattr(Environment, name)):
            first, _, rest = told.partition("\n")
            lines = (rest.strip() or first).split("\n")
            body = "\n".join(f"    {line}" if line else "" for line in lines)
            parts.append(f"{name.capitalize()}:\n{body}")
    return "\n\n".join(parts)


def _parameter_infos(component_class: Any, prefix: str, kind: str = "") -> list[ParameterInfo]:
    """The fields of a class, those of groups of parameters among them by dotted names.

    Args:
        component_class: the class.
        prefix: what stands before the dotted names of its fields.
        kind: under which `kind` of a group they are there, if there are several.
    """
    found: list[ParameterInfo] = []
    for name, field in getattr(component_class, "model_fields", {}).items():
        path = f"{prefix}{field.alias or name}"
        groups = _nested_models(field.annotation)
        if kind and name == "kind":
            continue
        if len(groups) == 1 and inspect.isclass(field.annotation):
            found += _parameter_infos(groups[0], f"{path}.")
            continue
        default = "required" if field.is_required() else format_value(default_value(field))
        allowed = describe_type(field.annotation, quote="") + describe_limits(field.metadata)
        only = f"(of {kind}) " if kind else ""
        found.append(ParameterInfo(path, default, allowed, only + (field.description or "")))
        for group in groups:
            found += _parameter_infos(group, f"{path}.", kind_literal(group) or group.__name__)
    return found


def _nested_models(annotation: Any) -> list[type[BaseModel]]:
    """The classes of parameters that may stand there."""
    if get_origin(annotation) in (Annotated, Union, types.UnionType):
        return [group for part in get_args(annotation) for group in _nested_models(part)]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return []

"""What there is to write into a scenario: classes by name, and the scenarios that are shipped."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel

from mores.core.environment import Game, Player
from mores.core.errors import UserError, did_you_mean
from mores.experiments.scenario.field_descriptions import (
    default_of,
    kind_of,
    limits_of,
    said,
    type_of,
)
from mores.experiments.scenario.loading import shipped
from mores.experiments.scenario.source_locations import shown
from mores.experiments.scenario.strict_yaml import parse
from mores.registry import SHELVES, class_of


class Entry(NamedTuple):
    """Something with a name.

    Attributes:
        shelf: `environment`, `player`, `population` or `scenario`.
        name: what a scenario calls it.
        about: one line.
        traits: by name; of a scenario what it says of itself.
    """

    shelf: str
    name: str
    about: str
    traits: Mapping[str, Any]


def catalogue() -> list[Entry]:
    """Everything by name. A class that cannot be imported here is listed with the reason."""
    found: list[Entry] = []
    for shelf, names in SHELVES.items():
        for name in sorted(names):
            try:
                made = class_of(shelf, name)
            except ImportError as error:
                found.append(Entry(shelf, name, f"(cannot be imported: {shown(error)})", {}))
                continue
            about = (inspect.getdoc(made) or "").partition("\n")[0]
            found.append(Entry(shelf, name, about, _traits(made)))
    return found + [_scenario(name) for name in shipped()]


def _traits(made: Any) -> dict[str, Any]:
    """What a class says of itself; of a player also in which loops of stages it learns."""
    traits = dict(getattr(made, "traits", {}))
    if inspect.isclass(made) and issubclass(made, Player):
        loops = {"improve": "learn", "fit": "fit"}
        able = [
            loop for loop, way in loops.items() if getattr(made, way) is not getattr(Player, way)
        ]
        if able:
            traits = {"learns": True, **traits, "loop": able}
    return traits


def _scenario(name: str) -> Entry:
    file = shipped()[name]
    try:
        told = parse(file.read_text(encoding="utf-8"), file.name).document
        about = " ".join(str(told["about"]).split())
    except (UserError, UnicodeDecodeError, TypeError, KeyError):
        return Entry("scenario", name, f"(see mores check {name})", {})
    traits = {key: told[key] for key in ("source", "construct") if key in told}
    env = told.get("env")
    return Entry("scenario", name, about, {**traits, **({"env": env["kind"]} if env else {})})


def chosen(found: Sequence[Entry], where: Iterable[str]) -> list[Entry]:
    """Those that have every trait: `stochastic`, or `paper=2506.06166`.

    Raises:
        UserError: a trait that nothing has, with the nearest one.
    """
    known = {trait for entry in found for trait in entry.traits}
    for condition in where:
        trait, equals, value = condition.partition("=")
        if trait not in known:
            raise UserError(
                f"--where {shown(condition)}: nothing has the trait {shown(trait, 40)!r}"
                f"{did_you_mean(trait, known)}",
                code="unknown_name",
                path="where",
            )
        found = [entry for entry in found if _has(entry, trait, value if equals else None)]
    return list(found)


def _has(entry: Entry, trait: str, value: str | None) -> bool:
    mine = entry.traits.get(trait)
    if value is None:
        return bool(mine)
    all_mine = mine if isinstance(mine, (list, tuple, set, frozenset)) else [mine]
    return value.lower() in {str(one).lower() for one in all_mine if one is not None}


def told(trait: tuple[str, Any]) -> str:
    """`stochastic`, `not real`, `paper 2506.06166`."""
    name, value = trait
    if isinstance(value, bool):
        return name if value else f"not {name}"
    if isinstance(value, (list, tuple, set, frozenset)):
        value = " ".join(str(one) for one in value)
    return f"{name} {value}"


class Parameter(NamedTuple):
    """A parameter of something with a name: what it is called, what it may be, what it means."""

    name: str
    default: str
    allowed: str
    about: str


class Described(NamedTuple):
    """All that there is to know of an environment, a player or a population."""

    shelf: str
    text: str
    parameters: list[Parameter]


def described(name: str) -> Described:
    """What it is, and its parameters.

    Raises:
        UserError: nothing is called so.
    """
    for shelf, names in SHELVES.items():
        if name in names:
            made = class_of(shelf, name)
            return Described(shelf, _about(made, shelf), _parameters(made, ""))
    known = [name for names in SHELVES.values() for name in names]
    message = f"nothing is called {shown(name)!r}{did_you_mean(shown(name), known)}"
    raise UserError(message, code="unknown_name", path=name)


def _about(made: Any, shelf: str) -> str:
    """What a class says of itself; of an environment also what it measures and predicts."""
    parts = [inspect.getdoc(made) or ""]
    for name in ("measures", "predictions") if shelf == "environment" else ():
        told = inspect.getdoc(getattr(made, name, None))
        if told and told != inspect.getdoc(getattr(Game, name)):
            first, _, rest = told.partition("\n")
            lines = (rest.strip() or first).split("\n")
            body = "\n".join(f"    {line}" if line else "" for line in lines)
            parts.append(f"{name.capitalize()}:\n{body}")
    return "\n\n".join(parts)


def _parameters(made: Any, within: str, kind: str = "") -> list[Parameter]:
    """The fields of a class, those of groups of parameters among them by dotted names.

    Args:
        made: the class.
        within: what stands before the dotted names of its fields.
        kind: under which `kind` of a group they are there, if there are several.
    """
    found: list[Parameter] = []
    for name, field in getattr(made, "model_fields", {}).items():
        path = f"{within}{field.alias or name}"
        groups = _groups(field.annotation)
        if kind and name == "kind":
            continue
        if len(groups) == 1 and inspect.isclass(field.annotation):
            found += _parameters(groups[0], f"{path}.")
            continue
        default = "required" if field.is_required() else said(default_of(field))
        allowed = type_of(field.annotation, mark="") + limits_of(field.metadata)
        only = f"(of {kind}) " if kind else ""
        found.append(Parameter(path, default, allowed, only + (field.description or "")))
        for group in groups:
            found += _parameters(group, f"{path}.", kind_of(group) or group.__name__)
    return found


def _groups(annotation: Any) -> list[type[BaseModel]]:
    """The classes of parameters that may stand there."""
    if get_origin(annotation) in (Annotated, Union, types.UnionType):
        return [group for part in get_args(annotation) for group in _groups(part)]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return []

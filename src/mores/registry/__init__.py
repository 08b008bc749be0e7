"""Parts of experiments by name: environments, policies, populations, graphs, metrics ...

`REGISTRIES` holds the entries (`mores.registry.tables`), `register` adds a user's, `make` builds an
object from a kind and parameters.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, overload

from pydantic import BaseModel, ValidationError

from mores.core.errors import (
    ParameterError,
    UserError,
    describe_exception,
    did_you_mean,
    list_known,
    near_names,
    nearest_name,
)
from mores.core.validation_messages import validation_problems
from mores.registry.tables import REGISTRIES as REGISTRIES
from mores.registry.tables import Registry as Registry
from mores.registry.tables import import_location, location_of, sharing

Entry = TypeVar("Entry")
NOT_GIVEN: Any = object()  # `register` is a decorator
PROBABLY_MEANT = 0.65  # similarity of a name that makes a name of the user improbable


def kinds(registry_name: str) -> list[str]:
    """Kinds that can be used in a registry: its own, and those of the registries it includes."""
    return [kind for name in REGISTRIES[registry_name].searched for kind in REGISTRIES[name]]


def package_kinds(registry_name: str) -> list[str]:
    """The kinds of `kinds` that come with mores, sorted."""
    searched = (REGISTRIES[name] for name in REGISTRIES[registry_name].searched)
    return sorted(kind for registry in searched for kind in registry.package_kinds)


def class_of(registry_name: str, kind: str) -> Any:
    """The entry of that name: a class, a metric, the path of a scenario.

    Raises:
        UserError: the registry has no such name; with the registry that has it, or the nearest.
            Or the entry cannot be imported, or is not what the registry holds.
    """
    if not isinstance(kind, str):
        message = f"{_words(registry_name)}: a name is needed, not {kind!r:.60}"
        raise UserError(message, code="wrong_type", path=registry_name)
    for name in REGISTRIES[registry_name].searched:
        if kind in REGISTRIES[name]:
            return REGISTRIES[name].load(kind)
    raise UserError(
        f"no {_words(registry_name)} named {kind!r}{name_hint(kind, registry_name)}",
        code="unknown_name",
        path=kind,
    )


def name_hint(name: str, *searched: str) -> str:
    """End of a message that these registries lack a name: what has it, else the nearest names."""
    if is_other := other_category(name):
        return is_other
    known = [kind for each in searched for kind in kinds(each)]
    if not near_names(name, known, PROBABLY_MEANT) and (other := nearest_other_entry(name)):
        return f"; did you mean {other}?"
    return near_or_load_hint(name, known)


def nearest_other_entry(name: str) -> str:
    """`"the update rule 'degroot'"`, the first entry of any registry with nearly that name."""
    for registry_name, registry in REGISTRIES.items():
        for near in difflib.get_close_matches(name, registry, n=1, cutoff=0.8):
            return f"the {_words(registry_name)} {near!r}"
    return ""


def other_category(name: str) -> str:
    """`"; it is an environment and a scenario"`, or `""` if no registry has the name."""
    having = [each for each in REGISTRIES if name in REGISTRIES[each]]
    nouns = [f"{'an' if each[0] in 'aeiou' else 'a'} {_words(each)}" for each in having]
    command = f": mores check {name}" if having == ["scenario"] else ""
    return f"; it is {' and '.join(nouns)}{command}" if nouns else ""


def near_or_load_hint(name: str, known: Iterable[str], listed: Sequence[str] | None = None) -> str:
    """The nearest names and, unless one is probably meant, how a user's own are registered.

    Args:
        name: the unknown name.
        known: the known names.
        listed: names to list, in this order, if none is similar; default: the known ones, sorted.
    """
    names = {*known}
    if near := nearest_name(name, names, cutoff=PROBABLY_MEANT):
        return near
    own = "mores.register adds your own (commands: --load FILE.py)"
    if near := nearest_name(name, names):
        return f"{near} {own}"
    return f"; {own}{list_known(sorted(names) if listed is None else listed)}"


@overload
def register(registry_name: str, kind: str) -> Callable[[Entry], Entry]: ...
@overload
def register(registry_name: str, kind: str, entry: Entry) -> Entry: ...
def register(registry_name: str, kind: str, entry: Any = NOT_GIVEN) -> Any:
    """Add a class or function, or its location `module:Name`, under a new name.

    Without `entry` it is a decorator: `@register("update_rule", "my_rule")`.

    Returns:
        The entry, or the decorator.

    Raises:
        UserError: there is no such registry; the name is not valid or already taken.
    """
    registry = REGISTRIES.get(registry_name) if isinstance(registry_name, str) else None
    if registry is None:
        raise UserError(
            f"register: no registry {registry_name!r:.60}{did_you_mean(registry_name, REGISTRIES)}",
            code="unknown_name",
            path="registry_name",
        )
    if not isinstance(kind, str) or not kind.isidentifier():
        raise UserError(
            f"{kind!r:.60} is not a valid name: use letters, digits and underscores",
            code="invalid_value",
            path=str(kind),
        )
    if entry is NOT_GIVEN:
        return lambda decorated: register(registry_name, kind, decorated)
    if not (isinstance(entry, str) or callable(entry) or registry_name == "scenario"):
        message = f"{registry_name} {kind!r}: a class or `module:Name`, not {entry!r:.60}"
        raise UserError(message, code="wrong_type", path=kind)
    for each in sharing(REGISTRIES, registry_name):
        if kind in each and each[kind] not in (entry, location_of(entry)):
            message = f"{_words(each.name)} {kind!r} already exists"
            raise UserError(message, code="duplicate", path=kind)
    registry[kind] = entry
    return entry


def _words(registry_name: str) -> str:
    return registry_name.replace("_", " ")


def build(registry_name: str, kind: str, parameters: Mapping[str, Any], strict: bool) -> Any:
    """The object of a kind with these parameters: the one builder of all callers.

    Args:
        registry_name, kind: what to build.
        parameters: by name.
        strict: types as in a file, where text is not a number, `true` is not 1 and 3.0 is not 3,
            but a list may stand for a tuple; only pydantic's validation of JSON text has these
            rules. Otherwise Python's usual conversions.

    Raises:
        ValidationError: an unknown parameter, or a wrong value.
        UserError: an unknown kind, a problem that the class found, or an exception of the class.
    """
    entry = class_of(registry_name, kind)
    try:
        if strict and issubclass(entry, BaseModel):
            return entry.model_validate_json(json.dumps(parameters), strict=True)
        return entry(**parameters)
    except (ValidationError, UserError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        message = f"{kind}: the constructor fails: {describe_exception(error)}"
        raise UserError(message, code="failed") from error


def fits(registry_name: str, instance: object) -> bool:
    """Whether an object is of the class that a registry asks for."""
    return isinstance(instance, import_location(REGISTRIES[registry_name].protocol))


def kind_and_parameters(registry_name: str, given: Any) -> tuple[str, dict[str, Any]]:
    """The parts of a specification: a kind, or a mapping with a kind and parameters.

    Raises:
        ParameterError: something else; a mapping without kind.
    """
    parameters = dict(given) if isinstance(given, Mapping) else {"kind": given}
    if "kind" not in parameters:
        known = did_you_mean("", kinds(registry_name))
        raise ParameterError(message=f"needs a kind{known}", code="missing")
    kind = parameters.pop("kind")
    if not isinstance(kind, str) or not all(isinstance(name, str) for name in parameters):
        words = _words(registry_name)
        message = f"must be a {words}: its name or {{kind: ...}}, not {given!r:.40}"
        raise ParameterError(message=message, code="wrong_type")
    return kind, parameters


def make(registry_name: str, kind: str, parameters: Mapping[str, Any]) -> Any:
    """An object of that kind with these parameters.

    Raises:
        UserError: an unknown name or parameter, or a wrong value; one line for each.
    """
    try:
        return build(registry_name, kind, parameters, strict=False)
    except ValidationError as error:
        model = class_of(registry_name, kind)
        problems = validation_problems(error, model, parameters, "no such parameter")
        lines = [": ".join([".".join(map(str, (kind, *p.path))), p.message]) for p in problems]
        path = ".".join(map(str, (kind, *problems[0].blamed_path)))
        text = "\n".join(dict.fromkeys(lines))
        raise UserError(text, code=problems[0].code, path=path) from None


def make_environment(kind: str, **parameters: Any) -> Any:
    """An environment by name: `make_environment("lock_in", num_people=50)`."""
    return make("environment", kind, parameters)


def make_policy(kind: str, **parameters: Any) -> Any:
    """A policy by name: `make_policy("mirror", learning_rate=0.3)`."""
    return make("policy", kind, parameters)


def make_population(kind: str, **parameters: Any) -> Any:
    """A population by name: `make_population("anes96")`."""
    return make("population", kind, parameters)


def kind_of(registry_name: str, instance: object) -> str | None:
    """The name under which an object's class is registered, or `None`."""
    searched = REGISTRIES[registry_name].searched
    found = (REGISTRIES[name].kind_of(type(instance)) for name in searched)
    return next((kind for kind in found if kind is not None), None)


def to_spec(registry_name: str, instance: Any) -> dict[str, Any]:
    """Kind and parameters of an object as data, from which `make` constructs an equal object.

    Raises:
        UserError: its class is not registered, or its parameters cannot be written as data.
    """
    kind, class_name = kind_of(registry_name, instance), type(instance).__name__
    if kind is None:
        raise UserError(
            f"{class_name} is not registered: register({registry_name!r}, NAME, {class_name})",
            code="unknown_name",
            path=class_name,
        )
    problem = UserError("the copy would not be equal", code="unsupported", path=kind)
    for exclude_unset in (True, False):  # first without defaults: an unused one may be refused
        try:
            text = instance.model_dump_json(by_alias=True, exclude_unset=exclude_unset)
            if make(registry_name, kind, json.loads(text)) == instance:
                return {"kind": kind, **json.loads(text)}
        except UserError as error:
            problem = error
        except (AttributeError, TypeError, ValueError) as error:
            reason = str(error).rpartition("ValueError: ")[2]  # the cause, in pydantic's messages
            problem = UserError(reason, code="unsupported", path=kind)
    message = f"{kind} cannot be written as data: {problem}"
    raise UserError(message, code=problem.code, path=problem.path)

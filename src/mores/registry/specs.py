"""Objects from what callers give: the object itself, its kind, or its kind with parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mores import registry
from mores.core.environment import determined_fields
from mores.core.errors import ParameterError, UserError
from mores.core.people import Population

Spec = str | Mapping[str, Any]  # a kind, or {"kind": ..., parameter: value}


def from_spec(registry_name: str, given: Any, path: str) -> Any:
    """The given object, or the one that a kind or a mapping with a kind and parameters names.

    Args:
        registry_name: the registry.
        given: an object of the registry, a kind, or a mapping.
        path: name of the argument, for errors.

    Raises:
        UserError: something else; an unknown kind or wrong parameters.
    """
    if registry.fits(registry_name, given):
        return given
    return registry.make(registry_name, *_kind_and_parameters(registry_name, given, path))


def _kind_and_parameters(
    registry_name: str, given: Any, path: str
) -> tuple[str, Mapping[str, Any]]:
    try:
        return registry.kind_and_parameters(registry_name, given)
    except ParameterError as error:
        place = f"{path}.kind" if isinstance(given, Mapping) else path
        raise UserError(f"{path}: {error}", code=error.code, path=place) from None


def environment_from_spec(given: Any, population: Population | None) -> Any:
    """The environment for the people of a population: see `from_spec` and `environment_for`."""
    if not registry.fits("environment", given):
        kind, parameters = _kind_and_parameters("environment", given, "environment")
        return environment_for(kind, parameters, population)
    return given if population is None else given.with_population(population)


def environment_for(kind: str, parameters: Mapping[str, Any], population: Population | None) -> Any:
    """An environment by name, with what a population determines in fields that are not given.

    It is made with them at once: other parameters, such as a graph of as many people, may not fit
    the defaults.

    Raises:
        UserError: as `registry.make` and `Environment.with_population`.
    """
    if population is None:
        return registry.make("environment", kind, parameters)
    fields = registry.class_of("environment", kind).model_fields
    determined = {n: v for n, v in determined_fields(population).items() if n in fields}
    try:
        return registry.make("environment", kind, {**determined, **parameters})
    except UserError as error:
        try:
            made = registry.make("environment", kind, parameters)
        except UserError:
            raise error from None
        return made.with_population(population)  # it raises, and names the population


def policies_from_specs(given: Mapping[str, Any]) -> dict[str, Any]:
    """The policy of each role: see `from_spec`.

    Raises:
        UserError: as `from_spec`; or it is no mapping.
    """
    check_policy_mapping(given)
    return {role: from_spec("policy", spec, f"policies.{role}") for role, spec in given.items()}


def check_policy_mapping(given: Any) -> None:
    """Refuse what is no mapping of roles to policies."""
    if not isinstance(given, Mapping):
        raise UserError(
            f"policies: a mapping of roles to policies, not {given!r:.60}",
            code="wrong_type",
            path="policies",
        )


def model_from_word(word: Any) -> Any:
    """A model that a single word names, as data of a specification.

    A kind of the registry, the address of a server (`http://...`), a folder or a hub name.
    """
    if not isinstance(word, str) or word in registry.REGISTRIES["language_model"]:
        return word
    if word.startswith(("http://", "https://")):
        return {"kind": "served", "url": word}
    return {"kind": "local", "path": word}

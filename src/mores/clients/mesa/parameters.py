"""Parameters of an environment from the constructor of a user's Mesa model."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Collection
from typing import Any, NoReturn

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError

from mores.core.errors import UserError

SEEDS = ("seed", "rng")  # the parameters by which Mesa seeds a model
SIMULATOR = "simulator"  # the parameter by which Mesa's examples take an event scheduler


def fields_of(model_class: type, reserved: Collection[str]) -> dict[str, Any]:
    """Fields of a pydantic model, one for each parameter of the constructor but the seed.

    A parameter without annotation has the type of its default. One whose default cannot be written
    in YAML, such as `simulator: ABMSimulator | None = None`, keeps it and is no field.

    Args:
        model_class: class of the Mesa model.
        reserved: names that a field cannot have; `x` is the field `x_` with the alias `x`.

    Raises:
        UserError: a parameter that cannot be written in YAML and has no default.
    """
    hints = _type_hints(model_class)
    fields: dict[str, Any] = {}
    for parameter in _parameters(model_class):
        name, default = parameter.name, parameter.default
        if name in SEEDS or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if name == "kind" or name.startswith("_") or parameter.kind is parameter.POSITIONAL_ONLY:
            _refuse(model_class, f"cannot have a parameter {name!r}: it cannot be set in YAML")
        required = default is parameter.empty
        annotation = hints.get(name, Any if required or default is None else type(default))
        if _is_serializable(annotation, None if required else default):
            given = Field(... if required else default, alias=name)
            fields[f"{name}_" if name in reserved else name] = (annotation, given)
        elif required and name == SIMULATOR:
            reason = f"needs {name!r}: Mesa's event schedulers are not supported"
            _refuse(model_class, f"{reason}; make the model without one in a subclass")
        elif required:
            _refuse(model_class, f"needs {name!r}, of a type that cannot be written in YAML")
    return fields


def seed_parameter(model_class: type) -> str:
    """Name of the parameter by which a model is seeded: `seed` or `rng`.

    Raises:
        UserError: the constructor takes neither.
    """
    parameters = _parameters(model_class)
    names = [parameter.name for parameter in parameters]
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    found = next((name for name in SEEDS if name in names), SEEDS[0] if takes_any else None)
    if found is None:
        reason = "needs a parameter `seed`, passed on by `super().__init__(seed=seed)`"
        _refuse(model_class, f"{reason}: replicates are seeded by it")
    return found


def takes_simulator(model_class: type) -> bool:
    """Whether the constructor has a parameter for Mesa's event scheduler, which gets none here."""
    return any(parameter.name == SIMULATOR for parameter in _parameters(model_class))


def _parameters(model_class: type) -> list[inspect.Parameter]:
    return list(inspect.signature(model_class).parameters.values())


def _type_hints(model_class: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(model_class.__init__, include_extras=True)
    except NameError:  # names that are imported for type checkers only
        return {}


def _is_serializable(annotation: Any, default: Any) -> bool:
    """Whether values of a type can be written in YAML, and the default is one of them."""
    try:
        adapter = TypeAdapter(annotation)
        adapter.dump_json(adapter.validate_python(default) if default is not None else None)
    except (PydanticSchemaGenerationError, ValidationError, TypeError, ValueError):
        return False
    return True


def _refuse(model_class: type, reason: str) -> NoReturn:
    message = f"Mesa model {model_class.__name__}: the constructor {reason}"
    raise UserError(message, code="wrong_type", path=model_class.__name__)

"""Players made from what a file says of them, where another player holds them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from mores import registry
from mores.core.environment import Policy
from mores.core.errors import ParameterError, UserError
from mores.core.validation_messages import code_of, error_message, error_path, validation_errors

CLASS_SPECIFIC_ERRORS = (  # mistakes that only the player's own class can put in words
    *("extra_forbidden", "literal_error", "union_tag_invalid", "union_tag_not_found"),
    *("value_error", "assertion_error"),
)


def policy_from_config(config: Any, strict: bool) -> Policy:
    """A player from `{kind: ..., its parameters}`; one that is there already stays.

    Raises:
        ValueError, ValidationError: there is none of that kind, or not with these parameters.
    """
    if isinstance(config, Policy):
        return config
    if not isinstance(config, Mapping):
        raise ParameterError(
            message=f"must be a mapping with a kind, {{kind: ...}}, not {config!r:.40}",
            code="wrong_type",
        )
    kind = config.get("kind")
    if not isinstance(kind, str):
        raise ParameterError(
            message="its kind is missing (name of a player: see `mores list`)", code="missing"
        )
    try:
        chosen = registry.class_of("policy", kind)
    except UserError as error:
        raise ParameterError(message=str(error), code=error.code) from None
    parameters = {name: value for name, value in config.items() if name != "kind"}
    if strict:
        return chosen.model_validate_json(json.dumps(parameters), strict=True)
    return chosen(**parameters)


def nested_validation_errors(error: ValueError, index: int, config: Any) -> list[InitErrorDetails]:
    """What is wrong with a player of a cast, in words where only that player knows them."""
    if not isinstance(error, ValidationError):
        return [InitErrorDetails(type=_custom_error(str(error), error), loc=(index,), input=config)]
    kind, lines = config["kind"], []
    chosen = registry.class_of("policy", kind)
    parameters = {name: value for name, value in config.items() if name != "kind"}
    for found in validation_errors(error):
        path = error_path(found, parameters)
        said: str | PydanticCustomError = found["type"]
        if said in CLASS_SPECIFIC_ERRORS:
            unknown = f"{kind} has no such parameter"
            text = error_message(found, path, chosen, parameters, unknown)
            cause = found.get("ctx", {}).get("error")
            if not isinstance(cause, ParameterError):
                cause = ParameterError(message=text, code=code_of(found))
            said = _custom_error(text, cause)
        context = {} if isinstance(said, PydanticCustomError) else found.get("ctx", {})
        where = (index, *path)
        lines.append(InitErrorDetails(type=said, loc=where, input=found["input"], ctx=context))
    return lines


def _custom_error(text: str, cause: ValueError) -> PydanticCustomError:
    """A complaint in these words: `code_of` and paths are read off its cause."""
    return PydanticCustomError("value_error", "{text}", {"text": text, "error": cause})

"""Policies from their configuration in a file, nested in another policy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from mores import registry
from mores.core.errors import ParameterError, UserError
from mores.core.policy import Policy
from mores.core.validation_messages import error_code, error_message, error_path, validation_errors

CLASS_SPECIFIC_ERRORS = (  # pydantic's error types whose message depends on the policy's class
    *("extra_forbidden", "literal_error", "union_tag_invalid", "union_tag_not_found"),
    *("value_error", "assertion_error"),
)


def policy_from_config(config: Any, strict: bool) -> Policy:
    """A policy from `{kind: ..., its parameters}`; a policy is returned unchanged.

    Raises:
        ValueError, ValidationError: an unknown kind, or wrong parameters.
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
            message="needs a kind, the name of a policy (see `mores list`)", code="missing"
        )
    try:
        policy_class = registry.class_of("policy", kind)
    except UserError as error:
        raise ParameterError(message=str(error), code=error.code) from None
    parameters = {name: value for name, value in config.items() if name != "kind"}
    if strict:
        return policy_class.model_validate_json(json.dumps(parameters), strict=True)
    return policy_class(**parameters)


def nested_validation_errors(error: ValueError, index: int, config: Any) -> list[InitErrorDetails]:
    """Errors of the policy at `index` of a list, with the messages that its class determines."""
    if not isinstance(error, ValidationError):
        return [InitErrorDetails(type=_custom_error(str(error), error), loc=(index,), input=config)]
    kind, details = config["kind"], []
    policy_class = registry.class_of("policy", kind)
    parameters = {name: value for name, value in config.items() if name != "kind"}
    for each in validation_errors(error):
        path = error_path(each, parameters)
        context = each.get("ctx", {})
        error_type: str | PydanticCustomError = each["type"]
        if error_type in CLASS_SPECIFIC_ERRORS:
            unknown = f"{kind} has no such parameter"
            text = error_message(each, path, policy_class, parameters, unknown)
            cause = context.get("error")
            if not isinstance(cause, ParameterError):
                cause = ParameterError(message=text, code=error_code(each))
            error_type, context = _custom_error(text, cause), {}
        loc = (index, *path)
        details.append(InitErrorDetails(type=error_type, loc=loc, input=each["input"], ctx=context))
    return details


def _custom_error(text: str, cause: ValueError) -> PydanticCustomError:
    """An error with this message; its code and path are those of the cause."""
    return PydanticCustomError("value_error", "{text}", {"text": text, "error": cause})

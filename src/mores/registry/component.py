"""Fields whose value is chosen from a registry: `graph: Annotated[Graph, component("graph")]`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from mores import registry
from mores.core.errors import ParameterError, UserError
from mores.core.validation_messages import validation_problems

CLASS_SPECIFIC_ERRORS = (  # pydantic's error types whose message depends on the class
    *("extra_forbidden", "literal_error", "union_tag_invalid", "union_tag_not_found"),
    *("value_error", "assertion_error", "missing"),
)


class component:
    """Annotation of a pydantic field that holds an object of a registry.

    The field accepts such an object, its kind (`karate_club`), or a mapping of kind and parameters
    (`{kind: homophily, degree: 8}`). It is written as a mapping. Errors have the path of the
    parameter below the field.

    Args:
        registry_name: the registry.
    """

    def __init__(self, registry_name: str) -> None:
        self.registry_name = registry_name

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            self._validate,
            serialization=core_schema.plain_serializer_function_ser_schema(
                self.serialize, info_arg=True
            ),
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return component_json_schema(self.registry_name)

    def _validate(self, value: Any, info: Any) -> Any:
        return from_data(self.registry_name, value, strict=info.mode == "json")

    def serialize(self, value: Any, info: Any) -> dict[str, Any]:
        """Kind and parameters of an object, for pydantic."""
        kind = registry.kind_of(self.registry_name, value)
        if kind is None:
            raise ValueError(f"{type(value).__name__} is not registered")
        dumped = value.model_dump(mode="json", by_alias=True, exclude_unset=info.exclude_unset)
        return {"kind": kind, **{name: each for name, each in dumped.items() if name != "kind"}}


def component_json_schema(registry_name: str) -> dict[str, Any]:
    """JSON schema of a component: editors offer the package's own kinds and allow all others."""
    kind = {"anyOf": [{"enum": registry.package_kinds(registry_name)}, {"type": "string"}]}
    mapping = {"type": "object", "properties": {"kind": kind}, "required": ["kind"]}
    return {"anyOf": [kind, mapping]}


def from_data(registry_name: str, value: Any, strict: bool) -> Any:
    """The object that a kind, or a mapping of kind and parameters, specifies.

    An object is returned unchanged. `strict`: see `registry.build`.

    Raises:
        ParameterError: an unknown kind, no kind, an object of another class.
        ValidationError: wrong parameters, with their messages.
    """
    if not isinstance(value, (str, Mapping)) and registry.fits(registry_name, value):
        return value
    kind, parameters = registry.kind_and_parameters(registry_name, value)
    try:
        return registry.build(registry_name, kind, parameters, strict)
    except ValidationError as error:
        raise _with_messages(error, registry_name, kind, parameters) from None
    except UserError as error:
        path = ("kind",) if error.path == kind and isinstance(value, Mapping) else ()
        raise ParameterError(*path, message=str(error), code=error.code) from None


def _with_messages(
    error: ValidationError, registry_name: str, kind: str, parameters: Any
) -> ValidationError:
    """The error with the messages that the class determines, which the outer model cannot."""
    model = registry.class_of(registry_name, kind)
    details = []
    for problem in validation_problems(error, model, parameters, f"{kind} has no such parameter"):
        error_type, path = problem.details["type"], problem.path
        context = problem.details.get("ctx", {})
        if error_type in CLASS_SPECIFIC_ERRORS:
            cause = context.get("error")
            if not isinstance(cause, ParameterError):
                missing = path[-1:] if error_type == "missing" else ()  # no key of the document
                path = path[: len(path) - len(missing)]
                cause = ParameterError(*missing, message=problem.message, code=problem.code)
            text = {"text": problem.message, "error": cause}
            error_type, context = PydanticCustomError("value_error", "{text}", text), {}
        given = problem.details["input"]
        details.append(InitErrorDetails(type=error_type, loc=path, input=given, ctx=context))
    return ValidationError.from_exception_data(kind, details)

"""Base models and field types of scenario files: strict sections, kinds, names, ranges."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from mores.core.errors import ParameterError, did_you_mean
from mores.registry.component import component_json_schema

SCENARIO_NAME_PATTERN = r"^[a-z][a-z0-9_]*$"
ARM_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"
PATTERN_DESCRIPTIONS = {  # allowed names, for messages
    SCENARIO_NAME_PATTERN: "lower-case letters, digits and _, beginning with a letter",
    ARM_NAME_PATTERN: "letters, digits, _ and -, beginning with a letter or digit",
}


class StrictModel(BaseModel):
    """Immutable section of a scenario file. Unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ComponentSpec(BaseModel):
    """`kind` and parameters of an environment, a policy or a population."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    kind: str = Field(description="name of the class: see `mores list`")

    @property
    def parameters(self) -> dict[str, Any]:
        """All keys except `kind`."""
        return dict(self.model_extra or {})


def kind_completion(registry_name: str) -> WithJsonSchema:
    """JSON schema of a component of a registry: editors offer its kinds."""
    return WithJsonSchema(component_json_schema(registry_name)["anyOf"][1])


def as_list(value: Any) -> Any:
    """A single text as a list."""
    return [value] if isinstance(value, str) else value


def _none_as_empty(value: Any) -> Any:
    return {} if value is None else value


def _check_range(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] >= bounds[1]:
        raise ParameterError(message="a range is [low, high] with low below high")
    return bounds


ShortName = Annotated[str, StringConstraints(pattern=ARM_NAME_PATTERN, max_length=60)]
NameList = Annotated[
    list[str], BeforeValidator(as_list, json_schema_input_type=str | list[str])
]  # a single name needs no brackets
OverrideMap = Annotated[
    dict[str, Any],
    BeforeValidator(_none_as_empty, json_schema_input_type=dict[str, Any] | None),
]
Range = Annotated[tuple[float, float], AfterValidator(_check_range)]


def conflict(message: str, *path: str | int) -> ParameterError:
    """The error of a key that does not go with others."""
    return ParameterError(*path, message=message, code="conflict")


def missing(message: str, *path: str | int) -> ParameterError:
    """The error of a key that others need."""
    return ParameterError(*path, message=message, code="missing")


def unknown(what: str, name: str, known: Iterable[str], *path: str | int) -> ParameterError:
    """The error of a name that nothing in the file has."""
    near = did_you_mean(name, known) or f"; there are no {what}s"
    message = f"there is no {what} {name!r}{near}"
    return ParameterError(*path, message=message, code="unknown_name")


def check_distinct(names: Sequence[str], message: str, *path: str, key: str | None = None) -> None:
    """Refuse a name that is given twice, in a list at a path, or under a key of its entries."""
    earlier: set[str] = set()
    for i, name in enumerate(names):
        if name in earlier:
            place = (*path, i) if key is None else (*path, i, key)
            raise ParameterError(*place, message=message.format(name), code="duplicate")
        earlier.add(name)

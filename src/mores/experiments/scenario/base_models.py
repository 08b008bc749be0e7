"""What all parts of a scenario file have in common: strictness, names, kinds."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from mores.core.errors import ParameterError as FieldValueError

SCENARIO_NAME_PATTERN = r"^[a-z][a-z0-9_]*$"
ARM_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"
PATTERN_DESCRIPTIONS = {  # what a name must be, for messages
    SCENARIO_NAME_PATTERN: "lower-case letters, digits and _, beginning with a letter",
    ARM_NAME_PATTERN: "letters, digits, _ and -, beginning with a letter or digit",
}


class StrictModel(BaseModel):
    """A part of a scenario file: unknown keys are errors, and nothing changes once read."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ComponentSpec(BaseModel):
    """`kind` and the parameters of whatever it names."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    kind: str = Field(description="name of the class: see `mores list`")

    @property
    def parameters(self) -> dict[str, Any]:
        """Everything but the kind."""
        return dict(self.model_extra or {})


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _none_as_empty(value: Any) -> Any:
    return {} if value is None else value


ShortName = Annotated[str, StringConstraints(pattern=ARM_NAME_PATTERN, max_length=60)]
NameList = Annotated[
    list[str], BeforeValidator(_as_list, json_schema_input_type=str | list[str])
]  # one name may stand without brackets
OverrideMap = Annotated[
    dict[str, Any],
    BeforeValidator(_none_as_empty, json_schema_input_type=dict[str, Any] | None),
]
Range = tuple[float, float]


def check_range(bounds: Range, *path: str | int) -> None:
    """Refuse a range whose ends are the wrong way round, or the same.

    Raises:
        At: with the place.
    """
    if bounds[0] >= bounds[1]:
        raise FieldValueError(
            *path, message="a range is [low, high], the first less than the second"
        )

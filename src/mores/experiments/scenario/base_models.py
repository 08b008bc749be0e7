"""What all parts of a scenario file have in common: strictness, names, kinds."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from mores.core.errors import ParameterError as At

SCENARIO_NAME = r"^[a-z][a-z0-9_]*$"
ARM_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"
IN_WORDS = {  # what a name must be, for messages
    SCENARIO_NAME: "lower-case letters, digits and _, beginning with a letter",
    ARM_NAME: "letters, digits, _ and -, beginning with a letter or digit",
}


class Document(BaseModel):
    """A part of a scenario file: unknown keys are errors, and nothing changes once read."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Kind(BaseModel):
    """`kind` and the parameters of whatever it names."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    kind: str = Field(description="name of the class: see `mores list`")

    @property
    def parameters(self) -> dict[str, Any]:
        """Everything but the kind."""
        return dict(self.model_extra or {})


def _one_name(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


def _nothing_differs(given: Any) -> Any:
    return {} if given is None else given


ShortName = Annotated[str, StringConstraints(pattern=ARM_NAME, max_length=60)]
Names = Annotated[
    list[str], BeforeValidator(_one_name, json_schema_input_type=str | list[str])
]  # one name may stand without brackets
Changes = Annotated[
    dict[str, Any],
    BeforeValidator(_nothing_differs, json_schema_input_type=dict[str, Any] | None),
]
Range = tuple[float, float]


def check_range(given: Range, *path: str | int) -> None:
    """Refuse a range whose ends are the wrong way round, or the same.

    Raises:
        At: with the place.
    """
    if given[0] >= given[1]:
        raise At(*path, message="a range is [low, high], the first less than the second")

"""Annotations of fields that accept a number, or one for each person or each draw.

    ai_influence: Annotated[float, PersonNumber(ge=0, le=1)] = Field(default=0.1, description="...")

accepts a number, a `mores.core.person_parameters.PersonParameter`, or a mapping with a kind of the
registry `person_parameter`, such as `{kind: beta, mean: 0.3, std: 0.1}`. Functions that read such a
field are in `mores.core.person_parameters`. `WorldNumber` is for numbers that are the same for all
people of a world.

A draw is one sample of the uncertain parameters of a scenario. Both annotations also accept a
number for each draw, `per_draw([0.1, 0.4])`, but only within `accept_draws`: it is not a kind of
the registry, so that a scenario cannot state it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from annotated_types import Ge, Gt, Le, Lt
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from mores.core.config import MAX_FLOAT32
from mores.core.errors import ParameterError
from mores.core.person_parameters import PerDraw, PersonParameter, RangeChecked
from mores.registry.component import component, component_json_schema, from_data

REGISTRY = "person_parameter"
MAX_DEPTH = 16  # of nested data: scaled, by_group, scaled, ...
PER_DRAW = "per_draw"

_accepted: ContextVar[list[PerDraw] | None] = ContextVar("_accepted", default=None)


def per_draw(values: Sequence[float]) -> dict[str, Any]:
    """A mapping that stands for a `PerDraw`; fields accept it within `accept_draws`.

    Args:
        values: number for each draw, indexed by the number of the draw.
    """
    return {"kind": PER_DRAW, "values": list(values)}


@contextlib.contextmanager
def accept_draws() -> Iterator[list[PerDraw]]:
    """Context in which new configs accept `per_draw`; yields the list of those accepted."""
    accepted: list[PerDraw] = []
    token = _accepted.set(accepted)
    try:
        yield accepted
    finally:
        _accepted.reset(token)


def _from_data(value: Any) -> Any:
    """The `PerDraw` of a `per_draw` mapping within `accept_draws`; else the value itself."""
    accepted = _accepted.get()
    if accepted is None or not isinstance(value, Mapping) or value.get("kind") != PER_DRAW:
        return value
    accepted.append(PerDraw(values=tuple(value["values"])))
    return accepted[-1]


class WorldNumber:
    """Annotation of a number that is the same for all people of a world; draws may differ in it.

    Args:
        ge, gt, le, lt: limits of the number, as in `pydantic.Field`.
    """

    def __init__(
        self,
        ge: float | int | None = None,
        gt: float | int | None = None,
        le: float | int | None = None,
        lt: float | int | None = None,
    ) -> None:
        limits = {"ge": ge, "gt": gt, "le": le, "lt": lt}
        self._stated_limits = {name: limit for name, limit in limits.items() if limit is not None}
        self._limits = {name: float(limit) for name, limit in self._stated_limits.items()}

    @property
    def limits(self) -> tuple[Ge | Gt | Le | Lt, ...]:
        """The limits, for descriptions of the field."""
        classes = {"ge": Ge, "gt": Gt, "le": Le, "lt": Lt}
        return tuple(classes[name](limit) for name, limit in self._stated_limits.items())

    @property
    def alternative(self) -> str:
        """Text for descriptions of the field: what it accepts besides a number."""
        return ""

    @property
    def range(self) -> tuple[float, float]:
        """Limits of the number; infinite where there is none."""
        low = max(self._limits.get("ge", -math.inf), self._limits.get("gt", -math.inf))
        return low, min(self._limits.get("le", math.inf), self._limits.get("lt", math.inf))

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        number = self._number_schema()
        return core_schema.with_info_wrap_validator_function(
            self._validate,
            number,
            serialization=core_schema.plain_serializer_function_ser_schema(
                _serialize, info_arg=True
            ),
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return handler(self._number_schema())

    def _number_schema(self) -> CoreSchema:
        limits: Any = self._limits
        return core_schema.float_schema(allow_inf_nan=False, **limits)

    def _validate(self, value: Any, validate_number: Any, info: Any) -> Any:
        value = _from_data(value)
        if isinstance(value, PerDraw):
            return self._checked(value)
        return validate_number(value)

    def _checked(self, parameter: PersonParameter) -> PersonParameter:
        """The parameter if its bounds are within the limits; `RangeChecked` if they are unknown."""
        if parameter.bounds is None:
            low, high = (n if math.isfinite(n) else None for n in self.range)
            if low is None and high is None:
                return parameter
            return RangeChecked(
                parameter=parameter,
                low=low,
                high=high,
                excludes_low=low is not None and low == self._limits.get("gt"),
                excludes_high=high is not None and high == self._limits.get("lt"),
            )
        low, high = parameter.bounds
        if not -MAX_FLOAT32 <= low <= high <= MAX_FLOAT32:
            message = (
                f"has values from {low:g} to {high:g}; the largest number of float32 is 3.4e38"
            )
            raise ParameterError(message=message, code="out_of_range")
        excluded = low <= self._limits.get("gt", -math.inf) or high >= self._limits.get(
            "lt", math.inf
        )
        if low < self.range[0] or high > self.range[1] or excluded:
            message = f"has values from {low:g} to {high:g}; the range is "
            message += f"{self.range[0]:g} to {self.range[1]:g}"
            raise ParameterError(message=message, code="out_of_range")
        return parameter


class PersonNumber(WorldNumber):
    """Annotation of a number that may differ between people: a number, or a `PersonParameter`."""

    @property
    def alternative(self) -> str:
        """Text for descriptions of the field: it also accepts a person parameter."""
        return "or a person parameter"

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        number = super().__get_pydantic_json_schema__(schema, handler)
        return {"anyOf": [number, component_json_schema(REGISTRY)["anyOf"][1]]}

    def _validate(self, value: Any, validate_number: Any, info: Any) -> Any:
        value = _from_data(value)
        if isinstance(value, RangeChecked):
            value = value.parameter
        if isinstance(value, (Mapping, PersonParameter)):
            if isinstance(value, Mapping):
                _check_depth(value)
            return self._checked(from_data(REGISTRY, value, strict=info.mode == "json"))
        return validate_number(value)


def _check_depth(data: Mapping[Any, Any]) -> None:
    """Refuse a parameter in a parameter in a parameter ..., before they are built recursively."""
    level: list[Any] = [data]
    for _ in range(MAX_DEPTH):
        level = [
            part
            for each in level
            for part in (each.values() if isinstance(each, Mapping) else each)
            if isinstance(part, (Mapping, list, tuple))
        ]
        if not level:
            return
    message = f"parameters, mappings and lists are nested in more than {MAX_DEPTH} levels"
    raise ParameterError(message=message, code="too_large")


def _serialize(value: Any, info: Any) -> Any:
    """Data of a field: its number, or a mapping with the kind of the person parameter."""
    if not isinstance(value, PersonParameter):
        return value
    if isinstance(value, RangeChecked):
        value = value.parameter
    if isinstance(value, PerDraw):
        return per_draw(value.values)
    return component(REGISTRY).serialize(value, info)

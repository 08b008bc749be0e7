"""Annotations of numbers that may differ between people, or between draws of uncertain parameters.

    ai_influence: Annotated[float, PersonNumber(ge=0, le=1)] = Field(default=0.1, description="...")

accepts a number, an object of `mores.core.person_parameters.PersonParameter`, or a mapping with a
kind of the registry `person_parameter`, such as `{kind: beta, mean: 0.3, std: 0.1}`. How code reads
such a field: `mores.core.person_parameters`.

A number for each draw of uncertain parameters is written as `per_draw([0.1, 0.4])`. It is no kind
of the registry: a scenario cannot state it, and fields accept it only within `accept_draws`.
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
from mores.core.person_parameters import PerDraw, PersonParameter, Ranged
from mores.registry.component import component, component_json_schema, from_data

REGISTRY = "person_parameter"
MAX_DEPTH = 16  # of nested data: scaled, by_group, scaled, ...
PER_DRAW = "per_draw"

_accepted: ContextVar[list[PerDraw] | None] = ContextVar("_accepted", default=None)


def per_draw(values: Sequence[float]) -> dict[str, Any]:
    """A `PerDraw` as data, as fields accept it within `accept_draws` and as they are written."""
    return {"kind": PER_DRAW, "values": list(values)}


@contextlib.contextmanager
def accept_draws() -> Iterator[list[PerDraw]]:
    """Accept `per_draw` in fields that are built; yields those that fields have accepted."""
    accepted: list[PerDraw] = []
    token = _accepted.set(accepted)
    try:
        yield accepted
    finally:
        _accepted.reset(token)


def _from_data(value: Any) -> Any:
    """The `PerDraw` that a value states where it may; else the value itself."""
    accepted = _accepted.get()
    if accepted is None or not isinstance(value, Mapping) or value.get("kind") != PER_DRAW:
        return value
    accepted.append(PerDraw(values=tuple(value["values"])))
    return accepted[-1]


class WorldNumber:
    """A number of the community: one for all people. It differs between draws only.

    Args:
        ge, gt, le, lt: limits of the number, as of `pydantic.Field`.
    """

    def __init__(
        self,
        ge: float | int | None = None,
        gt: float | int | None = None,
        le: float | int | None = None,
        lt: float | int | None = None,
    ) -> None:
        given = {"ge": ge, "gt": gt, "le": le, "lt": lt}
        self._given = {name: limit for name, limit in given.items() if limit is not None}
        self._limits = {name: float(x) for name, x in given.items() if x is not None}

    @property
    def limits(self) -> tuple[Ge | Gt | Le | Lt, ...]:
        """The limits, for descriptions of the field."""
        classes = {"ge": Ge, "gt": Gt, "le": Le, "lt": Lt}
        return tuple(classes[name](limit) for name, limit in self._given.items())

    @property
    def alternative(self) -> str:
        """What may stand in place of a number, for descriptions of the field."""
        return ""

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest number."""
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
        """The parameter, if its values are within the limits."""
        if parameter.bounds is None:
            low, high = (n if math.isfinite(n) else None for n in self.range)
            if low is None and high is None:
                return parameter
            return Ranged(
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
    """A number of a person: a number for all, or a `PersonParameter`."""

    @property
    def alternative(self) -> str:
        """See `WorldNumber`."""
        return "or a person parameter"

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        number = super().__get_pydantic_json_schema__(schema, handler)
        return {"anyOf": [number, component_json_schema(REGISTRY)["anyOf"][1]]}

    def _validate(self, value: Any, validate_number: Any, info: Any) -> Any:
        value = _from_data(value)
        if isinstance(value, Ranged):
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
    """A number as it is, a parameter as a mapping with its kind."""
    if not isinstance(value, PersonParameter):
        return value
    if isinstance(value, Ranged):
        value = value.parameter
    if isinstance(value, PerDraw):
        return per_draw(value.values)
    return component(REGISTRY).serialize(value, info)

"""Base class of everything that is constructed from named, validated parameters."""

from __future__ import annotations

import functools
import math
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, field_validator

MAX_FLOAT32 = 3.4028234663852886e38


Copied = TypeVar("Copied", bound="Config")


class Config(BaseModel):
    """Immutable pydantic model. Objects of a class with equal parameters are equal.

    Unknown parameters are errors, and so are NaN, infinity, and numbers beyond float32, in which
    environments and policies compute.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, ignored_types=(functools.cached_property,)
    )

    def __eq__(self, other: object) -> bool:
        """Compare parameters alone: what is cached may be tensors, which have no truth value."""
        if not isinstance(other, Config):
            return NotImplemented
        if type(self) is not type(other) or self.__pydantic_private__ != other.__pydantic_private__:
            return False
        return all(getattr(self, name) == getattr(other, name) for name in type(self).model_fields)

    def __copy__(self: Copied) -> Copied:
        """A copy without cached properties: `model_copy` then changes parameters, from which they
        are computed, and a cache that changes belongs to one object.
        """
        copied = super().__copy__()
        for name in list(vars(copied)):
            if isinstance(getattr(type(self), name, None), functools.cached_property):
                del vars(copied)[name]
        return copied

    def __deepcopy__(self: Copied, memo: dict[int, Any] | None = None) -> Copied:
        """See `__copy__`."""
        return super(Config, self.__copy__()).__deepcopy__(memo)

    @field_validator("*")
    @classmethod
    def _check_range(cls, value: Any) -> Any:
        for number in value if isinstance(value, (tuple, list)) else [value]:
            if isinstance(number, float) and MAX_FLOAT32 < abs(number) < math.inf:
                raise ValueError(f"{number:g} is beyond 3.4e38, the largest number of float32")
        return value

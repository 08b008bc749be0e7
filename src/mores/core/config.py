"""Base class of everything that is constructed from named, validated parameters."""

from __future__ import annotations

import functools

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """Immutable pydantic model. Unknown parameters, NaN and infinity are errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, ignored_types=(functools.cached_property,)
    )

"""Cut points and phrases: a number as words, by a table."""

from __future__ import annotations

import bisect
import itertools
from typing import Any

from pydantic import Field

from mores.core.config import Config
from mores.core.errors import ParameterError


class Phrases(Config):
    """A phrase for each interval between cut points.

    With cut points c_1 < ... < c_k and phrases p_0 ... p_k, a number x with c_i <= x < c_(i+1) has
    the phrase p_i.
    """

    cuts: tuple[float, ...] = Field(description="cut points, increasing")
    phrases: tuple[str, ...] = Field(
        min_length=1, description="phrases, one more than cut points: below the first one first"
    )

    def model_post_init(self, context: Any) -> None:
        """Check that cut points increase and that there is one phrase more."""
        if len(self.phrases) != len(self.cuts) + 1:
            message = f"phrases needs length {len(self.cuts) + 1}, one more than cuts"
            message += f", not {len(self.phrases)}"
            raise ParameterError("phrases", message=message, code="wrong_shape")
        if any(a >= b for a, b in itertools.pairwise(self.cuts)):
            raise ParameterError("cuts", message="cuts must increase", code="invalid_value")

    def phrase(self, number: float) -> str:
        """The phrase of a number."""
        return self.phrases[bisect.bisect_right(self.cuts, number)]

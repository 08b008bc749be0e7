"""Base class of welfare functions, which map two utilities to one number."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from mores.core.config import Config


class Welfare(Config, ABC):
    """A registered welfare function: parameters as fields, and a pure function of two utilities."""

    tags: ClassVar[Mapping[str, object]] = {}  # for `mores list --where`

    @abstractmethod
    def value(
        self, user: Float[Tensor, "*shape"], assistant: Float[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape"]:
        """Welfare of one conversation, element by element.

        Args:
            user: utility of the user.
            assistant: utility of the assistant's operator, in the same unit.
        """

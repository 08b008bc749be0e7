"""What a game reports of its worlds, seen to have its shape: users write games too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor

from mores.errors import UserError
from mores.game import Game


def measured(game: Game[Any], state: Any, worlds: int) -> Mapping[str, Float[Tensor, "world *n"]]:
    """The measures of a state by name, `[world]` or `[world, n]`.

    Raises:
        UserError: they are anything else.
    """
    found = game.measures(state)
    for name, value in found.items():
        kind = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        if not isinstance(value, Tensor) or value.dim() not in (1, 2) or len(value) != worlds:
            raise UserError(
                f"measure {name!r} of {type(game).__name__} is [world] or [world, n], with "
                f"{worlds} worlds; here it is {kind}"
            )
    return found

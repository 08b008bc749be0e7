"""Turns Mesa models that users register as environments into classes of environments.

mores.register("environment", "schelling", Schelling)      # a subclass of mesa.Model
"""

from __future__ import annotations

import sys
from typing import Any


def as_environment_class(kind: str, entry: Any) -> Any:
    """The class of environments of a class of Mesa models; other entries unchanged.

    Args:
        kind: name of the entry; part of every registry's adapter, not used here.
        entry: what a user registered.

    Raises:
        UserError: the constructor of the model does not fit: `make_mesa_environment`.
    """
    mesa = sys.modules.get("mesa")  # a subclass of its Model exists only where it is imported
    if mesa is None or not (isinstance(entry, type) and issubclass(entry, mesa.Model)):
        return entry
    from mores.clients.mesa.model_environment import make_mesa_environment

    return make_mesa_environment(entry)

"""Mesa both ways: environments as Mesa models, and a user's Mesa models as environments.

`import mesa` (3.3) sets the start method of Python's multiprocessing to `spawn` for the whole
process, so nothing here imports it before a name is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mores.clients.mesa.mesa_role import MesaRole as MesaRole
    from mores.clients.mesa.model_environment import MesaEnvironment as MesaEnvironment
    from mores.clients.mesa.model_environment import make_mesa_environment as make_mesa_environment
    from mores.clients.mesa.mores_model import CommunityAgent as CommunityAgent
    from mores.clients.mesa.mores_model import MoresModel as MoresModel
    from mores.clients.mesa.page import make_page as make_page

_EXPORTS = {
    "CommunityAgent": "mores.clients.mesa.mores_model",
    "MesaEnvironment": "mores.clients.mesa.model_environment",
    "MesaRole": "mores.clients.mesa.mesa_role",
    "MoresModel": "mores.clients.mesa.mores_model",
    "make_mesa_environment": "mores.clients.mesa.model_environment",
    "make_page": "mores.clients.mesa.page",
}


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        from mores.core.errors import did_you_mean

        raise AttributeError(f"{__name__} has no {name!r}{did_you_mean(name, _EXPORTS)}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})

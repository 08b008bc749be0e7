"""The names under which Gymnasium and PettingZoo know our environments.

`lock_in` is `mores/LockIn-v0` in Gymnasium and `mores/lock_in_v0` in PettingZoo. Entry points are
strings, so that nothing is imported before it is made and a specification can be saved as JSON.
"""

from __future__ import annotations

import gymnasium
import pettingzoo


def gymnasium_id(kind: str) -> str:
    """`mores/LockIn-v0` for `lock_in`."""
    camel = "".join(part.capitalize() for part in kind.split("_"))
    return f"mores/{camel}-v0"


def pettingzoo_id(kind: str) -> str:
    """`mores/lock_in_v0` for `lock_in`."""
    return f"mores/{kind}_v0"


def register_environment(kind: str) -> None:
    """Make an environment known under its names, once.

    Episodes end after `rounds`, an argument: so there is no `max_episode_steps` here, which
    would wrap single environments in a second limit.
    """
    if gymnasium_id(kind) in gymnasium.registry:
        return
    kwargs = {"game": kind}
    gymnasium.register(
        gymnasium_id(kind),
        entry_point="mores.clients.gymnasium:GymnasiumEnv",
        vector_entry_point="mores.clients.gymnasium_vector:GymnasiumVectorEnv",
        kwargs=kwargs,
    )
    name = pettingzoo_id(kind)
    pettingzoo.register(
        "parallel", name, "mores.clients.pettingzoo:PettingZooParallelEnv", kwargs=kwargs
    )
    pettingzoo.register("aec", name, "mores.clients.pettingzoo:PettingZooAECEnv", kwargs=kwargs)

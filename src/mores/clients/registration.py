"""Ids under which Gymnasium and PettingZoo know the registered environments.

`lock_in` is `mores/LockIn-v1` in Gymnasium and `mores/lock_in_v1` in PettingZoo. The version rises
when a default changes the numbers of an environment. Entry points are strings: nothing is imported
before an environment is made, and an `EnvSpec` can be saved as JSON.
"""

from __future__ import annotations

import dataclasses

import gymnasium
import pettingzoo
from gymnasium.envs.registration import EnvSpec

from mores.core.errors import UserError
from mores.registry import REGISTRIES
from mores.registry.entries import ENVIRONMENT_VERSIONS


def gymnasium_id(kind: str) -> str:
    """Class name as id: `mores/DRMDP-v0` for `dr_mdp`; for other class names the kind's words."""
    entry_point = REGISTRIES["environment"][kind]
    name = entry_point.split(":")[-1] if isinstance(entry_point, str) else entry_point.__name__
    if name.lower() != kind.replace("_", "").lower():  # two kinds may share a class
        name = "".join(word.capitalize() for word in kind.split("_"))
    return f"mores/{name}-v{version(kind)}"


def version(kind: str) -> int:
    """Version of an environment; 0 for a user's."""
    return ENVIRONMENT_VERSIONS.get(kind, 0)


def versioned(kind: str) -> str:
    """`lock_in_v1` for `lock_in`."""
    return f"{kind}_v{version(kind)}"


def pettingzoo_id(kind: str) -> str:
    """`mores/lock_in_v1` for `lock_in`."""
    return f"mores/{versioned(kind)}"


def register_environment(kind: str) -> None:
    """Register an environment once, without `max_episode_steps`: see `with_step_limit`."""
    if gymnasium_id(kind) in gymnasium.registry:
        return
    kwargs = {"environment": kind}
    gymnasium.register(
        gymnasium_id(kind),
        "mores.clients.gymnasium:GymnasiumEnv",
        vector_entry_point="mores.clients.gymnasium_vector:GymnasiumVectorEnv",
        kwargs=kwargs,
    )
    name = pettingzoo_id(kind)
    entry_point = "mores.clients.pettingzoo:PettingZoo{}Env"
    pettingzoo.register("parallel", name, entry_point.format("Parallel"), kwargs=kwargs)
    pettingzoo.register("aec", name, entry_point.format("AEC"), kwargs=kwargs)


def with_step_limit(spec: EnvSpec | None, limit: int, rounds: int) -> EnvSpec | None:
    """A specification with the limit of an episode in turns, which its `rounds` imply.

    `TimeAwareObservation` and other wrappers read it. A smaller limit in the specification stays.
    Gymnasium applies the limit to every environment made from this specification: `spec_rounds` in
    its `kwargs` lets the environment refuse more `rounds`, which it could not have.
    """
    if spec is None:
        return None
    _check_environment(spec)
    given = spec.max_episode_steps
    steps = limit if given is None or given < 0 else min(given, limit)
    kwargs = {**spec.kwargs, "spec_rounds": rounds}
    return dataclasses.replace(spec, max_episode_steps=steps, kwargs=kwargs)


def _check_environment(spec: EnvSpec) -> None:
    """Refuse an environment that was made from the id of another one, by `environment=...`."""
    registered = gymnasium.registry.get(spec.id)
    of_id = None if registered is None else registered.kwargs.get("environment")
    given = spec.kwargs.get("environment", of_id)
    if of_id is not None and given != of_id:
        raise UserError(
            f"environment: the id {spec.id} is that of {of_id!r}, not of {given!r:.60}: make "
            "another environment from its own id",
            code="conflict",
            path="environment",
        )


def check_rounds_of_spec(rounds: int, spec_rounds: int | None) -> None:
    """Refuse more rounds than those of the specification from which an environment is made."""
    from mores.core.arguments import check_integer  # imports torch: ids are registered without it

    if spec_rounds is not None and rounds > check_integer("spec_rounds", spec_rounds):
        raise UserError(
            f"rounds: {rounds} are more than the {spec_rounds} of this specification, at which "
            "Gymnasium ends episodes: make the environment from its id",
            code="conflict",
            path="rounds",
        )

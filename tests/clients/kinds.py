"""Environments of the client tests: small ones of every registered kind, with all their roles.

`errands` is a test environment with multi-discrete actions.

Warnings of clients are errors in these tests, except the expected ones below.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import pettingzoo

import mores
from mores.clients.registration import gymnasium_id, pettingzoo_id
from tests.conformance.environments import SHIPPED, Errands, make, small

mores.register("environment", "errands", Errands)
KINDS = [*SHIPPED, "errands"]

FILTERS = (
    "error",
    # Values and beliefs have no bounds, or the environment declares none.
    "ignore:.*A Box observation space (minimum|maximum) value is",
    "ignore:Agent's (minimum|maximum) observation space value is",
    "ignore:Environment's (minimum|maximum) state space value is",
    # Some actions are values in value units: they are not normalized.
    "ignore:.*we recommend using a symmetric and normalized space",
    "ignore:We recommend you to use a symmetric and normalized Box action space",
    # A multi-discrete space is neither a box nor a discrete space.
    "ignore:Action space for each agent probably should be gymnasium.spaces.box",
    # Nor is a mapping of an observation and a mask.
    "ignore:Observation space for each agent probably should be gymnasium.spaces.box",
    "ignore:Observation is not a NumPy array",
    # Roles have different observation spaces.
    "ignore:Agents have different observation space sizes",
    "ignore:Observations are different shapes",
    # The first observation of an episode can be zero.
    "ignore:Observation numpy array is all zeros",
    "ignore:State numpy array is all zeros",
    # Warnings that the clients cause themselves.
    "ignore:PettingZoo in TorchRL is tested using version",
    "ignore::DeprecationWarning",
    "ignore::PendingDeprecationWarning",
    "ignore::FutureWarning",
)


def role_names(kind: str) -> list[str]:
    """Names of the environment's roles."""
    return [role.name for role in make(kind).roles]


AGENTS = [(kind, f"{role}_0") for kind in KINDS for role in role_names(kind)]


def gym_make(kind: str, **kwargs: Any) -> gymnasium.Env:
    return gymnasium.make(gymnasium_id(kind), **small(kind), **kwargs)


def gym_make_vec(kind: str, **kwargs: Any) -> gymnasium.vector.VectorEnv:
    return gymnasium.make_vec(gymnasium_id(kind), **small(kind), **kwargs)


def zoo_make(api: str, kind: str, **kwargs: Any) -> Any:
    return pettingzoo.make(api, pettingzoo_id(kind), **small(kind), **kwargs)  # type: ignore

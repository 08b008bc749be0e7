"""What client tests run on: every environment that mores registers, small, and every role in it.

And one of ours besides, `errands`, whose porters choose several things at once.

Warnings of clients are errors here, but for those named below, which are meant.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import pettingzoo

import mores
from mores.clients.registration import gymnasium_id, pettingzoo_id
from tests.conformance.games import SHIPPED, Errands, make, small

mores.register("environment", "errands", Errands)
KINDS = [*SHIPPED, "errands"]

MEANT = (
    "error",
    # Values and beliefs have no bounds, or bounds that the environment has no reason to declare.
    "ignore:.*A Box observation space (minimum|maximum) value is",
    "ignore:Agent's (minimum|maximum) observation space value is",
    "ignore:Environment's (minimum|maximum) state space value is",
    # An action is a place among values, in their units: not a number to be normalised.
    "ignore:.*we recommend using a symmetric and normalized space",
    "ignore:We recommend you to use a symmetric and normalized Box action space",
    # Several choices at once are neither a box nor one choice.
    "ignore:Action space for each agent probably should be gymnasium.spaces.box",
    # Roles see different things.
    "ignore:Agents have different observation space sizes",
    "ignore:Observations are different shapes",
    # Before anything was said, nothing was heard.
    "ignore:Observation numpy array is all zeros",
    "ignore:State numpy array is all zeros",
    # Of the clients' own making.
    "ignore:PettingZoo in TorchRL is tested using version",
    "ignore::DeprecationWarning",
    "ignore::PendingDeprecationWarning",
    "ignore::FutureWarning",
)


def roles(kind: str) -> list[str]:
    """Names of the roles of that environment."""
    return [role.name for role in make(kind).roles]


SEATS = [(kind, f"{role}_0") for kind in KINDS for role in roles(kind)]


def gym_make(kind: str, **kwargs: Any) -> gymnasium.Env:
    return gymnasium.make(gymnasium_id(kind), **small(kind), **kwargs)


def gym_make_vec(kind: str, **kwargs: Any) -> gymnasium.vector.VectorEnv:
    return gymnasium.make_vec(gymnasium_id(kind), **small(kind), **kwargs)


def zoo_make(form: str, kind: str, **kwargs: Any) -> Any:
    return pettingzoo.make(form, pettingzoo_id(kind), **small(kind), **kwargs)  # type: ignore

"""What players know, from episode to episode and from stage to stage.

Stages may have different players at the same role. A player finds what another one learned there if
both keep it alike: if the class that first defines `again` is the same for both (two recipes of one
learner). Otherwise it starts anew, and the other finds its own where it comes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mores.core.environment import Environment, Policy

PolicyStateStore = dict[str, Any]  # by role, and by what the player is


def stored_states(store: PolicyStateStore, policies: Mapping[str, Policy]) -> dict[str, Any]:
    """What these players know from before, by role."""
    keys = {role: state_key(role, player) for role, player in policies.items()}
    return {role: store[key] for role, key in keys.items() if key in store}


def store_states(
    store: PolicyStateStore, policies: Mapping[str, Policy], policy_states: Mapping[str, Any]
) -> None:
    """Keep what these players know now, by role; those who forget between episodes know nothing."""
    for role, player in policies.items():
        if player.supports("on_episode_start"):
            store[state_key(role, player)] = policy_states[role]


def state_key(role: str, policy: Policy) -> str:
    """Under which name a player's memory is kept: players with the same one go on from another."""
    kinds = [kind for kind in type(policy).__mro__ if issubclass(kind, Policy)]
    own = [kind for kind in kinds if kind is not Policy and "on_episode_start" in vars(kind)]
    kind = own[-1] if own else type(policy)
    return f"{role}: {kind.__module__}.{kind.__qualname__}"


def is_untrained(role: str, policy: Policy, trained: Iterable[Policy]) -> bool:
    """Whether a learner plays as it was made, although others learned at the same role, or nobody.

    A learner goes on from what was learned in its place: one in a cast from what was learned at the
    same seats of a cast, one alone from what was learned alone.
    """
    known = {(state_key(role, other), place) for other in trained for place in other.parameter_keys}
    return not {(state_key(role, policy), place) for place in policy.parameter_keys} <= known


def continuing_policies(
    environment: Environment[Any],
    default_policies: Mapping[str, Policy],
    trained: Mapping[str, Policy],
) -> dict[str, Policy]:
    """Who plays in an environment where nobody else is asked for, by role.

    Its baseline, except where somebody learned whom the baseline would not go on from.

    Args:
        environment: the environment.
        default_policies: its baseline.
        trained: who learned before, by role.
    """
    found, roles = dict(default_policies), {role.name for role in environment.roles}
    for role, player in trained.items():
        usual = default_policies.get(role)
        goes_on = (
            usual is not None and usual.parameter_keys and not is_untrained(role, usual, [player])
        )
        if role in roles and not goes_on:
            found[role] = player
    return found

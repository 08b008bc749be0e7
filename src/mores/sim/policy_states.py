"""Policy states that outlive episodes and stages.

Stages may have different policies for the same role. A policy that keeps its state continues from
that of another one with the same `state_kind` (two recipes of one learner). Otherwise it starts
anew, and each finds its own state when it returns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mores.core.environment import Environment
from mores.core.learner import parameter_keys
from mores.core.policy import Policy, state_kind

PolicyStateStore = dict[str, Any]  # by `state_key`


def stored_states(store: PolicyStateStore, policies: Mapping[str, Policy]) -> dict[str, Any]:
    """Stored states of these policies, by role; roles without one are missing."""
    keys = {role: state_key(role, policy) for role, policy in policies.items()}
    return {role: store[key] for role, key in keys.items() if key in store}


def store_states(
    store: PolicyStateStore,
    policies: Mapping[str, Policy],
    policy_states: Mapping[str, Any],
    within_stage: bool = False,
) -> None:
    """Store the states of these policies, if they keep them.

    `within_stage`: also those that go on to the next episode because the policy has an
    `on_episode_start` of its own; `drop_stage_states` removes them at the end of the stage.
    """
    for role, policy in policies.items():
        own = type(policy).on_episode_start is not Policy.on_episode_start
        if policy.keeps_state or (within_stage and own):
            store[state_key(role, policy)] = policy_states[role]


def drop_stage_states(store: PolicyStateStore, policies: Mapping[str, Policy]) -> None:
    """Remove the states of policies that do not keep them from stage to stage."""
    for role, policy in policies.items():
        if not policy.keeps_state:
            store.pop(state_key(role, policy), None)


def state_key(role: str, policy: Policy) -> str:
    """Key of a policy's state: policies with equal keys continue from each other's state."""
    return f"{role}: {state_kind(policy)}"


def is_untrained(role: str, policy: Policy, trained: Iterable[Policy]) -> bool:
    """Whether a policy has trainable parameters that none of the `trained` ones stored.

    Parameters are found by key: a member of a `per_agent` policy continues from the same agents of
    such a policy, a policy on its own from one on its own.
    """
    known = {(state_key(role, other), key) for other in trained for key in parameter_keys(other)}
    return not {(state_key(role, policy), key) for key in parameter_keys(policy)} <= known


def continuing_policies(
    environment: Environment[Any],
    default_policies: Mapping[str, Policy],
    trained: Mapping[str, Policy],
) -> dict[str, Policy]:
    """Policies of an environment by role, where the caller names none.

    The default policies, except where a trained policy's parameters would otherwise be unused.

    Args:
        environment: the environment.
        default_policies: its default policies.
        trained: policies that trained before, by role.
    """
    policies, roles = dict(default_policies), {role.name for role in environment.roles}
    for role, policy in trained.items():
        default = default_policies.get(role)
        if role not in roles:
            continue
        if default is None or not parameter_keys(default) or is_untrained(role, default, [policy]):
            policies[role] = policy
    return policies

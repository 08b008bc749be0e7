"""Checks of what a simulator is given: objects, and a policy or external client for every agent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mores.core.arguments import check_integer
from mores.core.environment import Phase, Role
from mores.core.errors import UserError, describe_value, did_you_mean
from mores.core.policy import Policy


def check_instance(what: str, given: object, expected: type, path: str = "") -> None:
    """Refuse anything but an object of a class, such as its name.

    Args:
        what: `environment`, `policy` or `population`.
        given: the argument.
        expected: its class.
        path: of the argument; default: `what`.

    Raises:
        UserError: it is something else.
    """
    if not isinstance(given, expected):
        name = repr(given) if isinstance(given, str) else "..."
        shown = describe_value(given)  # the repr of a deeply nested mapping raises RecursionError
        raise UserError(
            f"{path or what} must be an object, not {shown}: mores.make_{what}({name:.60})",
            code="wrong_type",
            path=path or what,
        )


def check_external(external: Any) -> dict[str, list[int]]:
    """The externally controlled agents of each role, without roles that have none.

    Raises:
        UserError: not a mapping of roles to indices.
    """
    if external is None:
        return {}
    if not isinstance(external, Mapping):
        message = f"external: a mapping of roles to agents, not {external!r:.60}"
        raise UserError(message, code="wrong_type", path="external")
    indices: dict[str, list[int]] = {}
    for role, agents in external.items():
        path = f"external.{role}"
        if isinstance(agents, str) or not isinstance(agents, Iterable):
            message = f"{path}: a list of indices of agents, not {agents!r:.60}"
            raise UserError(message, code="wrong_type", path=path)
        indices[role] = [check_integer(path, index, 0) for index in agents]
    return {role: agents for role, agents in indices.items() if agents}


def check_agent_assignment(
    roles: Mapping[str, Role],
    phases: Sequence[Phase],
    policies: Mapping[str, Policy],
    external: Mapping[str, Sequence[int]],
) -> None:
    """Check policies and external agents against the roles of an environment.

    Args:
        roles: roles of the environment, by name.
        phases: phases of the environment.
        policies: policy of each role.
        external: indices of the externally controlled agents, by role.

    Raises:
        UserError: unknown roles or agents, duplicate agents, or agents without a policy.
    """
    for name in [*policies, *external]:
        if name not in roles:
            raise UserError(
                f"the environment has no role {name!r}{did_you_mean(name, roles)}",
                code="unknown_name",
                path=f"{'policies' if name in policies else 'external'}.{name}",
            )
    for name, agents in external.items():
        count = roles[name].num_agents
        in_range = all(0 <= agent < count for agent in agents)
        if len(set(agents)) < len(agents) or not in_range:
            raise UserError(
                f"agents of {name!r} are numbered 0 to {count - 1}, each given once, not {agents}",
                code="duplicate" if in_range else "out_of_range",
                path=f"external.{name}",
            )
        if not any(name in phase.action_spaces for phase in phases):
            raise UserError(
                f"{name!r} acts in no phase: its agents cannot be external",
                code="unsupported",
                path=f"external.{name}",
            )
    for name, role in roles.items():
        if name not in policies and len(external.get(name, ())) < role.num_agents:
            raise UserError(
                f"role {name!r} has no policy: give it one, or make its agents external",
                code="missing",
                path=f"policies.{name}",
            )

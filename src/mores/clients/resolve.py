"""Environments, policies, populations and agents from a client's arguments.

Clients take names and plain numbers, so that their arguments can be saved as JSON, or objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mores import registry
from mores.clients.client_errors import check_arguments
from mores.core.arguments import check_names
from mores.core.environment import Environment
from mores.core.errors import UserError, did_you_mean
from mores.core.people import Population
from mores.core.policy import Policy
from mores.registry.specs import (
    Spec,
    check_policy_mapping,
    environment_for,
    from_spec,
    policies_from_specs,
)
from mores.sim.metric_tracker import metrics_of_state
from mores.sim.simulator import Simulator


class AgentId(NamedTuple):
    """Role of an agent, and its index among the role's agents."""

    role: str
    agent_index: int

    @property
    def name(self) -> str:
        """Name of the agent in clients: `person_3`."""
        return f"{self.role}_{self.agent_index}"


def resolve_environment(
    environment: str | Environment[Any],
    parameters: Mapping[str, Any],
    population: Population | None = None,
    client: type[Any] | None = None,
) -> Environment[Any]:
    """Environment by name and parameters, or the given object, for the people of a population.

    `client`: class whose own arguments are also named where a parameter is unknown.
    """
    if isinstance(environment, str):
        fields = registry.class_of("environment", environment).model_fields
        known = [field.alias or name for name, field in fields.items()]
        check_arguments(environment, parameters, known, client)
        return environment_for(environment, parameters, population)
    if parameters:
        raise UserError(
            f"parameters need an environment's name, not an object: {sorted(parameters)}",
            code="conflict",
            path=min(parameters),
        )
    if not isinstance(environment, Environment):
        raise UserError(
            f"environment: a name (see `mores list`) or an Environment, not {environment!r:.60}",
            code="wrong_type",
            path="environment",
        )
    return environment if population is None else environment.with_population(population)


def resolve_policies(
    environment: Environment[Any],
    policies: Mapping[str, Policy | Spec] | None,
    external: Mapping[str, Sequence[int]],
) -> dict[str, Policy]:
    """Policy of each role: the given one, else the environment's default.

    Args:
        environment: the environment.
        policies: the given policies, by role.
        external: indices of the external agents, by role.

    Raises:
        UserError: a given policy would never act, since all agents of its role are external.
    """
    given = policies_from_specs({} if policies is None else policies)
    for role in environment.roles:
        if role.name in given and len(external.get(role.name, ())) == role.num_agents:
            raise UserError(
                f"policies.{role.name}: all agents of this role are external: the policy would "
                "never act",
                code="conflict",
                path=f"policies.{role.name}",
            )
    return {**policies_from_specs(environment.default_policies()), **given}


def resolve_population(population: Population | Spec | None) -> Population | None:
    """Population by kind and parameters, or the given object."""
    return None if population is None else from_spec("population", population, "population")


def resolve_agent(environment: Environment[Any], name: str | None, path: str = "agent") -> AgentId:
    """Agent by its name. `None`: the first agent of the role with the fewest agents.

    `path`: name of the argument, for errors.
    """
    _require_roles(environment, path)
    if name is None:
        return AgentId(min(environment.roles, key=lambda role: role.num_agents).name, 0)
    role, _, number = str(name).rpartition("_")
    counts = {role.name: role.num_agents for role in environment.roles}
    if role not in counts or not number.isdecimal():
        near = did_you_mean(name, [AgentId(known, 0).name for known in counts])
        raise UserError(f"{path}: no agent {name!r}{near}", code="unknown_name", path=path)
    if int(number) >= counts[role]:
        raise UserError(
            f"{path}: no agent {name!r}: the last one is {AgentId(role, counts[role] - 1).name}",
            code="out_of_range",
            path=path,
        )
    return AgentId(role, int(number))


def _require_roles(environment: Environment[Any], path: str) -> None:
    """Refuse an environment without roles, in which a client has nothing to decide."""
    if not environment.roles:
        message = f"{path}: the environment has no roles: no agent of it can be external"
        raise UserError(message, code="missing", path=path)


def resolve_external_agents(
    environment: Environment[Any],
    external: Sequence[str] | None,
    policies: Mapping[str, Any] | None,
) -> dict[str, list[int]]:
    """Indices of the external agents, by role.

    `external` names roles (`person`: all its agents) and agents (`person_3`). `None`: all roles
    without an entry in `policies`.
    """
    _require_roles(environment, "external")
    counts = {role.name: role.num_agents for role in environment.roles}
    if policies is not None:
        check_policy_mapping(policies)
    if external is None:
        external = [name for name in counts if name not in (policies or {})]
    indices: dict[str, set[int]] = {name: set() for name in counts}
    for name in check_names("external", external):
        if name in counts:
            indices[name].update(range(counts[name]))
        else:
            agent = resolve_agent(environment, name, "external")
            indices[agent.role].add(agent.agent_index)
    agents = {name: sorted(numbers) for name, numbers in indices.items() if numbers}
    if not agents:
        raise UserError(
            "no agent is external: leave a role out of policies, or name it in external",
            code="missing",
            path="external",
        )
    return agents


def selected_metrics(simulator: Simulator, state: Any, names: Sequence[str]) -> dict[str, Tensor]:
    """Named metrics of a state of the simulator's worlds, `[world]` or `[world, n]`.

    Raises:
        UserError: an unknown metric, one that needs the whole episode, or a wrong shape.
    """
    if not names:
        return {}
    metrics = metrics_of_state(simulator.environment, state, len(simulator.worlds), names)
    return {name: metrics[name].to(torch.float32) for name in names}

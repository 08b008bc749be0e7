"""Who sits where: games, players and seats from what the user wrote.

Views take names and plain numbers, so that what made them can be written down as JSON, or ready
objects where somebody has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mores import registry
from mores.core.check_metrics import checked_metrics
from mores.core.environment import Environment, Policy
from mores.core.errors import UserError, did_you_mean
from mores.sim.simulator import Population, Simulator

SpecMapping = Mapping[str, Any]  # {"kind": ..., parameter: ...}


class AgentId(NamedTuple):
    """One seat: its role, and its number among the role's seats."""

    role: str
    agent_index: int

    @property
    def name(self) -> str:
        """As clients name it: `person_3`."""
        return f"{self.role}_{self.agent_index}"


def resolve_environment(
    environment: str | Environment[Any], parameters: Mapping[str, Any]
) -> Environment[Any]:
    """A game by name and parameters, or one that is made already."""
    if isinstance(environment, str):
        return registry.make("environment", environment, parameters)
    if parameters:
        raise UserError(
            f"parameters go with a name, not with a ready game: {sorted(parameters)}",
            code="conflict",
            path=min(parameters),
        )
    if not isinstance(environment, Environment):
        raise UserError(
            f"an environment is a name (see `mores list`) or a game, not {environment!r:.60}",
            code="wrong_type",
            path="game",
        )
    return environment


def resolve_policies(
    environment: Environment[Any], policies: Mapping[str, Policy | SpecMapping] | None
) -> dict[str, Policy]:
    """The players named for roles, and the game's baseline for the others."""
    roles = {role.name for role in environment.roles}
    if not isinstance(policies, Mapping | None):
        raise UserError(
            f"players: a mapping of roles to players, not {policies!r:.60}",
            code="wrong_type",
            path="players",
        )
    found = dict(environment.default_policies())
    for role, player in (policies or {}).items():
        if role not in roles:
            raise UserError(
                f"no role {role!r} in this game{did_you_mean(role, roles)}",
                code="unknown_name",
                path=f"players.{role}",
            )
        if not isinstance(player, Policy):
            asked = _kind_and_parameters(player, f"player of {role!r}", f"players.{role}")
            player = registry.make("policy", *asked)
        found[role] = player
    return found


def resolve_population(population: Population | SpecMapping | None) -> Population | None:
    """A population by kind and parameters, or one that is made already."""
    if population is None or isinstance(population, Population):
        return population
    return registry.make(
        "population", *_kind_and_parameters(population, "population", "population")
    )


def _kind_and_parameters(spec: SpecMapping, label: str, path: str) -> tuple[str, dict[str, Any]]:
    if not isinstance(spec, Mapping) or not isinstance(spec.get("kind"), str):
        nameless = isinstance(spec, Mapping) and "kind" not in spec
        raise UserError(
            f"a {label} is an object, or {{'kind': name, parameter: value}}: {spec!r}",
            code="missing" if nameless else "wrong_type",
            path=f"{path}.kind" if isinstance(spec, Mapping) else path,
        )
    parameters = dict(spec)
    return parameters.pop("kind"), parameters


def resolve_agent(environment: Environment[Any], name: str | None, path: str = "seat") -> AgentId:
    """A seat by its name; by default the first seat of the role that has fewest.

    `path`: the argument, for errors.
    """
    if name is None:
        return AgentId(min(environment.roles, key=lambda role: role.num_agents).name, 0)
    role, _, number = str(name).rpartition("_")
    counts = {role.name: role.num_agents for role in environment.roles}
    if role not in counts or not number.isdecimal():
        seats = [AgentId(known, 0).name for known in counts]
        near = did_you_mean(name, seats)
        raise UserError(f"no seat {name!r}{near}", code="unknown_name", path=path)
    if int(number) >= counts[role]:
        raise UserError(
            f"no seat {name!r}: they run to {AgentId(role, counts[role] - 1).name}",
            code="out_of_range",
            path=path,
        )
    return AgentId(role, int(number))


def resolve_external_agents(
    environment: Environment[Any],
    external: Sequence[str] | None,
    policies: Mapping[str, Any] | None,
) -> dict[str, list[int]]:
    """Seats by role that are played from outside.

    `external` names roles (`person`: all its seats) and seats (`person_3`); by default these are
    all roles for which no player is named.
    """
    counts = {role.name: role.num_agents for role in environment.roles}
    if external is None:
        external = [name for name in counts if name not in (policies or {})]
    if isinstance(external, str):
        raise UserError(
            f"outside is a list of roles and seats, as in [{external!r}]",
            code="wrong_type",
            path="outside",
        )
    taken: dict[str, set[int]] = {name: set() for name in counts}
    for name in external:
        if name in counts:
            taken[name].update(range(counts[name]))
        else:
            seat = resolve_agent(environment, name, "outside")
            taken[seat.role].add(seat.agent_index)
    found = {name: sorted(seats) for name, seats in taken.items() if seats}
    if not found:
        raise UserError(
            "nobody is outside: leave a role without a player, or name one",
            code="missing",
            path="outside",
        )
    return found


def selected_metrics(simulator: Simulator, state: Any, names: Sequence[str]) -> dict[str, Tensor]:
    """The named measures of a state of a table's worlds, `[world]` or `[world, n]`.

    Raises:
        UserError: there is no such measure, or it has another shape.
    """
    if not names:
        return {}
    found = checked_metrics(simulator.environment, state, len(simulator.worlds))
    for name in names:
        if name not in found:
            raise UserError(
                f"no measure {name!r} in this game{did_you_mean(name, found)}",
                code="unknown_name",
                path="measures",
            )
    return {name: found[name].to(torch.float32) for name in names}

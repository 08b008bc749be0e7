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
from mores.core.check_metrics import measured
from mores.core.environment import Game, Player
from mores.core.errors import UserError, did_you_mean
from mores.sim.simulator import Population, Table

Made = Mapping[str, Any]  # {"kind": ..., parameter: ...}


class Seat(NamedTuple):
    """One seat: its role, and its number among the role's seats."""

    role: str
    number: int

    @property
    def name(self) -> str:
        """As clients name it: `person_3`."""
        return f"{self.role}_{self.number}"


def game_from(game: str | Game[Any], parameters: Mapping[str, Any]) -> Game[Any]:
    """A game by name and parameters, or one that is made already."""
    if isinstance(game, str):
        return registry.make("environment", game, parameters)
    if parameters:
        raise UserError(
            f"parameters go with a name, not with a ready game: {sorted(parameters)}",
            code="conflict",
            path=min(parameters),
        )
    if not isinstance(game, Game):
        raise UserError(
            f"an environment is a name (see `mores list`) or a game, not {game!r:.60}",
            code="wrong_type",
            path="game",
        )
    return game


def players_from(game: Game[Any], players: Mapping[str, Player | Made] | None) -> dict[str, Player]:
    """The players named for roles, and the game's baseline for the others."""
    roles = {role.name for role in game.roles}
    if not isinstance(players, Mapping | None):
        raise UserError(
            f"players: a mapping of roles to players, not {players!r:.60}",
            code="wrong_type",
            path="players",
        )
    found = dict(game.baseline())
    for role, player in (players or {}).items():
        if role not in roles:
            raise UserError(
                f"no role {role!r} in this game{did_you_mean(role, roles)}",
                code="unknown_name",
                path=f"players.{role}",
            )
        if not isinstance(player, Player):
            asked = _kind_and_parameters(player, f"player of {role!r}", f"players.{role}")
            player = registry.make("player", *asked)
        found[role] = player
    return found


def population_from(population: Population | Made | None) -> Population | None:
    """A population by kind and parameters, or one that is made already."""
    if population is None or isinstance(population, Population):
        return population
    return registry.make(
        "population", *_kind_and_parameters(population, "population", "population")
    )


def _kind_and_parameters(made: Made, what: str, path: str) -> tuple[str, dict[str, Any]]:
    if not isinstance(made, Mapping) or not isinstance(made.get("kind"), str):
        nameless = isinstance(made, Mapping) and "kind" not in made
        raise UserError(
            f"a {what} is an object, or {{'kind': name, parameter: value}}: {made!r}",
            code="missing" if nameless else "wrong_type",
            path=f"{path}.kind" if isinstance(made, Mapping) else path,
        )
    parameters = dict(made)
    return parameters.pop("kind"), parameters


def one_seat(game: Game[Any], name: str | None, path: str = "seat") -> Seat:
    """A seat by its name; by default the first seat of the role that has fewest.

    `path`: the argument, for errors.
    """
    if name is None:
        return Seat(min(game.roles, key=lambda role: role.count).name, 0)
    role, _, number = str(name).rpartition("_")
    counts = {role.name: role.count for role in game.roles}
    if role not in counts or not number.isdecimal():
        seats = [Seat(known, 0).name for known in counts]
        near = did_you_mean(name, seats)
        raise UserError(f"no seat {name!r}{near}", code="unknown_name", path=path)
    if int(number) >= counts[role]:
        raise UserError(
            f"no seat {name!r}: they run to {Seat(role, counts[role] - 1).name}",
            code="out_of_range",
            path=path,
        )
    return Seat(role, int(number))


def outside_seats(
    game: Game[Any], outside: Sequence[str] | None, players: Mapping[str, Any] | None
) -> dict[str, list[int]]:
    """Seats by role that are played from outside.

    `outside` names roles (`person`: all its seats) and seats (`person_3`); by default these are
    all roles for which no player is named.
    """
    counts = {role.name: role.count for role in game.roles}
    if outside is None:
        outside = [name for name in counts if name not in (players or {})]
    if isinstance(outside, str):
        raise UserError(
            f"outside is a list of roles and seats, as in [{outside!r}]",
            code="wrong_type",
            path="outside",
        )
    taken: dict[str, set[int]] = {name: set() for name in counts}
    for name in outside:
        if name in counts:
            taken[name].update(range(counts[name]))
        else:
            seat = one_seat(game, name, "outside")
            taken[seat.role].add(seat.number)
    found = {name: sorted(seats) for name, seats in taken.items() if seats}
    if not found:
        raise UserError(
            "nobody is outside: leave a role without a player, or name one",
            code="missing",
            path="outside",
        )
    return found


def chosen_measures(table: Table, state: Any, names: Sequence[str]) -> dict[str, Tensor]:
    """The named measures of a state of a table's worlds, `[world]` or `[world, n]`.

    Raises:
        UserError: there is no such measure, or it has another shape.
    """
    if not names:
        return {}
    found = measured(table.game, state, len(table.worlds))
    for name in names:
        if name not in found:
            raise UserError(
                f"no measure {name!r} in this game{did_you_mean(name, found)}",
                code="unknown_name",
                path="measures",
            )
    return {name: found[name].to(torch.float32) for name in names}

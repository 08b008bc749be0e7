"""One seat at the table, its own turns only: what `Env` and `VectorEnv` share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.clients import gymnasium_spaces, resolve
from mores.core.arguments import names_in
from mores.core.environment import Game, Player, role_named
from mores.core.errors import UserError
from mores.sim.simulator import Population, Table


class OwnTurn(NamedTuple):
    """What happened since the seat's last turn: see `mores.sim.simulator.Turn`."""

    pay: Float[Tensor, " world"]
    terminated: Bool[Tensor, " world"]
    truncated: Bool[Tensor, " world"]
    repaired: Bool[Tensor, " world"]
    final: Float[Tensor, "world size"] | None
    ended_in: Any


class OneSeat:
    """A seat that is played from outside, in one or many worlds.

    Args:
        game: the name of an environment, or a game.
        seat: as in `person_3`; by default the first seat of the role with the fewest.
        rounds: after so many an episode is cut off.
        players: by role, for all other seats; by default the game's baseline.
        population: where people come from; by default the game's own.
        measures: names of measures to be told.
        worlds: how many are played at once.
        autoreset: see `Table`.
        device: where tensors live.
        parameters: of the environment, where it is given by name.
    """

    def __init__(
        self,
        game: str | Game[Any],
        seat: str | None,
        rounds: int,
        players: Mapping[str, Player | resolve.Made] | None,
        population: Population | resolve.Made | None,
        measures: Sequence[str],
        worlds: int,
        autoreset: bool,
        device: torch.device | str,
        parameters: Mapping[str, Any],
    ) -> None:
        self.game = resolve.game_from(game, parameters)
        self.seat = resolve.one_seat(self.game, seat)
        self.measures = tuple(names_in("measures", measures))
        self.table = Table(
            self.game,
            resolve.players_from(self.game, players),
            {self.seat.role: [self.seat.number]},
            worlds,
            rounds,
            autoreset,
            people=resolve.population_from(population),
            device=device,
        )
        role = role_named(self.game, self.seat.role)
        self.observation_space = gymnasium_spaces.observation_space(role)
        self.action_space = gymnasium_spaces.action_space(self.game, role.name)
        self.options = gymnasium_spaces.options(self.action_space)

    @property
    def turns_a_round(self) -> int:
        """How often the seat acts in a round."""
        return sum(self.seat.role in phase.acts for phase in self.game.phases)

    def look(self) -> Float[Tensor, "world size"]:
        """What the seat sees now: a copy, which clients may keep and write into."""
        return self.table.observe(self.seat.role)[:, self.seat.number].clone()

    def mask(self) -> Bool[Tensor, "world option"] | None:
        """Which options are open now, those of several choices one after the other.

        `None` where actions are numbers.
        """
        if self.options is None:
            return None
        return self.table.mask(self.seat.role, self.options)[:, self.seat.number].clone()

    def told(self, state: Any) -> dict[str, Tensor]:
        """The measures of a state that were asked for."""
        return resolve.chosen_measures(self.table, state, self.measures)

    def act(self, actions: Tensor) -> OwnTurn:
        """Act, and play on to the seat's next turn. `actions`: `[world]` or `[world, size]`."""
        if actions.dim() == 0:
            raise UserError(
                f"one action for each of {len(self.table.worlds)} worlds is needed",
                code="wrong_shape",
                path="actions",
            )
        role, number = self.seat
        turn = self.table.step({role: actions[:, None]})
        return OwnTurn(
            turn.pay[role][:, number],
            turn.terminated.clone(),
            turn.truncated.clone(),
            turn.repaired[role][:, 0],
            None if turn.final is None else turn.final[role][:, number].clone(),
            turn.ended_in,
        )

"""Play a game among players from start to end, and record what was measured on the way."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mores.core.check_metrics import measured
from mores.core.environment import Game, Player
from mores.core.errors import UserError, did_you_mean
from mores.core.random_streams import Worlds
from mores.sim.simulator import Population, Table


@dataclasses.dataclass(frozen=True)
class Played:
    """What is left of a play.

    Attributes:
        state: the last state.
        memory: what the players keep, by role.
        rounds: the rounds at which measures were taken; 0 is before the first.
        measures: by name, `[world, round]` or `[world, round, n]`.
        hidden: what `keep_hidden` asked for, `[world, round, ...]`, of the worlds it named.
    """

    state: Any
    memory: Mapping[str, Any]
    rounds: tuple[int, ...]
    measures: Mapping[str, Float[Tensor, "world round *n"]]
    hidden: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)


def play(
    game: Game[Any],
    players: Mapping[str, Player] | None = None,
    worlds: int | Sequence[int] | Worlds = 1,
    rounds: int = 100,
    seed: int = 0,
    record: Sequence[str] = (),
    *,
    at: Sequence[int] | None = None,
    people: Population | None = None,
    keep_hidden: Mapping[str, int] | None = None,
    hidden_at: Sequence[int] = (),
    stage: int = 0,
    device: torch.device | str = "cpu",
    tick: Callable[[int], None] | None = None,
) -> Played:
    """Play `rounds` rounds in every world; a world that ends earlier stands still from then on.

    Args:
        game: the environment.
        players: by role; roles not named get the game's baseline player.
        worlds: how many, or which replicates, or a `Worlds`.
        rounds: how many rounds.
        seed: of all draws.
        record: names of measures.
        at: rounds at which to take them; by default all, from 0 to `rounds`.
        people: a population, where the people are made elsewhere.
        keep_hidden: names of hidden quantities to keep, of the first so many worlds.
        hidden_at: rounds at which to keep them.
        stage: number of the stage.
        device: where tensors live.
        tick: called after every round with the number of rounds played.
    """
    seated = {**game.baseline(), **(players or {})}
    table = Table(game, seated, {}, worlds, rounds, people=people, stage=stage, device=device)
    table.reset(seed)
    kept = play_episode(
        table, record, at=at, keep_hidden=keep_hidden, hidden_at=hidden_at, tick=tick
    )
    return Played(table.state, table.memory, kept.rounds, kept.measures, kept.hidden)


class Kept(NamedTuple):
    """What was recorded of an episode: see `Played`."""

    rounds: tuple[int, ...]
    measures: Mapping[str, Float[Tensor, "world round *n"]]
    hidden: Mapping[str, Tensor]


def play_episode(
    table: Table,
    record: Sequence[str] = (),
    *,
    at: Sequence[int] | None = None,
    keep_hidden: Mapping[str, int] | None = None,
    hidden_at: Sequence[int] = (),
    tick: Callable[[int], None] | None = None,
) -> Kept:
    """Play the episode that a table stands at the beginning of, with nobody outside.

    The arguments are those of `play`.
    """
    game, rounds = table.game, table.rounds
    when = tuple(range(rounds + 1)) if at is None else _whole_numbers("at", at)
    hidden_when = _whole_numbers("hidden_at", hidden_at)
    for what, asked in (("at", when), ("hidden_at", hidden_when)):
        if asked and not 0 <= asked[0] <= asked[-1] <= rounds:
            raise UserError(
                f"measures are taken between rounds 0 and {rounds}, not at {asked}",
                code="out_of_range",
                path=what,
            )
    measures = _Recorder(when)
    hidden = _Recorder(hidden_when)
    for played in range(rounds + 1):
        if played:
            if not table.finished:
                table.step()
            if tick is not None:
                tick(played)
        if record and measures.wants(played):
            now = measured(game, table.state, len(table.worlds))
            measures.keep(played, {name: _named("record", now, name) for name in record})
        if keep_hidden and hidden.wants(played):
            seen = game.hidden(table.state)
            chosen = {n: _named("keep_hidden", seen, n)[:m] for n, m in keep_hidden.items()}
            hidden.keep(played, chosen)
    return Kept(when, measures.kept, hidden.kept)


class _Recorder:
    """Tensors over chosen rounds, in buffers made once."""

    def __init__(self, when: tuple[int, ...]) -> None:
        self._index = {played: i for i, played in enumerate(when)}
        self.kept: dict[str, Tensor] = {}

    def wants(self, played: int) -> bool:
        return played in self._index

    def keep(self, played: int, now: Mapping[str, Tensor]) -> None:
        for name, tensor in now.items():
            if name not in self.kept:
                shape = (len(tensor), len(self._index), *tensor.shape[1:])
                self.kept[name] = torch.empty(shape, dtype=tensor.dtype)
            self.kept[name][:, self._index[played]] = tensor.detach().cpu()


def _whole_numbers(what: str, asked: Sequence[int]) -> tuple[int, ...]:
    try:
        return tuple(sorted({operator.index(number) for number in asked}))
    except TypeError:
        raise UserError(
            f"rounds are whole numbers, not {list(asked)}", code="wrong_type", path=what
        ) from None


def _named(what: str, found: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in found:
        near = did_you_mean(name, found)
        raise UserError(f"no measure {name!r} in this game{near}", code="unknown_name", path=what)
    return found[name]

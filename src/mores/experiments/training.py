"""Train players in an environment, in a few lines of Python.

    trained = mores.train("matrix_game", {"player": "ppo"}, episodes=50, rounds=64, replicates=64)
    print(trained.curves.cooperation.mean("world"))
    print(trained.test(rounds=64).cooperation.mean())

What a scenario file adds to this: arms on shared chance, claims with verdicts, a report, runs that
survive being killed.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from mores.core.arguments import device_of, names_in, whole_number
from mores.core.environment import Game, Player
from mores.core.errors import UserError
from mores.core.random_streams import Worlds
from mores.experiments.trained import (
    TRAINING,
    Asked,
    Trained,
    made_game,
    made_people,
    measures_of,
    played,
    seated,
)
from mores.sim.simulator import Population, Table
from mores.sim.training_status import check_learned, taught


def train(
    game: Asked | Game[Any],
    players: Mapping[str, Asked | Player],
    *,
    episodes: int,
    rounds: int,
    replicates: int = 1,
    worlds: int = 1,
    seed: int = 0,
    learn: Collection[str] | None = None,
    measures: Collection[str] = (),
    people: Population | Asked | None = None,
    device: torch.device | str = "cpu",
    progress: bool | None = None,
) -> Trained:
    """Train players by what they earn, every replicate with learners of its own.

    Args:
        game: an environment, its name, or a mapping with its `kind` and parameters.
        players: by role, the same; roles not named get the environment's baseline.
        episodes: played one after another.
        rounds: of an episode.
        replicates: independent trainings: the n of every statistic.
        worlds: parallel copies inside a replicate, which share its learners.
        seed: of all chance.
        learn: roles that learn; all that can, if none is named.
        measures: what is kept at the end of each episode; all, if none is named.
        people: a population, where the people are made elsewhere; the same.
        device: where tensors live.
        progress: show a bar; by default where somebody looks at the terminal.

    Raises:
        UserError: unknown names or wrong parameters; nobody in the named roles can learn, or
            somebody never would, such as PPO with a `horizon` longer than all rounds together.
    """
    counts = {"episodes": episodes, "rounds": rounds, "replicates": replicates, "worlds": worlds}
    episodes, rounds, replicates, worlds = (whole_number(n, c) for n, c in counts.items())
    seed, device = whole_number("seed", seed, least=None, most=None), device_of(device)
    where = made_game(game)
    population = None if people is None else made_people(people)
    chosen = Worlds.grid(replicates, worlds)
    roles = [role.name for role in where.roles]
    table = Table(
        where,
        {**where.baseline(), **seated(players)},
        worlds=chosen,
        rounds=rounds,
        people=population,
        stage=TRAINING,
        device=device,
        learning=None if learn is None else names_in("learn", learn, roles),
    )
    _can_learn(table.players, learn)
    _check_teachable(table, episodes, worlds)
    table.reset(seed)
    names = measures_of(table, measures)
    with _bar(episodes, progress) as advance:

        def tick(played: int) -> None:
            if played == 1:  # before hours go by
                for role in table.learners:
                    check_learned(role, table.players[role], table.memory[role])
            advance()

        curves = played(table, episodes, names, tick)
    troubles = [line for r, p in table.players.items() for line in p.troubles(table.memory[r])]
    if troubles:
        more = f" (and {len(troubles) - 1} more: see troubles)" if len(troubles) > 1 else ""
        warnings.warn(f"a learner stopped: {troubles[0]}{more}", stacklevel=2)
    learned = {
        role: check_learned(role, player, table.memory[role])
        for role, player in table.players.items()
        if player.can("learn")
    }
    for role in table.learners:
        player, memory = table.players[role], table.memory[role]
        for one in taught("training", role, player, memory, learned[role]):
            if one.idle:
                warnings.warn(one.line, stacklevel=2)
                troubles.append(one.line)
    return Trained(
        where,
        table.players,
        dict(table.memory),
        curves,
        tuple(troubles),
        chosen,
        rounds,
        seed,
        population,
        table.device,
        frozenset(players),
        frozenset(_taught_roles(learned, table.learners)),
    )


def _taught_roles(
    learned: Mapping[str, Mapping[str, Tensor]], learners: Collection[str]
) -> Iterator[str]:
    """Roles whose players learned, or share what a player at another role learned."""
    places = {r: {t.data_ptr() for t in of.values() if t.numel()} for r, of in learned.items()}
    for role, own in places.items():
        if role in learners or any(own & places[other] for other in learners):
            yield role


def _can_learn(players: Mapping[str, Player], learn: Collection[str] | None) -> None:
    """Refuse roles that are to learn and cannot, or that nobody does."""
    able = [role for role, player in players.items() if player.can("learn")]
    asked = list(players if learn is None else learn)
    unable = [role for role in asked if role not in able]
    if not asked:
        raise UserError("learn: names nobody", code="missing", path="learn")
    if not unable or (learn is None and able):
        return
    fits = sorted(role for role in unable if players[role].can("fit"))
    if fits:
        raise UserError(
            f"{', '.join(fits)}: learns from a record, not from reward: use a scenario with "
            "stages of loop fit",
            code="unsupported",
            path=f"players.{fits[0]}",
        )
    unable.sort()
    raise UserError(
        f"{', '.join(unable)}: cannot learn from reward",
        code="unsupported",
        path=f"players.{unable[0]}",
    )


def _check_teachable(table: Table, episodes: int, worlds: int) -> None:
    """See that those who are to learn can in so many episodes.

    Raises:
        UserError: it is certain that somebody would not.
    """
    if short := table.game.too_short(table.rounds):
        raise UserError(f"rounds: {short}", code="out_of_range", path="rounds")
    for role in table.learners:
        player = table.players[role]
        vain = player.in_vain(table.roles[role], episodes * table.rounds, worlds)
        if vain and not player.still:
            raise UserError(
                f"{role}: would learn nothing: {vain}", code="not_trained", path=f"players.{role}"
            )


@contextlib.contextmanager
def _bar(episodes: int, asked: bool | None) -> Iterator[Callable[[], None]]:
    """A progress bar over episodes, where somebody looks."""
    if not (sys.stderr.isatty() if asked is None else asked):
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("training"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("training", total=episodes)
        yield lambda: bar.advance(task)

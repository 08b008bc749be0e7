"""Train players in an environment, in a few lines of Python.

    trained = mores.train("matrix_game", {"player": "ppo"}, episodes=50, rounds=64, replicates=64)
    print(trained.curves.cooperation.mean("world"))
    print(trained.test(rounds=64).cooperation.mean())

What a scenario file adds to this: arms on shared chance, claims with verdicts, a report, runs that
survive being killed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mores.draws import Worlds
from mores.errors import UserError, did_you_mean
from mores.game import Game, Player
from mores.play import play_episode
from mores.registry import make
from mores.table import Population, Table

if TYPE_CHECKING:
    import xarray

Asked = str | Mapping[str, Any]  # a name, or a mapping with a kind and parameters
TRAINING, TEST = 0, 1  # numbers of stages, so that their draws differ


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a training left.

    Attributes:
        game: where it was.
        players: who played, by role.
        memory: what they know now, by role.
        curves: measures at the end of every episode: an xarray Dataset over world and episode, with
            the replicate of each world; worlds of one replicate share their learners.
        troubles: learners that stopped because they met a number that is none, or that never
            learned anything.
    """

    game: Game[Any]
    players: Mapping[str, Player]
    memory: Mapping[str, Any]
    curves: xarray.Dataset
    troubles: tuple[str, ...]
    _worlds: Worlds
    _rounds: int
    _seed: int
    _people: Population | None
    _device: torch.device

    def test(
        self,
        episodes: int = 1,
        rounds: int | None = None,
        search: bool = True,
        players: Mapping[str, Asked | Player] | None = None,
        measures: Collection[str] = (),
        seed: int | None = None,
    ) -> xarray.Dataset:
        """Play on without learning, with people and chance that were not trained on.

        Args:
            episodes: how many.
            rounds: of an episode; as in training where none is given.
            search: decide with whatever search players are capable of; learners take the likeliest
                act, or search as their `search` says. Else they draw, as in training.
            players: who else plays instead, by role: strangers, say. What their role learned is
                theirs if their recipe is the same, as in a stage that changes players.
            measures: which; all, if none is named.
            seed: of all chance; training's where none is given, so that two tests are alike.

        Returns:
            Measures at the end of every episode, over world and episode.
        """
        others = {r: _player(p) for r, p in (players or {}).items()}
        table = Table(
            self.game,
            {**self.players, **others},
            worlds=self._worlds,
            rounds=self._rounds if rounds is None else rounds,
            people=self._people,
            stage=TEST,
            device=self._device,
            learning=(),
            assisting=search,
        )
        table.reset(self._seed if seed is None else seed, dict(self.memory))
        return _played(table, episodes, _names(self.game, table, measures), lambda: None)

    def learned(self, role: str) -> dict[str, Tensor]:
        """What a role's player learned, by name; tensors lead with the policy.

        Raises:
            UserError: there is no such role.
        """
        if role not in self.players:
            raise UserError(f"no role {role!r}{did_you_mean(role, self.players)}")
        return dict(self.players[role].learned(self.memory[role]))

    def save(self, folder: str | Path) -> Path:
        """Write what was learned: ROLE.safetensors and ROLE.json for each role that learned."""
        from safetensors.torch import save

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for role, player in self.players.items():
            tensors = {n: t.detach().cpu().contiguous() for n, t in self.learned(role).items()}
            if tensors:
                (folder / f"{role}.safetensors").write_bytes(save(tensors))
                told = {
                    "player": type(player).__name__,
                    "parameters": player.model_dump(mode="json"),
                }
                text = json.dumps(told, indent=1, allow_nan=False)
                (folder / f"{role}.json").write_text(text + "\n", encoding="utf-8")
        return folder


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
    people: Population | None = None,
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
        people: a population, where the people are made elsewhere.
        device: where tensors live.
        progress: show a bar; by default where somebody looks at the terminal.

    Raises:
        UserError: unknown names or wrong parameters; nobody in the named roles can learn, or
            somebody never would, such as PPO with a `horizon` longer than all rounds together.
    """
    counts = {"episodes": episodes, "rounds": rounds, "replicates": replicates, "worlds": worlds}
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise UserError(f"{name}: a whole number, at least 1, not {count!r:.40}")
    made = game if isinstance(game, Game) else _made("environment", game)
    seated = {
        **made.baseline(),
        **{role: _player(asked) for role, asked in players.items()},
    }
    chosen = Worlds.grid(replicates, worlds)
    table = Table(
        made,
        seated,
        worlds=chosen,
        rounds=rounds,
        people=people,
        stage=TRAINING,
        device=device,
        learning=learn,
    )
    roles = [r for r, p in table.players.items() if p.can("learn")]
    if not any(learn is None or role in learn for role in roles):
        fits = sorted(r for r, p in table.players.items() if p.can("fit"))
        if fits:
            raise UserError(
                f"{', '.join(fits)}: learns from a record, not from reward: use a scenario with "
                "stages of loop fit"
            )
        raise UserError(f"nobody learns from reward here: {', '.join(sorted(seated))} do not")
    _check_teachable(table, episodes, worlds)
    table.reset(seed)
    names = _names(made, table, measures)
    with _bar(episodes, progress) as tick:
        curves = _played(table, episodes, names, tick)
    troubles = [line for r, p in table.players.items() for line in p.troubles(table.memory[r])]
    for role in () if troubles else table.learners:
        if line := _untaught(role, table.players[role], table.memory[role]):
            warnings.warn(line, stacklevel=2)
            troubles.append(line)
    return Trained(
        made,
        table.players,
        dict(table.memory),
        curves,
        tuple(troubles),
        chosen,
        rounds,
        seed,
        people,
        table.device,
    )


def _check_teachable(table: Table, episodes: int, worlds: int) -> None:
    """See that those who are to learn can in so many episodes.

    Raises:
        UserError: it is certain that somebody would not.
    """
    if short := table.game.too_short(table.rounds):
        raise UserError(f"rounds: {short}")
    for role in table.learners:
        player = table.players[role]
        vain = player.in_vain(table.roles[role], episodes * table.rounds, worlds)
        if vain and not player.still:
            raise UserError(f"{role}: would learn nothing: {vain}")


def _untaught(role: str, player: Player, memory: Any) -> str:
    """That nobody in a role learned anything, although they were to, as far as its player says."""
    counts = [t for n, t in player.learned(memory).items() if n.split("/")[-1] == "updates"]
    if not counts or player.still or any(bool((made > 0).any()) for made in counts):
        return ""
    why = player.waits(memory)
    return f"{role}: nobody learned anything{f': {why}' if why else ''}"


def _made(shelf: Any, asked: Asked) -> Any:
    """What a name or a mapping with a kind stands for."""
    if isinstance(asked, str):
        return make(shelf, asked, {})
    if not isinstance(asked, Mapping) or not isinstance(asked.get("kind"), str):
        raise UserError(f"{shelf}: give a name or a mapping with a kind, not {asked!r:.60}")
    return make(shelf, asked["kind"], {n: v for n, v in asked.items() if n != "kind"})


def _player(asked: Asked | Player) -> Player:
    return asked if isinstance(asked, Player) else _made("player", asked)


def _names(game: Game[Any], table: Table, asked: Collection[str]) -> list[str]:
    """Which measures are kept."""
    known = game.measures(table.state)
    for name in asked:
        if name not in known:
            raise UserError(f"no measure {name!r} in this game{did_you_mean(name, known)}")
    return list(asked or known)


def _played(
    table: Table, episodes: int, names: list[str], tick: Callable[[], None]
) -> xarray.Dataset:
    """Play episodes, and keep measures at the end of each."""
    import xarray

    kept: dict[str, list[Tensor]] = {name: [] for name in names}
    for episode in range(episodes):
        if episode:
            table.next_episode()
        now = play_episode(table, names, at=[table.rounds]).measures
        for name in names:
            kept[name].append(now[name][:, 0])
        tick()
    data: dict[str, Any] = {}
    for name, values in kept.items():
        array = torch.stack(values, 1).numpy()
        data[name] = (("world", "episode", f"{name}_number")[: array.ndim], array)
    coordinates = {
        "replicate": ("world", table.worlds.replicate.numpy()),
        "episode": range(episodes),
    }
    return xarray.Dataset(data, coordinates)


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

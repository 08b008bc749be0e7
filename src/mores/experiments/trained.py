"""What a training left: to be looked at, tested, saved and loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from mores import registry
from mores.core.arguments import device_of, names_in, whole_number
from mores.core.check_metrics import measured
from mores.core.environment import Game, Player
from mores.core.errors import UserError, did_you_mean
from mores.core.random_streams import Worlds
from mores.experiments import tensor_file
from mores.sim import policy_states
from mores.sim.simulation import play_episode
from mores.sim.simulator import Population, Table

if TYPE_CHECKING:
    import xarray

Asked = str | Mapping[str, Any]  # a name, or a mapping with a kind and parameters
TRAINING, TEST = 0, 1  # numbers of stages, so that their draws differ
FORMAT = 2
LAID_OUT = ("world", "episode", "replicate")


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
    _asked: frozenset[str]  # roles whose players were asked for
    _learners: frozenset[str]  # roles whose players learned

    def test(
        self,
        episodes: int = 1,
        rounds: int | None = None,
        search: bool = True,
        players: Mapping[str, Asked | Player] | None = None,
        measures: Collection[str] = (),
        seed: int | None = None,
        game: Asked | Game[Any] | None = None,
        people: Population | Asked | None = None,
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
            game: where; where it was trained, if none is given. Another environment, or the same
                with other parameters, in which who learned sees and can do the same. Who was
                asked for or learned goes along, where there is such a role; the other roles have
                the baseline of that environment.
            people: a population; training's where none is given.

        Returns:
            Measures at the end of every episode, over world and episode.

        Raises:
            UserError: unknown names or wrong values; a learner would play untrained, since it did
                not learn at these seats; what was learned does not fit the environment.
        """
        if not isinstance(search, bool):
            raise UserError(
                f"search: true or false, not {search!r:.40}", code="wrong_type", path="search"
            )
        where = self.game if game is None else made_game(game)
        others = seated({} if players is None else players)
        seats = {**(self.players if game is None else self._elsewhere(where)), **others}
        for role, player in seats.items():
            known = [self.players[role]] if role in self._learners else []
            as_then = role not in others and player is self.players.get(role)
            if not as_then and policy_states.untrained(role, player, known):
                raise UserError(
                    f"{role}: a learner would play untrained: it goes on from what was learned at "
                    "the same seats of a cast, or alone (learning_rate: 0, if that is meant)",
                    code="not_trained",
                    path=f"players.{role}",
                )
        bring: dict[str, Any] = {}
        policy_states.keep(bring, self.players, self.memory)
        episodes = whole_number("episodes", episodes)
        rounds = self._rounds if rounds is None else whole_number("rounds", rounds)
        seed = self._seed if seed is None else whole_number("seed", seed, least=None, most=None)
        table = Table(
            where,
            seats,
            worlds=self._worlds,
            rounds=rounds,
            people=self._people if people is None else made_people(people),
            stage=TEST,
            device=self._device,
            learning=(),
            assisting=search,
        )
        table.reset(seed, policy_states.brought(bring, seats))
        return played(table, episodes, measures_of(table, measures), lambda _: None)

    def learned(self, role: str) -> dict[str, Tensor]:
        """What a role's player learned, by name; tensors lead with the policy.

        Raises:
            UserError: there is no such role.
        """
        if not isinstance(role, str) or role not in self.players:
            raise UserError(
                f"no role {role!r:.60}{did_you_mean(role, self.players)}",
                code="unknown_name",
                path=f"players.{role}",
            )
        found = self.players[role].learned(self.memory[role])
        return {name: tensor.detach().clone().contiguous() for name, tensor in found.items()}

    def save(self, path: str | Path) -> Path:
        """Write all of it into one file, for `mores.load_trained`: whole, or as it was before.

        Args:
            path: of the file, a safetensors file; `learners.safetensors`, say.

        Returns:
            The path.

        Raises:
            UserError: the disk says no; a class that took part has no name (`mores.register`), or
                a memory holds what is neither tensor nor plain value.
        """
        from mores.experiments.results.pytree_serialization import CannotPack, packed

        path = _path(path)
        asked = {role: self.players[role] for role in sorted(self._asked)}
        parts = {
            "game": registry.described("environment", self.game),
            "players": {r: registry.described("player", p) for r, p in asked.items()},
            "people": self._people and registry.described("population", self._people),
        }
        try:
            memory = packed(dict(self.memory), self._blank())
        except CannotPack as error:
            raise UserError(
                f"cannot be saved: {error}", code="unsupported", path="memory"
            ) from None
        curves = {name: torch.from_numpy(c.values) for name, c in self.curves.items()}
        tensors = {
            "replicate": self._worlds.replicate,
            "world": self._worlds.world,
            **{f"curves/{name}": curve for name, curve in curves.items()},
            **{f"memory/{name}": tensor for name, tensor in memory.tensors.items()},
        }
        about = {
            "format": FORMAT,
            **parts,
            "learners": sorted(self._learners),
            "episodes": len(self.curves.episode),
            "rounds": self._rounds,
            "seed": self._seed,
            "troubles": list(self.troubles),
            "memory": memory.about,
        }
        tensor_file.write(path, tensors, about)
        return path

    def _elsewhere(self, where: Game[Any]) -> dict[str, Player]:
        """Who plays in another environment where nothing else is said, by role."""
        roles = [role.name for role in where.roles]
        if not self._learners & set(roles):
            who, known = ", ".join(sorted(self._learners)), ", ".join(roles)
            raise UserError(
                f"nobody who learned plays there: {who} did, and its roles are {known}",
                code="incompatible",
                path="game",
            )
        taught = {role: self.players[role] for role in self._learners}
        asked = {role: self.players[role] for role in self._asked & set(roles)}
        return {**policy_states.going_on(where, where.baseline(), taught), **asked}

    def _blank(self) -> dict[str, Any]:
        """What players' memories are before anything was played."""
        table = Table(
            self.game,
            self.players,
            worlds=self._worlds,
            rounds=self._rounds,
            people=self._people,
            stage=TRAINING,
            device=self._device,
        )
        table.reset(self._seed)
        return dict(table.memory)


def load_trained(path: str | Path, device: torch.device | str = "cpu") -> Trained:
    """What `Trained.save` wrote: its tests come to the same figures as before.

    Args:
        path: of the file.
        device: where tensors are to live.

    Raises:
        UserError: there is no such file, it is damaged, or something else; an environment or
            player of one's own is not registered here.
    """
    from mores.experiments.results.pytree_serialization import CannotPack, Packed, unpacked

    path, device = _path(path), device_of(device)
    tensors, about = tensor_file.read(path)

    def below(name: str) -> dict[str, Tensor]:
        start = f"{name}/"
        return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}

    try:
        if about["format"] != FORMAT:
            raise UserError(
                "another version of mores wrote it", code="incompatible", path=str(path)
            )
        worlds = Worlds(tensors["replicate"], tensors["world"])
        curves = {name: curve.numpy() for name, curve in below("curves").items()}
        game = made_game(about["game"])
        found = Trained(
            game,
            {**game.baseline(), **seated(about["players"])},
            {},
            as_dataset(curves, worlds, about["episodes"]),
            tuple(about["troubles"]),
            worlds,
            about["rounds"],
            about["seed"],
            about["people"] and made_people(about["people"]),
            device,
            frozenset(about["players"]),
            frozenset(about["learners"]),
        )
        memory = unpacked(found._blank(), Packed(below("memory"), about["memory"]))
    except UserError as error:
        raise UserError(f"cannot load {path}: {error}", code=error.code, path=error.path) from None
    except CannotPack as error:
        raise UserError(
            f"cannot load {path}: {error}", code="incompatible", path=str(path)
        ) from None
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(
            f"cannot load {path}: it holds no whole training ({said:.200})",
            code="unreadable",
            path=str(path),
        ) from None
    return dataclasses.replace(found, memory=memory)


def made(shelf: registry.Shelf, asked: Any, path: str) -> Any:
    """What a name or a mapping with a kind stands for; `path`: the argument, for errors."""
    if isinstance(asked, str):
        return registry.make(shelf, asked, {})
    if not isinstance(asked, Mapping) or not isinstance(asked.get("kind"), str):
        nameless = isinstance(asked, Mapping) and "kind" not in asked
        raise UserError(
            f"{shelf}: give a name or a mapping with a kind, not {asked!r:.60}",
            code="missing" if nameless else "wrong_type",
            path=f"{path}.kind" if isinstance(asked, Mapping) else path,
        )
    for name in asked:
        if not isinstance(name, str):
            raise UserError(
                f"{shelf}: names of parameters are text, not {name!r:.40}",
                code="wrong_type",
                path=path,
            )
    return registry.make(shelf, asked["kind"], {n: v for n, v in asked.items() if n != "kind"})


def made_game(asked: Asked | Game[Any]) -> Game[Any]:
    """An environment, made where it is asked for by name."""
    return asked if isinstance(asked, Game) else made("environment", asked, "game")


def made_people(asked: Asked | Population) -> Population:
    """A population, made where it is asked for by name."""
    return asked if isinstance(asked, Population) else made("population", asked, "people")


def seated(players: Mapping[str, Asked | Player]) -> dict[str, Player]:
    """Players by role, made where they are asked for by name."""
    if not isinstance(players, Mapping):
        raise UserError(
            f"players: a mapping of roles to players, not {players!r:.60}",
            code="wrong_type",
            path="players",
        )
    return {
        role: asked if isinstance(asked, Player) else made("player", asked, f"players.{role}")
        for role, asked in players.items()
    }


def measures_of(table: Table, asked: Collection[str]) -> list[str]:
    """Which measures are kept: all, if none is named."""
    known = measured(table.game, table.state, len(table.worlds))
    names = names_in("measures", asked, list(known)) or list(known)
    if taken := [name for name in names if name in LAID_OUT]:
        raise UserError(
            f"measures: {taken[0]!r} is what results are laid out by: name others",
            code="invalid_value",
            path="measures",
        )
    return names


def played(
    table: Table, episodes: int, names: list[str], tick: Callable[[int], None]
) -> xarray.Dataset:
    """Play episodes, and keep measures at the end of each; `tick` is told how many there are."""
    kept: dict[str, list[Tensor]] = {name: [] for name in names}
    for episode in range(episodes):
        if episode:
            table.next_episode()
        now = play_episode(table, names, at=[table.rounds]).measures
        for name in names:
            kept[name].append(now[name][:, 0])
        tick(episode + 1)
    arrays = {name: torch.stack(values, 1).numpy() for name, values in kept.items()}
    return as_dataset(arrays, table.worlds, episodes)


def as_dataset(
    arrays: Mapping[str, Shaped[np.ndarray, "world episode *number"]],
    worlds: Worlds,
    episodes: int,
) -> xarray.Dataset:
    """Measures over world and episode, with the replicate of each world."""
    import xarray

    data = {
        name: (("world", "episode", f"{name}_number")[: array.ndim], array)
        for name, array in arrays.items()
    }
    coordinates = {
        "replicate": ("world", worlds.replicate.numpy()),
        "episode": range(episodes),
    }
    return xarray.Dataset(data, coordinates)


def _path(given: Any) -> Path:
    """Where a file is to be."""
    if not isinstance(given, (str, Path)) or not Path(given).name:
        raise UserError(
            f"the path of a file is needed, not {given!r:.60}",
            code="invalid_value" if isinstance(given, (str, Path)) else "wrong_type",
            path="path",
        )
    return Path(given)

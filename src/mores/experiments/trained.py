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
from mores.core.arguments import check_device, check_integer, check_names
from mores.core.check_metrics import checked_metrics
from mores.core.environment import Environment, Policy
from mores.core.errors import UserError, did_you_mean
from mores.core.random_streams import Worlds
from mores.experiments import tensor_file
from mores.sim import policy_states
from mores.sim.simulation import simulate_episode
from mores.sim.simulator import Population, Simulator

if TYPE_CHECKING:
    import xarray

NameOrSpec = str | Mapping[str, Any]  # a name, or a mapping with a kind and parameters
TRAINING_STAGE, TEST_STAGE = 0, 1  # numbers of stages, so that their draws differ
FORMAT = 2
RESERVED_NAMES = ("world", "episode", "replicate")


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """What a training left.

    Attributes:
        environment: where it was.
        policies: who played, by role.
        policy_states: what they know now, by role.
        curves: measures at the end of every episode: an xarray Dataset over world and episode, with
            the replicate of each world; worlds of one replicate share their learners.
        diagnostics: learners that stopped because they met a number that is none, or that never
            learned anything.
    """

    environment: Environment[Any]
    policies: Mapping[str, Policy]
    policy_states: Mapping[str, Any]
    curves: xarray.Dataset
    diagnostics: tuple[str, ...]
    _worlds: Worlds
    _rounds: int
    _seed: int
    _population: Population | None
    _device: torch.device
    _requested_roles: frozenset[str]  # roles whose players were asked for
    _trained_roles: frozenset[str]  # roles whose players learned

    def evaluate(
        self,
        episodes: int = 1,
        rounds: int | None = None,
        search: bool = True,
        policies: Mapping[str, NameOrSpec | Policy] | None = None,
        metrics: Collection[str] = (),
        seed: int | None = None,
        environment: NameOrSpec | Environment[Any] | None = None,
        population: Population | NameOrSpec | None = None,
    ) -> xarray.Dataset:
        """Play on without learning, with people and chance that were not trained on.

        Args:
            episodes: how many.
            rounds: of an episode; as in training where none is given.
            search: decide with whatever search players are capable of; learners take the likeliest
                act, or search as their `search` says. Else they draw, as in training.
            policies: who else plays instead, by role: strangers, say. What their role learned is
                theirs if their recipe is the same, as in a stage that changes players.
            metrics: which; all, if none is named.
            seed: of all chance; training's where none is given, so that two tests are alike.
            environment: where; where it was trained, if none is given. Another environment, or the same
                with other parameters, in which who learned sees and can do the same. Who was
                asked for or learned goes along, where there is such a role; the other roles have
                the baseline of that environment.
            population: a population; training's where none is given.

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
        where = self.environment if environment is None else resolve_environment(environment)
        others = resolve_policies({} if policies is None else policies)
        seats = {**(self.policies if environment is None else self._policies_in(where)), **others}
        for role, player in seats.items():
            known = [self.policies[role]] if role in self._trained_roles else []
            as_then = role not in others and player is self.policies.get(role)
            if not as_then and policy_states.is_untrained(role, player, known):
                raise UserError(
                    f"{role}: a learner would play untrained: it goes on from what was learned at "
                    "the same seats of a cast, or alone (learning_rate: 0, if that is meant)",
                    code="not_trained",
                    path=f"players.{role}",
                )
        bring: dict[str, Any] = {}
        policy_states.store_states(bring, self.policies, self.policy_states)
        episodes = check_integer("episodes", episodes)
        rounds = self._rounds if rounds is None else check_integer("rounds", rounds)
        seed = (
            self._seed if seed is None else check_integer("seed", seed, minimum=None, maximum=None)
        )
        table = Simulator(
            where,
            seats,
            worlds=self._worlds,
            rounds=rounds,
            population=self._population if population is None else resolve_population(population),
            stage=TEST_STAGE,
            device=self._device,
            roles_to_train=(),
            search=search,
        )
        table.reset(seed, policy_states.stored_states(bring, seats))
        return run_episodes(table, episodes, select_metrics(table, metrics), lambda _: None)

    def state_dict(self, role: str) -> dict[str, Tensor]:
        """What a role's player learned, by name; tensors lead with the policy.

        Raises:
            UserError: there is no such role.
        """
        if not isinstance(role, str) or role not in self.policies:
            raise UserError(
                f"no role {role!r:.60}{did_you_mean(role, self.policies)}",
                code="unknown_name",
                path=f"players.{role}",
            )
        found = self.policies[role].state_dict(self.policy_states[role])
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
        from mores.experiments.results.pytree_serialization import SerializationError, serialize

        path = _check_file_path(path)
        asked = {role: self.policies[role] for role in sorted(self._requested_roles)}
        parts = {
            "game": registry.to_spec("environment", self.environment),
            "players": {r: registry.to_spec("policy", p) for r, p in asked.items()},
            "people": self._population and registry.to_spec("population", self._population),
        }
        try:
            memory = serialize(dict(self.policy_states), self._initial_policy_states())
        except SerializationError as error:
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
            "learners": sorted(self._trained_roles),
            "episodes": len(self.curves.episode),
            "rounds": self._rounds,
            "seed": self._seed,
            "troubles": list(self.diagnostics),
            "memory": memory.metadata,
        }
        tensor_file.write(path, tensors, about)
        return path

    def _policies_in(self, environment: Environment[Any]) -> dict[str, Policy]:
        """Who plays in another environment where nothing else is said, by role."""
        roles = [role.name for role in environment.roles]
        if not self._trained_roles & set(roles):
            who, known = ", ".join(sorted(self._trained_roles)), ", ".join(roles)
            raise UserError(
                f"nobody who learned plays there: {who} did, and its roles are {known}",
                code="incompatible",
                path="game",
            )
        taught = {role: self.policies[role] for role in self._trained_roles}
        asked = {role: self.policies[role] for role in self._requested_roles & set(roles)}
        return {
            **policy_states.continuing_policies(
                environment, environment.default_policies(), taught
            ),
            **asked,
        }

    def _initial_policy_states(self) -> dict[str, Any]:
        """What players' memories are before anything was played."""
        table = Simulator(
            self.environment,
            self.policies,
            worlds=self._worlds,
            rounds=self._rounds,
            population=self._population,
            stage=TRAINING_STAGE,
            device=self._device,
        )
        table.reset(self._seed)
        return dict(table.policy_states)


def load_trained(path: str | Path, device: torch.device | str = "cpu") -> TrainingResult:
    """What `TrainingResult.save` wrote: its tests come to the same figures as before.

    Args:
        path: of the file.
        device: where tensors are to live.

    Raises:
        UserError: there is no such file, it is damaged, or something else; an environment or
            player of one's own is not registered here.
    """
    from mores.experiments.results.pytree_serialization import (
        SerializationError,
        SerializedPytree,
        deserialize,
    )

    path, device = _check_file_path(path), check_device(device)
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
        game = resolve_environment(about["game"])
        found = TrainingResult(
            game,
            {**game.default_policies(), **resolve_policies(about["players"])},
            {},
            as_dataset(curves, worlds, about["episodes"]),
            tuple(about["troubles"]),
            worlds,
            about["rounds"],
            about["seed"],
            about["people"] and resolve_population(about["people"]),
            device,
            frozenset(about["players"]),
            frozenset(about["learners"]),
        )
        memory = deserialize(
            found._initial_policy_states(), SerializedPytree(below("memory"), about["memory"])
        )
    except UserError as error:
        raise UserError(f"cannot load {path}: {error}", code=error.code, path=error.path) from None
    except SerializationError as error:
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
    return dataclasses.replace(found, policy_states=memory)


def make_from_spec(registry_name: registry.RegistryName, spec: Any, path: str) -> Any:
    """What a name or a mapping with a kind stands for; `path`: the argument, for errors."""
    if isinstance(spec, str):
        return registry.make(registry_name, spec, {})
    if not isinstance(spec, Mapping) or not isinstance(spec.get("kind"), str):
        nameless = isinstance(spec, Mapping) and "kind" not in spec
        raise UserError(
            f"{registry_name}: give a name or a mapping with a kind, not {spec!r:.60}",
            code="missing" if nameless else "wrong_type",
            path=f"{path}.kind" if isinstance(spec, Mapping) else path,
        )
    for name in spec:
        if not isinstance(name, str):
            raise UserError(
                f"{registry_name}: names of parameters are text, not {name!r:.40}",
                code="wrong_type",
                path=path,
            )
    return registry.make(
        registry_name, spec["kind"], {n: v for n, v in spec.items() if n != "kind"}
    )


def resolve_environment(environment: NameOrSpec | Environment[Any]) -> Environment[Any]:
    """An environment, made where it is asked for by name."""
    return (
        environment
        if isinstance(environment, Environment)
        else make_from_spec("environment", environment, "game")
    )


def resolve_population(population: NameOrSpec | Population) -> Population:
    """A population, made where it is asked for by name."""
    return (
        population
        if isinstance(population, Population)
        else make_from_spec("population", population, "people")
    )


def resolve_policies(policies: Mapping[str, NameOrSpec | Policy]) -> dict[str, Policy]:
    """Players by role, made where they are asked for by name."""
    if not isinstance(policies, Mapping):
        raise UserError(
            f"players: a mapping of roles to players, not {policies!r:.60}",
            code="wrong_type",
            path="players",
        )
    return {
        role: asked
        if isinstance(asked, Policy)
        else make_from_spec("policy", asked, f"players.{role}")
        for role, asked in policies.items()
    }


def select_metrics(simulator: Simulator, requested: Collection[str]) -> list[str]:
    """Which measures are kept: all, if none is named."""
    known = checked_metrics(simulator.environment, simulator.state, len(simulator.worlds))
    names = check_names("measures", requested, list(known)) or list(known)
    if taken := [name for name in names if name in RESERVED_NAMES]:
        raise UserError(
            f"measures: {taken[0]!r} is what results are laid out by: name others",
            code="invalid_value",
            path="measures",
        )
    return names


def run_episodes(
    simulator: Simulator, episodes: int, names: list[str], callback: Callable[[int], None]
) -> xarray.Dataset:
    """Play episodes, and keep measures at the end of each; `callback` is told how many there are."""
    kept: dict[str, list[Tensor]] = {name: [] for name in names}
    for episode in range(episodes):
        if episode:
            simulator.next_episode()
        now = simulate_episode(simulator, names, metric_rounds=[simulator.rounds]).metrics
        for name in names:
            kept[name].append(now[name][:, 0])
        callback(episode + 1)
    arrays = {name: torch.stack(values, 1).numpy() for name, values in kept.items()}
    return as_dataset(arrays, simulator.worlds, episodes)


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


def _check_file_path(path: Any) -> Path:
    """Where a file is to be."""
    if not isinstance(path, (str, Path)) or not Path(path).name:
        raise UserError(
            f"the path of a file is needed, not {path!r:.60}",
            code="invalid_value" if isinstance(path, (str, Path)) else "wrong_type",
            path="path",
        )
    return Path(path)

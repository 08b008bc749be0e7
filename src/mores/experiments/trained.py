"""The result of a training: curves, evaluation, saving and loading."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mores import registry
from mores.core.arguments import check_device, check_integer, check_names, check_path, check_seed
from mores.core.check_metrics import checked_metrics
from mores.core.environment import Environment
from mores.core.errors import UserError, did_you_mean
from mores.core.file_formats import TRAINED_FORMAT, check_format, mores_version
from mores.core.learner import Learner
from mores.core.people import Population
from mores.core.policy import Policy
from mores.core.random_streams import Worlds
from mores.experiments.results import tensor_file
from mores.registry.specs import Spec, from_spec, policies_from_specs
from mores.sim import policy_states
from mores.sim.metric_tracker import ResolvedMetrics, resolve_metrics
from mores.sim.round_recorder import RoundRecorder, metric_dataset
from mores.sim.simulation import simulate_episode
from mores.sim.simulator import Simulator

if TYPE_CHECKING:
    import xarray

TRAINING_STAGE, TEST_STAGE = 0, 1  # stage indices, so that their random streams differ


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """The result of a training.

    Attributes:
        environment: the environment.
        policies: by role.
        policy_states: their states after training, by role.
        curves: metrics at the end of every episode: an xarray Dataset over world and episode, with
            the replicate of each world; worlds of one replicate share their learners.
        diagnostics: models that stopped because a number was not finite, or were never updated.
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
    _requested_roles: frozenset[str]  # roles whose policies the caller named
    _trained_roles: frozenset[str]  # roles whose policies trained

    def evaluate(
        self,
        episodes: int = 1,
        rounds: int | None = None,
        search: bool = True,
        policies: Mapping[str, Spec | Policy] | None = None,
        metrics: Collection[str] = (),
        seed: int | None = None,
        environment: Spec | Environment[Any] | None = None,
        population: Population | Spec | None = None,
    ) -> xarray.Dataset:
        """Simulate without training, with people and random numbers that training did not use.

        Args:
            episodes: number of episodes.
            rounds: of an episode; default: as in training.
            search: decide with the search that policies support; learners take the most likely
                action, or search as their `search` parameter states. Else they sample.
            policies: policies that replace those of training, by role. A learner of the same recipe
                takes over the role's trained parameters, as in a stage that changes policies.
            metrics: names of metrics; default: all of the environment, whatever training recorded.
            seed: default: that of training, so that two evaluations are equal.
            environment: default: that of training. Another environment, or other parameters, with
                the same observations and actions for the trained roles. Named and trained policies
                act there in their roles; other roles have the environment's default policies.
            population: default: that of training.

        Returns:
            Metrics at the end of every episode, over world and episode.

        Raises:
            UserError: unknown names or wrong values; a learner would act untrained, since these
                agents were not trained; trained parameters do not fit the environment.
        """
        if not isinstance(search, bool):
            raise UserError(
                f"search: true or false, not {search!r:.40}", code="wrong_type", path="search"
            )
        env, people = self.environment, self._population
        if environment is not None:
            env = from_spec("environment", environment, "environment")
        if population is not None:
            people = from_spec("population", population, "population")
            env = env.with_population(people)
        replaced = policies_from_specs({} if policies is None else policies)
        usual = self.policies if environment is None else self._policies_in(env)
        combined = {**usual, **replaced}
        for role, policy in combined.items():
            trained = [self.policies[role]] if role in self._trained_roles else []
            unchanged = role not in replaced and policy is self.policies.get(role)
            if not unchanged and policy_states.is_untrained(role, policy, trained):
                raise UserError(
                    f"{role}: a learner would act untrained: it needs parameters of the same "
                    "agents of per_agent, or of a learner alone (learning_rate: 0, if intended)",
                    code="not_trained",
                    path=f"policies.{role}",
                )
        store: dict[str, Any] = {}
        policy_states.store_states(store, self.policies, self.policy_states)
        episodes = check_integer("episodes", episodes)
        rounds = self._rounds if rounds is None else check_integer("rounds", rounds)
        seed = self._seed if seed is None else check_seed(seed)
        simulator = Simulator(
            env,
            combined,
            worlds=self._worlds,
            rounds=rounds,
            population=people,
            stage=TEST_STAGE,
            device=self._device,
            roles_to_train=(),
            search=search,
        )
        simulator.reset(seed, policy_states.stored_states(store, combined))
        return run_episodes(simulator, episodes, select_metrics(simulator, metrics), lambda _: None)

    def state_dict(self, role: str) -> dict[str, Tensor]:
        """Parameters of a role's policy by name; tensors lead with the models.

        Raises:
            UserError: there is no such role.
        """
        if not isinstance(role, str) or role not in self.policies:
            raise UserError(
                f"no role {role!r:.60}{did_you_mean(role, self.policies)}",
                code="unknown_name",
                path=f"policies.{role}",
            )
        policy, state = self.policies[role], self.policy_states[role]
        tensors = policy.state_dict(state) if isinstance(policy, Learner) else {}
        return {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}

    def save(self, path: str | Path) -> Path:
        """Write the result to one safetensors file, atomically, for `mores.load_trained`.

        Args:
            path: of the file, such as `learners.safetensors`.

        Returns:
            The path.

        Raises:
            UserError: the file cannot be written; a class is not registered (`mores.register`); a
                policy state holds more than tensors and plain values.
        """
        from mores.experiments.results.pytree_serialization import SerializationError, serialize

        path = _check_file_path(path)
        requested = {role: self.policies[role] for role in sorted(self._requested_roles)}
        specs = {
            "environment": registry.to_spec("environment", self.environment),
            "policies": {r: registry.to_spec("policy", p) for r, p in requested.items()},
            "population": self._population and registry.to_spec("population", self._population),
        }
        try:
            states = serialize(dict(self.policy_states), self.initial_policy_states())
        except SerializationError as error:
            message = f"cannot be saved: {error}"
            raise UserError(message, code="unsupported", path="policy_states") from None
        curves = {str(name): torch.from_numpy(c.values) for name, c in self.curves.items()}
        tensors = {
            "replicate": self._worlds.replicate,
            "world": self._worlds.world,
            **{f"curves/{name}": curve for name, curve in curves.items()},
            **{f"policy_states/{name}": tensor for name, tensor in states.tensors.items()},
        }
        metadata = {
            "format": TRAINED_FORMAT,
            "mores_version": mores_version(),
            **specs,
            "trained_roles": sorted(self._trained_roles),
            "episodes": len(self.curves.episode),
            "rounds": self._rounds,
            "seed": self._seed,
            "diagnostics": list(self.diagnostics),
            "policy_states": states.metadata,
        }
        tensor_file.write(path, tensors, metadata)
        return path

    def _policies_in(self, environment: Environment[Any]) -> dict[str, Policy]:
        """The policies of another environment, unless the caller names others, by role."""
        roles = [role.name for role in environment.roles]
        if not self._trained_roles & set(roles):
            trained_roles, known = ", ".join(sorted(self._trained_roles)), ", ".join(roles)
            raise UserError(
                f"environment: it has no trained role ({trained_roles}); its roles are {known}",
                code="incompatible",
                path="environment",
            )
        trained = {role: self.policies[role] for role in self._trained_roles}
        requested = {role: self.policies[role] for role in self._requested_roles & set(roles)}
        return {
            **policy_states.continuing_policies(
                environment, policies_from_specs(environment.default_policies()), trained
            ),
            **requested,
        }

    def initial_policy_states(self) -> dict[str, Any]:
        """The policy states before training."""
        simulator = Simulator(
            self.environment,
            self.policies,
            worlds=self._worlds,
            rounds=self._rounds,
            population=self._population,
            stage=TRAINING_STAGE,
            device=self._device,
        )
        simulator.reset(self._seed)
        return dict(simulator.policy_states)


def load_trained(path: str | Path, device: torch.device | str = "cpu") -> TrainingResult:
    """Read a file of `TrainingResult.save`; its evaluations return the same numbers as before.

    Args:
        path: of the file.
        device: device of all tensors.

    Raises:
        UserError: the file does not exist, was changed, or has another format; an environment or
            policy of the user is not registered.
    """
    from mores.experiments.results.pytree_serialization import (
        SerializationError,
        SerializedPytree,
        deserialize,
    )

    path, device = _check_file_path(path), check_device(device)
    tensors, metadata = tensor_file.read(path)
    found, version = (metadata.get(key) for key in ("format", "mores_version"))
    check_format(path, "trained policies", found, TRAINED_FORMAT, version)

    def tensors_below(name: str) -> dict[str, Tensor]:
        start = f"{name}/"
        return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}

    try:
        worlds = Worlds(tensors["replicate"], tensors["world"])
        curves = {name: curve[:, :, None] for name, curve in tensors_below("curves").items()}
        environment = from_spec("environment", metadata["environment"], "environment")
        result = TrainingResult(
            environment,
            policies_from_specs({**environment.default_policies(), **metadata["policies"]}),
            {},
            metric_dataset(curves, worlds, metadata["episodes"], [0]).isel(round=0, drop=True),
            tuple(metadata["diagnostics"]),
            worlds,
            metadata["rounds"],
            metadata["seed"],
            metadata["population"]
            and from_spec("population", metadata["population"], "population"),
            device,
            frozenset(metadata["policies"]),
            frozenset(metadata["trained_roles"]),
        )
        states = deserialize(
            result.initial_policy_states(),
            SerializedPytree(tensors_below("policy_states"), metadata["policy_states"]),
        )
    except UserError as error:
        raise UserError(f"cannot load {path}: {error}", code=error.code, path=error.path) from None
    except SerializationError as error:
        message = f"cannot load {path}: {error}"
        raise UserError(message, code="incompatible", path=str(path)) from None
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(
            f"cannot load {path}: it is not a complete training result ({reason:.200})",
            code="unreadable",
            path=str(path),
        ) from None
    return dataclasses.replace(result, policy_states=states)


def select_metrics(simulator: Simulator, requested: Collection[str]) -> ResolvedMetrics:
    """The metrics to record; by default all of the environment."""
    environment, state, num_worlds = simulator.environment, simulator.state, len(simulator.worlds)
    names = check_names("metrics", requested) or checked_metrics(environment, state, num_worlds)
    return resolve_metrics(environment, state, num_worlds, list(names))


def run_episodes(
    simulator: Simulator,
    episodes: int,
    metrics: ResolvedMetrics,
    callback: Callable[[int], None],
) -> xarray.Dataset:
    """Simulate episodes and record metrics at their ends; `callback` receives their number."""
    recorder = RoundRecorder((simulator.rounds,), num_episodes=episodes)
    for episode in range(episodes):
        if episode:
            simulator.next_episode()
        simulate_episode(simulator, metrics, recorder.at(0, episode))
        callback(episode + 1)
    return recorder.dataset(simulator.worlds).isel(round=0, drop=True)


def _check_file_path(path: Any) -> Path:
    """The path of a file."""
    path = check_path("path", path)
    if not path.name:
        message = f"path: the path of a file is needed, not {str(path)!r:.60}"
        raise UserError(message, code="invalid_value", path="path")
    return path

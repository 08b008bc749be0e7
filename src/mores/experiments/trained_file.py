"""The file of a training: one safetensors file with tensors and JSON, without code."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mores import registry
from mores.core.arguments import check_path
from mores.core.errors import UserError
from mores.core.file_formats import TRAINED_FORMAT, check_format, mores_version
from mores.core.random_streams import Worlds
from mores.experiments.results import tensor_file
from mores.experiments.results.pytree_serialization import (
    SerializationError,
    SerializedPytree,
    deserialize,
    serialize,
)
from mores.experiments.training_setup import TrainingSetup
from mores.registry.specs import from_spec, policies_from_specs
from mores.sim.learning_recorder import LearningRecorder
from mores.sim.round_recorder import metric_dataset

if TYPE_CHECKING:
    import xarray


@dataclasses.dataclass(frozen=True)
class TrainedContents:
    """What the file holds: see `mores.experiments.trained.TrainingResult`."""

    policy_states: Mapping[str, Any]
    curves: xarray.Dataset
    learning: xarray.Dataset
    diagnostics: tuple[str, ...]
    setup: TrainingSetup


def write_trained(path: str | Path, contents: TrainedContents) -> Path:
    """Write the file, atomically; returns its path.

    Raises:
        UserError: it cannot be written; a class is not registered; a policy state holds more than
            tensors and plain values.
    """
    path, setup = _check_file_path(path), contents.setup
    requested = {role: setup.policies[role] for role in sorted(setup.requested_roles)}
    specs = {
        "environment": registry.to_spec("environment", setup.environment),
        "policies": {r: registry.to_spec("policy", p) for r, p in requested.items()},
        "population": setup.population and registry.to_spec("population", setup.population),
    }
    try:
        states = serialize(dict(contents.policy_states), setup.initial_policy_states())
    except SerializationError as error:
        message = f"cannot be saved: {error}"
        raise UserError(message, code="unsupported", path="policy_states") from None
    tensors = {
        "replicate": setup.worlds.replicate,
        "world": setup.worlds.world,
        **_tensors_of("curves", contents.curves),
        **_tensors_of("learning", contents.learning),
        **{f"policy_states/{name}": tensor for name, tensor in states.tensors.items()},
    }
    metadata = {
        "format": TRAINED_FORMAT,
        "mores_version": mores_version(),
        **specs,
        "trained_roles": sorted(setup.trained_roles),
        "learning_roles": sorted(setup.learning_roles),
        "metrics": {
            name: metric and registry.to_spec("metric", metric)
            for name, metric in setup.metrics.items()
        },
        "component_names": _component_names(contents.curves),
        "episodes": contents.curves.sizes["episode"],
        "num_episodes": setup.num_episodes,
        "rounds": setup.rounds,
        "seed": setup.seed,
        "diagnostics": list(contents.diagnostics),
        "policy_states": states.metadata,
    }
    tensor_file.write(path, tensors, metadata)
    return path


def read_trained(path: str | Path, device: torch.device) -> TrainedContents:
    """Read the file.

    Raises:
        UserError: it does not exist, was changed, or has another format; a class is not registered.
    """
    path = _check_file_path(path)
    tensors, metadata = tensor_file.read(path)
    found, version = (metadata.get(key) for key in ("format", "mores_version"))
    check_format(path, "trained policies", found, TRAINED_FORMAT, version)
    try:
        return _contents(tensors, metadata, device)
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


def _contents(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], device: torch.device
) -> TrainedContents:
    """The contents of a file, which may lack parts."""

    def tensors_below(name: str) -> dict[str, Tensor]:
        start = f"{name}/"
        return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}

    worlds = Worlds(tensors["replicate"], tensors["world"])
    episodes, num_episodes = metadata["episodes"], metadata["num_episodes"]
    environment = from_spec("environment", metadata["environment"], "environment")
    population = metadata["population"]
    setup = TrainingSetup(
        environment,
        policies_from_specs({**environment.default_policies(), **metadata["policies"]}),
        worlds,
        metadata["rounds"],
        metadata["seed"],
        population and from_spec("population", population, "population"),
        device,
        frozenset(metadata["learning_roles"]),
        frozenset(metadata["policies"]),
        frozenset(metadata["trained_roles"]),
        num_episodes,
        {n: s and from_spec("metric", s, "metrics") for n, s in metadata["metrics"].items()},
    )
    _check_setup(setup, episodes)
    states = deserialize(
        setup.initial_policy_states(),
        SerializedPytree(tensors_below("policy_states"), metadata["policy_states"]),
    )
    curves = {name: curve[:, :, None] for name, curve in tensors_below("curves").items()}
    recorder = LearningRecorder(worlds, episodes)
    for name, values in tensors_below("learning").items():
        by_model = values if values.dim() == 3 else values[..., None]
        recorder.tensors[name] = by_model.transpose(0, 1)  # [episode, replicate, model]
    numbers = range(num_episodes - episodes, num_episodes)
    return TrainedContents(
        states,
        metric_dataset(curves, worlds, episodes, [0], metadata.get("component_names"))
        .isel(round=0, drop=True)
        .assign_coords(episode=numbers),
        recorder.dataset().assign_coords(episode=numbers),
        tuple(metadata["diagnostics"]),
        setup,
    )


def _check_setup(setup: TrainingSetup, episodes: Any) -> None:
    """Check what nothing else does.

    Raises:
        ValueError: roles that are not there, or impossible numbers of episodes.
    """
    if not setup.learning_roles <= setup.trained_roles <= setup.policies.keys():
        raise ValueError("roles that trained are not roles of the environment")
    numbers = (episodes, setup.num_episodes)
    if any(type(number) is not int for number in numbers) or not 0 < numbers[0] <= numbers[1]:
        raise ValueError(f"{numbers[0]!r} of {numbers[1]!r} episodes")


def _tensors_of(prefix: str, dataset: xarray.Dataset) -> dict[str, Tensor]:
    return {
        f"{prefix}/{name}": torch.from_numpy(values.values).contiguous()
        for name, values in dataset.items()
    }


def _component_names(curves: xarray.Dataset) -> dict[str, list[str]]:
    """Names of the components of each metric that has any."""
    dimensions = {str(name): f"{name}_component" for name in curves.data_vars}
    return {n: curves[d].values.tolist() for n, d in dimensions.items() if d in curves.coords}


def _check_file_path(path: Any) -> Path:
    """The path of a file."""
    path = check_path("path", path)
    if not path.name:
        message = f"path: the path of a file is needed, not {str(path)!r:.60}"
        raise UserError(message, code="invalid_value", path="path")
    return path

"""Trained files that were forged, arguments of trained policies, and names of logs."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mores
from mores.experiments.results import tensor_file
from mores.experiments.trained import TrainingResult
from mores.experiments.training import load_trained
from mores.sim.simulator import Simulator
from tests.refusals import refused

GIVEN: dict[str, Any] = {"rounds": 128, "replicates": 2, "progress": False}
OPTIMIZER_STEP = "policy_states//player/persistent/value/train_state/optimizer_state/step"


def train(**options: Any) -> TrainingResult:
    return mores.train("matrix_game", {"player": "ppo"}, episodes=1, **GIVEN, **options)


@pytest.fixture(scope="module")
def trained() -> TrainingResult:
    return train()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda tensors, metadata: metadata.update(trained_roles=["ghost"]), "unreadable"),
        (lambda tensors, metadata: metadata.update(trained_roles=[]), "unreadable"),
        (lambda tensors, metadata: metadata.update(num_episodes=0), "unreadable"),
        (lambda tensors, metadata: metadata.update(episodes=True), "unreadable"),
        (lambda tensors, metadata: metadata.update(environment={"kind": "lock_in:os"}), None),
        (lambda tensors, _: tensors.update({OPTIMIZER_STEP: torch.zeros(3, 5, 2)}), "incompatible"),
        (lambda tensors, _: tensors.pop(OPTIMIZER_STEP), "incompatible"),
        (lambda tensors, _: tensors.update(replicate=torch.zeros(2, 2)), "wrong_type"),
    ],
)
def test_a_forged_file(
    trained: TrainingResult, tmp_path: Path, change: Callable[[Any, Any], object], code: str | None
) -> None:
    """Checksums are made anew, as by an attacker."""
    path = trained.save(tmp_path / "trained.safetensors")
    tensors, metadata = tensor_file.read(path)
    assert OPTIMIZER_STEP in tensors
    metadata = copy.deepcopy(metadata)
    change(tensors, metadata)
    tensor_file.write(path, tensors, metadata)
    with refused(code or "unknown_name"):
        load_trained(path)


@pytest.mark.parametrize(
    "given", ["text", None, {}, [[1], [1, 2]], np.array([None]), np.ones(5) * 1j]
)
def test_observations_that_are_no_numbers(trained: TrainingResult, given: Any) -> None:
    with refused("wrong_type", "observation"):
        trained.policy("player")(given)


def test_a_callback_does_not_change_the_curves(trained: TrainingResult) -> None:
    def overwrite(episode: int, info: Any) -> None:
        for values in (*info.metrics.values(), *info.learning.values()):
            values[...] = 7.0

    changed = train(callback=overwrite)
    assert changed.curves.identical(trained.curves)
    assert changed.learning.identical(trained.learning)


@pytest.mark.parametrize("name", ["../escape", "/escape", "a/../../escape", "a\0b", "..", "a//b"])
def test_a_log_stays_in_its_folder(name: str, tmp_path: Path) -> None:
    with refused("invalid_value"):
        train(track={"kind": "jsonl", "folder": str(tmp_path / "logs"), "name": name})
    assert not list(tmp_path.iterdir())


def test_a_log_is_no_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log.jsonl")
    with refused("not_writable", "track"):
        train(track={"kind": "jsonl", "folder": str(tmp_path), "name": "log"})


@pytest.mark.parametrize(
    ("mask", "code"),
    [
        (torch.tensor([True]), "wrong_shape"),
        (torch.ones(3, 3, dtype=torch.bool), "wrong_shape"),
        (torch.ones(3), "wrong_type"),
        ([True] * 3, "wrong_type"),
        (None, "wrong_type"),
        (torch.zeros(3, dtype=torch.bool), "invalid_value"),
    ],
)
def test_masks_of_worlds_to_reset(mask: Any, code: str) -> None:
    environment = mores.make_environment("coevolution", num_people=2)
    policies = environment.default_policies()
    simulator = Simulator(environment, policies, external={"assistant": [0]}, worlds=3)
    simulator.reset(1)
    with refused(code, "reset_mask"):
        simulator.reset_worlds(mask)

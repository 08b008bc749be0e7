"""Training that continues from a file is the training without the interruption.

Reports about peers: a model that is saved and trained again does not improve,
https://github.com/DLR-RM/stable-baselines3/issues/597; rewards fall after a restored checkpoint,
https://github.com/ray-project/ray/issues/41290
"""

from __future__ import annotations

from pathlib import Path

import torch

import mores
from mores.core import pytree
from mores.experiments.trained import TrainingResult


def test_training_from_a_file_equals_one_training(tmp_path: Path) -> None:
    """Parameters, the optimizer's state and the curves, after each of three parts."""
    policy = {"kind": "ppo", "num_steps": 6, "num_minibatches": 1}  # a rollout ends in an episode

    def train(episodes: int) -> TrainingResult:
        return mores.train(
            "matrix_game", {"player": policy}, episodes=episodes, rounds=8, worlds=2, seed=1
        )

    whole, result = train(3), train(1)
    for _ in range(2):
        file = result.save(tmp_path / "trained.safetensors")
        result = mores.load_trained(file).train(1)
    assert result.curves.identical(whole.curves)
    expected = pytree.flatten(whole.policy_states)
    continued = pytree.flatten(result.policy_states)
    assert expected.keys() == continued.keys()
    assert all(torch.equal(expected[name], tensor) for name, tensor in continued.items())

"""A training that goes on equals one without interruption, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import mores
from mores.core import pytree
from mores.experiments.trained import TrainingResult
from tests.learners.small_environments import unchecked
from tests.refusals import refused

GRU = {"kind": "gru", "hidden_size": 4}
# 48 rounds a rollout and 20 an episode: the cut is within a rollout.
PPO = {"kind": "ppo", "parameter_sharing": "agent", "num_steps": 48, "network": GRU}
COOPERATOR = {"kind": "strategy", "name": "cooperator"}
POLICIES: dict[str, Any] = {
    "ppo": PPO,
    "grpo": {"kind": "grpo", "kl_coef": 0.1, "update_epochs": 2},
    "shared": {"kind": "reinforce", "parameter_sharing": "replicate"},
    "per_agent": {"kind": "per_agent", "policies": [{**PPO, "num_steps": 30}, COOPERATOR]},
}


def train(policy: Any, episodes: int, **kwargs: Any) -> TrainingResult:
    environment = {"kind": "matrix_game", "tremble_probability": 0.1}
    kwargs = {"rounds": 20, "replicates": 2, "worlds": 2, "seed": 5, **kwargs}
    return mores.train(environment, {"player": policy}, episodes=episodes, **kwargs)


def assert_equal(one: TrainingResult, other: TrainingResult) -> None:
    assert one.curves.identical(other.curves)
    assert one.learning.identical(other.learning)
    tensors = pytree.flatten(one.policy_states)
    for path, tensor in pytree.flatten(other.policy_states).items():
        assert torch.equal(tensors[path], tensor), path


@pytest.mark.cut(2)
@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@unchecked()
def test_a_continued_training_equals_one_without_interruption(policy: Any, tmp_path: Path) -> None:
    """In memory, from a file, and in three parts; the first part stays as it was."""
    whole, part = train(policy, 6), train(policy, 3)
    before = {path: x.clone() for path, x in pytree.flatten(part.policy_states).items()}
    part.evaluate(rounds=30)  # no evaluation may change what the training goes on from
    assert_equal(part.train(3), whole)
    for path, tensor in pytree.flatten(part.policy_states).items():
        assert torch.equal(before[path], tensor), path
    file = part.save(tmp_path / "part.safetensors")
    assert_equal(mores.load_trained(file).train(3), whole)
    file = part.train(1).save(tmp_path / "part.safetensors")
    assert_equal(mores.load_trained(file).train(2), whole)
    assert whole.evaluate().identical(part.train(3).evaluate())


@pytest.mark.full
def test_another_setup_goes_on_from_the_learners() -> None:
    """Parameters and optimizers stay; random numbers and episodes are counted on."""
    start = train(PPO, 3)
    stag_hunt = {"kind": "matrix_game", "payoffs": "stag_hunt"}
    frozen = {"player": {**PPO, "learning_rate": 0}}
    result = mores.train(stag_hunt, frozen, start=start, episodes=1, rounds=48)
    assert result.curves["episode"].values.tolist() == [3]
    trained, later = (each.state_dict("player") for each in (start, result))
    assert all(torch.equal(later[name], trained[name]) for name in trained if "." in name)
    assert not result.curves["mean_payoff"].equals(start.curves["mean_payoff"][:, :1])
    longer = train(PPO, 2, start=start, rounds=48)
    assert longer.curves["episode"].values.tolist() == [3, 4]
    step = longer.policy_states["player"].persistent_state.train_state.optimizer_state.step
    earlier = start.policy_states["player"].persistent_state.train_state.optimizer_state.step
    assert step.tolist() == [int(each) + 2 * 8 for each in earlier]
    slower = train({**PPO, "learning_rate": 1e-4}, 1, start=start, rounds=48)
    assert slower.curves.sizes["episode"] == 1 and slower.setup.num_episodes == 4
    assert longer.train(1).curves["episode"].values.tolist() == [3, 4, 5]


@unchecked()
def test_what_cannot_go_on_is_refused() -> None:
    start = train(PPO, 1, rounds=48)
    for kwargs, code, path in [
        ({"replicates": 3}, "incompatible", "replicates"),
        ({"worlds": 1}, "incompatible", "worlds"),
        ({"start": start.policy("player")}, "wrong_type", "start"),
    ]:
        with refused(code, path=path):
            train(PPO, 1, **{"start": start, **kwargs})
    with refused("not_trained", path="policies.player"):
        train({"kind": "per_agent", "policies": [PPO, PPO]}, 1, start=start)
    with refused("incompatible", path="environment"):
        mores.train("token_feedback", start=start, episodes=1)
    with refused("incompatible", path="policies.player"):
        deeper = {"kind": "matrix_game", "memory_depth": 2}
        mores.train(deeper, start=start, episodes=1)
    with refused("missing", path="rounds"):
        mores.train("matrix_game", {"player": PPO}, episodes=1)


@unchecked()
def test_a_trained_policy_never_begins_anew() -> None:
    result = train(PPO, 1, rounds=48)
    trained = result.policies["player"]
    assert trained == mores.make_policy(**PPO)
    pair = mores.make_policy("per_agent", policies=[trained, mores.make_policy(**COOPERATOR)])
    for policy in (result, result.policy("player"), trained, pair):
        with refused("unsupported", path="policies.player"):
            train(policy, 1)
    assert train(trained, 1, start=result, rounds=48).setup.num_episodes == 2

"""BenchMARL's algorithms train all agents of `BenchMARLTask`.

BenchMARL requires an older TorchRL: it runs in an environment of its own (`make test-clients`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("benchmarl.algorithms", reason="an environment of its own: make test-clients")

from benchmarl.algorithms import IppoConfig, MappoConfig, MasacConfig, QmixConfig
from benchmarl.experiment import Experiment, ExperimentConfig
from benchmarl.models.mlp import MlpConfig
from torchrl.envs import MarlGroupMapType, check_env_specs

from mores.clients.benchmarl import BenchMARLTask
from tests.clients.kinds import KINDS, role_names, small
from tests.refusals import refused

ROUNDS, WORLDS, ITERATIONS = 4, 4, 2
FRAMES = ROUNDS * WORLDS


def experiment(task: BenchMARLTask, algorithm: Any, folder: Path) -> Experiment:
    config = ExperimentConfig.get_from_yaml()
    for policy in ("on", "off"):
        setattr(config, f"{policy}_policy_n_envs_per_worker", WORLDS)
        setattr(config, f"{policy}_policy_collected_frames_per_batch", FRAMES)
    config.on_policy_n_minibatch_iters, config.on_policy_minibatch_size = 1, FRAMES
    config.off_policy_train_batch_size, config.off_policy_n_optimizer_steps = 8, 1
    config.off_policy_init_random_frames, config.off_policy_memory_size = 0, 100
    config.max_n_iters, config.max_n_frames = ITERATIONS, None
    config.evaluation_episodes, config.evaluation_interval = 2, FRAMES * ITERATIONS
    config.loggers, config.create_json, config.render = [], False, False
    config.checkpoint_at_end, config.save_folder = False, str(folder)
    model = MlpConfig.get_from_yaml()
    return Experiment(
        task=task,
        algorithm_config=algorithm.get_from_yaml(),
        model_config=model,
        critic_model_config=model,
        seed=0,
        config=config,
    )


@pytest.mark.parametrize(
    ("kind", "algorithm", "config"),
    [
        ("dr_mdp", MappoConfig, {"horizon": ROUNDS}),
        ("dr_mdp", QmixConfig, {"group_map": MarlGroupMapType.ALL_IN_ONE_GROUP}),
        ("lock_in", IppoConfig, {}),
        ("lock_in", MasacConfig, {"group_map": MarlGroupMapType.ALL_IN_ONE_GROUP}),
    ],
)
def test_algorithms_train(
    kind: str, algorithm: Any, config: dict[str, Any], tmp_path: Path
) -> None:
    """The policies' weights change; masks and phases are as in `TorchRLEnv`."""
    external = ["assistant"] if kind == "dr_mdp" else None
    task = BenchMARLTask(kind, {"rounds": ROUNDS, "num_people": 3, "external": external} | config)
    trained = experiment(task, algorithm, tmp_path)
    before = {
        name: value.clone()
        for name, value in trained.policy.state_dict().items()
        if isinstance(value, torch.Tensor)
    }
    trained.run()
    assert trained.total_frames == FRAMES * ITERATIONS
    after = trained.policy.state_dict()
    assert any(not torch.equal(value, after[name]) for name, value in before.items())
    assert torch.isfinite(torch.as_tensor(trained.mean_return))


@pytest.mark.cut(8)
@pytest.mark.parametrize("kind", KINDS)
def test_specifications(kind: str) -> None:
    """With BenchMARL's version of TorchRL; each role by itself."""
    for role in role_names(kind):
        config = {"rounds": ROUNDS, "external": [role], "metrics": []} | small(kind)
        task = BenchMARLTask(kind, config)
        discrete = task.supports_discrete_actions()
        assert task.supports_continuous_actions() != discrete
        env = task.get_env_fun(2, not discrete, 0, "cpu")()
        check_env_specs(env)
        assert list(task.group_map(env)) == [role]
        assert list(task.observation_spec(env)[role].keys()) == ["observation"]
        assert (task.action_mask_spec(env) is not None) == discrete
        assert len(env.rollout(task.max_steps(env), break_when_any_done=False)[0]) >= ROUNDS


def test_actions_of_two_kinds() -> None:
    """BenchMARL trains discrete actions or vectors."""
    with refused("unsupported", path="external"):
        BenchMARLTask("principal_agent", small("principal_agent"))

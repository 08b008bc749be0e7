"""The clients of the table `docs/reference/clients.md`: what is tested of each, and where.

`GROUPS` are the environments of `scripts/clients.sh`: clients that need the same versions share
one. `project` is the environment of the project, with its extras; `paths` the same, for clients
that are source code at a path given by a variable.
"""

from __future__ import annotations

import dataclasses

PROJECT = "project"
GROUPS = (PROJECT, "gymnasium-1.2", "gymnasium-1.3", "current", "rllib", "benchmarl", "paths")


@dataclasses.dataclass(frozen=True)
class Client:
    """A row of the table, and one more for each group with another version.

    Args:
        name: name of the client.
        package: package whose version the row states; empty: source code at a path.
        tests: files of tests, relative to `tests`.
        calls: what the tests call.
        groups: environments in which they run.
        variable: environment variable with the path of the source code.
    """

    name: str
    package: str
    tests: tuple[str, ...]
    calls: str
    groups: tuple[str, ...] = (PROJECT,)
    variable: str = ""


CLIENTS = (
    Client(
        "Gymnasium",
        "gymnasium",
        (
            "clients/test_gymnasium.py",
            "clients/test_autoreset.py",
            "clients/test_observation_format.py",
            "clients/test_reward_vector.py",
        ),
        "`check_env`, `make`, `make_vec` in the three modes of autoreset, `EnvSpec.to_json`, "
        "`SyncVectorEnv`, `AsyncVectorEnv`, `RecordEpisodeStatistics`",
        (PROJECT, "gymnasium-1.2", "gymnasium-1.3"),
    ),
    Client(
        "PettingZoo",
        "pettingzoo",
        ("clients/test_pettingzoo.py",),
        "`parallel_api_test`, `api_test`, `seed_test`, `max_cycles_test`, `render_test`, "
        "`state_test`, for the parallel and both AEC environments",
    ),
    Client(
        "Stable-Baselines3",
        "stable-baselines3",
        ("clients/test_stable_baselines3.py", "clients/test_sb3_vec_env.py"),
        "`check_env`, `PPO.learn` on an id, on `SB3VecEnv`, and on all agents by SuperSuit",
    ),
    Client(
        "SuperSuit",
        "supersuit",
        ("clients/test_supersuit.py",),
        "`frame_skip_v0`, `frame_stack_v1` and ten more wrappers, `parallel_api_test`",
    ),
    Client(
        "TorchRL",
        "torchrl",
        ("clients/test_torchrl.py",),
        "`GymEnv`, `GymWrapper`, `PettingZooWrapper`, `TorchRLEnv` with groups: "
        "`check_env_specs`, `rollout`, `Collector`, `ClipPPOLoss`",
    ),
    Client(
        "TRL",
        "trl",
        ("language/test_trl_rollouts.py", "external/test_trl_environment.py"),
        "`GRPOTrainer` with `rollout_func` and with `environment_factory`",
    ),
    Client(
        "sb3-contrib",
        "sb3-contrib",
        ("external/test_sb3_contrib.py",),
        "`MaskablePPO.learn` and `predict` with masks, `RecurrentPPO.learn`",
        ("current",),
    ),
    Client(
        "Tianshou",
        "tianshou",
        ("external/test_tianshou.py",),
        "`PettingZooEnv` with masks, `MultiAgentOffPolicyAlgorithm` of `DQN`, `run_training`",
        ("current",),
    ),
    Client(
        "Minari",
        "minari",
        ("external/test_minari.py",),
        "`DataCollector`, `create_dataset`, `load_dataset`, `recover_environment`: equal bit for "
        "bit",
        ("current",),
    ),
    Client(
        "MO-Gymnasium",
        "mo-gymnasium",
        ("external/test_mo_gymnasium.py",),
        "`LinearReward`, `MONormalizeReward`, `MOClipReward`, `MORecordEpisodeStatistics`, "
        "`MOSyncVectorEnv`",
        ("current",),
    ),
    Client(
        "RLlib",
        "ray",
        ("external/test_rllib.py",),
        "`PPO` of one agent and of all roles (`ParallelPettingZooEnv`, `PettingZooEnv`), "
        "checkpoints, `ActionMaskingTorchRLModule`, `SingleAgentEnvRunner`",
        ("rllib",),
    ),
    Client(
        "BenchMARL",
        "benchmarl",
        ("external/test_benchmarl.py",),
        "`Experiment` with MAPPO, IPPO, QMIX and MASAC on `BenchMARLTask`",
        ("benchmarl",),
    ),
    Client(
        "EPyMARL",
        "",
        ("external/test_source_paths.py::test_epymarl",),
        "its `PettingZooWrapper` of an environment with several agents",
        ("paths",),
        "MORES_EPYMARL",
    ),
    Client(
        "PufferLib",
        "",
        ("external/test_source_paths.py::test_pufferlib",),
        "its `GymnasiumPufferEnv` of an environment",
        ("paths",),
        "MORES_PUFFERLIB",
    ),
)

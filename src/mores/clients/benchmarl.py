"""BenchMARL task: its algorithms train all external agents of an environment.

    task = BenchMARLTask("dr_mdp", {"rounds": 8, "num_people": 4})
    Experiment(task=task, algorithm_config=MappoConfig.get_from_yaml(), ...).run()

BenchMARL requires an older TorchRL than the extra `rl`: install both in an environment of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mores.clients.torchrl import TorchRLEnv
from mores.core.errors import UserError

try:
    from benchmarl.environments.common import TaskClass  # type: ignore[import-not-found]
except ImportError as error:
    raise UserError(
        f"BenchMARL is not installed ({error}): pip install benchmarl",
        code="not_installed",
        path="benchmarl",
    ) from None

from tensordict import TensorDictBase
from torchrl.data import Categorical, Composite


class BenchMARLTask(TaskClass):
    """The external agents of an environment, `num_envs` worlds in one tensor program.

    Models observe `observation` and, for discrete actions, `action_mask`; `mask` and `projected`
    are in the collected data only. Actions of agents that do not act in a phase are ignored.

    Args:
        name: name of an environment (`mores list`).
        config: the other arguments of `mores.TorchRLEnv`, such as `rounds`, `external`,
            `group_map` and parameters of the environment. Without `group_map` each role is a group.

    Raises:
        UserError: an unknown name or parameter, a wrong value, or groups with actions of different
            kinds, which BenchMARL cannot train together.
    """

    def __init__(self, name: str, config: Mapping[str, Any] | None = None) -> None:
        super().__init__(name, dict(config or {}))
        spec = self._make_env(1, None, "cpu").full_action_spec_unbatched
        self._discrete = [isinstance(spec[key], Categorical) for key in spec.keys(True, True)]
        if len(set(self._discrete)) > 1:
            raise UserError(
                f"external: groups of {name!r} have discrete actions and vectors, and BenchMARL "
                "trains one kind: choose the agents with external",
                code="unsupported",
                path="external",
            )

    def _make_env(self, num_envs: int, seed: int | None, device: Any) -> TorchRLEnv:
        env = TorchRLEnv(self.name, num_envs, device=device, **self.config)
        env.set_seed(seed)
        return env

    def get_env_fun(
        self, num_envs: int, continuous_actions: bool, seed: int | None, device: Any
    ) -> Callable[[], TorchRLEnv]:
        """Function that makes an environment of `num_envs` worlds."""
        return lambda: self._make_env(num_envs, seed, device)

    def supports_continuous_actions(self) -> bool:
        """Whether actions are vectors."""
        return not self._discrete[0]

    def supports_discrete_actions(self) -> bool:
        """Whether actions are choices."""
        return self._discrete[0]

    def max_steps(self, env: Any) -> int:
        """Largest number of steps of an episode: phases in which external agents act."""
        simulator = env.simulator
        phases = [
            phase
            for phase in simulator.phases
            if any(role in phase.action_spaces for role in simulator.external)
        ]
        return simulator.rounds * len(phases)

    def has_render(self, env: Any) -> bool:
        """False: there are no pictures."""
        return False

    def group_map(self, env: Any) -> dict[str, list[str]]:
        """Names of the agents of each group."""
        return env.group_map

    def observation_spec(self, env: Any) -> Composite:
        """`observation` of each group."""
        return self._group_entries(env, "observation")

    def action_mask_spec(self, env: Any) -> Composite | None:
        """`action_mask` of each group with discrete actions."""
        return self._group_entries(env, "action_mask") if self._discrete[0] else None

    def _group_entries(self, env: Any, entry: str) -> Composite:
        """The observation specification with one entry of each group."""
        spec = env.full_observation_spec_unbatched.clone()
        for name in list(spec.keys()):
            if name not in env.group_map:
                del spec[name]
                continue
            for other in set(spec[name].keys()) - {entry}:
                del spec[name, other]
        return spec

    def info_spec(self, env: Any) -> Composite | None:
        """None: no entry is called `info`."""
        return None

    def state_spec(self, env: Any) -> Composite | None:
        """None: there is no state that agents share."""
        return None

    def action_spec(self, env: Any) -> Composite:
        """`action` of each group."""
        return env.full_action_spec_unbatched

    @staticmethod
    def env_name() -> str:
        """Name of the collection of tasks."""
        return "mores"

    @staticmethod
    def log_info(batch: TensorDictBase) -> dict[str, float]:
        """Mean of each metric of `metrics`."""
        metrics = batch.get(("next", "metrics"), None)
        return {} if metrics is None else {n: float(m.mean()) for n, m in metrics.items()}

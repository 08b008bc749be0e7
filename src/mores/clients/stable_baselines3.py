"""Stable-Baselines3 `VecEnv`: one agent in many worlds at once, numpy, a list of infos.

Stable-Baselines3 has its own vector interface, which is older than Gymnasium's. `SB3VecEnv` wraps
`GymnasiumVectorEnv`, which steps thousands of worlds in one tensor program; `DummyVecEnv` and
`SubprocVecEnv` step single worlds one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from mores.clients.array_conversion import check_no_options, metric_to_numpy
from mores.clients.gymnasium_vector import GymnasiumVectorEnv
from mores.clients.resolve import resolve_environment, resolve_population
from mores.core.arguments import check_names
from mores.core.environment import Environment
from mores.core.errors import UserError, did_you_mean
from mores.core.people import Population
from mores.core.policy import Policy
from mores.registry.specs import Spec

try:
    from stable_baselines3.common import vec_env
    from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn
except ImportError as error:
    raise UserError(
        f"Stable-Baselines3 is not installed ({error}): pip install stable-baselines3",
        code="not_installed",
        path="stable_baselines3",
    ) from None

ACTION_MASKS = "action_masks"  # sb3-contrib's name of the method that returns masks


class MissingAttributeError(UserError, AttributeError):
    """Missing attribute. An `AttributeError`, by which Stable-Baselines3 tests for attributes."""


class SB3VecEnv(vec_env.VecEnv):
    """One external agent in each of `num_envs` worlds; policies act for all others.

    A step is one turn of the agent in every world. `infos[i]` holds `projected` and the requested
    metrics; in a finished world also the last observation as `terminal_observation`, and
    `TimeLimit.truncated`: whether the limit of rounds ended the episode. The world resets in the
    same step. For discrete actions `env_method("action_masks")` returns the legal options,
    `[option]` for each world, as sb3-contrib's masked learners require.

    Worlds are one tensor program, not objects: a single world has no attributes to read or set and
    no other methods. `seed(n)` selects the worlds of `GymnasiumVectorEnv.reset(seed=n)`.
    `VecMonitor(env)` records returns of episodes.

    Args:
        environment: name of an environment (`mores list`), or an environment.
        num_envs: number of worlds.
        agent: as in `person_3`; default: the first agent of the role with the fewest agents.
        rounds: maximum length of an episode (truncation).
        policies: policies of the other agents by role: `{"person": {"kind": "random"}}`, or
            objects; default: the environment's.
        population: source of the people: `{"kind": "anes96"}`; default: the environment's.
        metrics: names of metrics to add to `infos`. Metrics can reveal latent quantities.
        device: device of the simulation.
        **parameters: of an environment given by name.

    Raises:
        UserError: an unknown name or parameter, or a wrong value.
    """

    def __init__(
        self,
        environment: str | Environment[Any],
        num_envs: int = 1,
        agent: str | None = None,
        rounds: int = 100,
        policies: Mapping[str, Policy | Spec] | None = None,
        population: Population | Spec | None = None,
        metrics: Sequence[str] = (),
        device: torch.device | str = "cpu",
        **parameters: Any,
    ) -> None:
        people = resolve_population(population)
        self.vector_env = GymnasiumVectorEnv(
            resolve_environment(environment, parameters, people, type(self)),
            num_envs,
            agent,
            rounds,
            policies,
            people,
            metrics,
            device,
        )
        self._info_keys = ("projected", *check_names("metrics", metrics))
        self._actions: np.ndarray | None = None
        super().__init__(
            num_envs, self.vector_env.single_observation_space, self.vector_env.single_action_space
        )

    def reset(self) -> np.ndarray:
        """Start an episode in every world, with the seed of the last call of `seed`."""
        for options in self._options:
            check_no_options(options)
        observation, info = self.vector_env.reset(seed=self._seeds[0])
        self._reset_seeds()
        self.reset_infos = self._infos(info)
        return _to_numpy(observation)

    def step_async(self, actions: np.ndarray) -> None:
        """Store the actions of all worlds, `[world]` or `[world, size]`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Act in every world and simulate until the agent's next turn."""
        if self._actions is None:
            raise UserError("step_wait: call step_async with actions first", code="wrong_order")
        observation, reward, terminated, truncated, info = self.vector_env.step(self._actions)
        self._actions = None
        done = (terminated | truncated).cpu().numpy()
        infos = self._infos(info)
        if done.any():
            self._finish_episodes(np.flatnonzero(done), _to_numpy(truncated), infos, info)
        return _to_numpy(observation), _to_numpy(reward), done, infos

    def _finish_episodes(
        self,
        done_worlds: np.ndarray,
        truncated: np.ndarray,
        infos: list[dict[str, Any]],
        info: Mapping[str, Any],
    ) -> None:
        """Set `infos` of finished worlds to their last episode, `reset_infos` to the next one."""
        final, final_infos = _to_numpy(info["final_obs"]), self._infos(info["final_info"])
        for world in done_worlds:
            self.reset_infos[world] = infos[world] | {"projected": False}
            infos[world] = final_infos[world] | {
                "terminal_observation": final[world],
                "TimeLimit.truncated": bool(truncated[world]),
            }

    def _infos(self, info: Mapping[str, Any]) -> list[dict[str, Any]]:
        """`info` of every world, in separate dictionaries and arrays."""
        values = {name: info[name].cpu() for name in self._info_keys}
        infos: list[dict[str, Any]] = [
            {"projected": projected} for projected in values.pop("projected").tolist()
        ]
        for name, metric in values.items():
            for world, value in enumerate(metric):
                infos[world][name] = metric_to_numpy(value)
        return infos

    def close(self) -> None:
        """Close the vector environment."""
        self.vector_env.close()

    def action_masks(self) -> np.ndarray:
        """Legal options now, `[world, option]`; masks of a multi-discrete action concatenated."""
        try:
            return _to_numpy(self.vector_env.action_masks())
        except UserError as error:
            raise MissingAttributeError(error.args[0], code=error.code, path=error.path) from None

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """`render_mode`, `spec`, a space or the `action_masks` method of every world.

        Raises:
            MissingAttributeError: any other attribute.
        """
        if attr_name == ACTION_MASKS:
            methods = [
                lambda world=world: self.action_masks()[world] for world in range(self.num_envs)
            ]
            self.action_masks()  # raises if the action is a box
            return [methods[world] for world in self._get_indices(indices)]
        attributes = {
            "render_mode": None,
            "spec": self.vector_env.spec,
            "observation_space": self.vector_env.single_observation_space,
            "action_space": self.vector_env.single_action_space,
        }
        if attr_name not in attributes:
            near = did_you_mean(attr_name, [*attributes, ACTION_MASKS])
            raise MissingAttributeError(
                f"a single world has no attribute {attr_name!r}{near}",
                code="unknown_name",
                path=attr_name,
            )
        return [attributes[attr_name] for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Raise a `UserError`: parameters are set when the environment is constructed."""
        raise UserError(
            f"{attr_name!r} cannot be set: all worlds are one tensor program",
            code="unsupported",
            path=attr_name,
        )

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        """Action masks of the selected worlds.

        Raises:
            MissingAttributeError: any other method.
        """
        if method_name != ACTION_MASKS:
            raise MissingAttributeError(
                f"a single world has no method {method_name!r}, only {ACTION_MASKS!r}",
                code="unknown_name",
                path=method_name,
            )
        masks = self.action_masks()
        return [masks[world] for world in self._get_indices(indices)]

    def env_is_wrapped(
        self,
        wrapper_class: type[gymnasium.Wrapper[Any, Any, Any, Any]],
        indices: VecEnvIndices = None,
    ) -> list[bool]:
        """False for every world: there are no single environments to wrap."""
        return [False for _ in self._get_indices(indices)]


def _to_numpy(tensor: Tensor) -> np.ndarray:
    """Copy on the host: clients store results while the simulation continues."""
    return tensor.cpu().numpy().copy()

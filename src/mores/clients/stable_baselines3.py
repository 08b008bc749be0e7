"""One seat in many worlds at once as a vector of Stable-Baselines3: numpy, a list of infos.

Stable-Baselines3 has a vector interface of its own, older than Gymnasium's. This one hands it our
`GymnasiumVectorEnv`, so that a learner there meets thousands of worlds that are one torch program, where
its own `DummyVecEnv` and `SubprocVecEnv` would step single worlds one after the other.
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
from mores.clients.resolve import SpecMapping
from mores.core.arguments import check_names
from mores.core.environment import Environment, Policy
from mores.core.errors import UserError, did_you_mean
from mores.sim.simulator import Population

try:
    from stable_baselines3.common import vec_env
    from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn
except ImportError as error:
    raise UserError(
        f"Stable-Baselines3 is not installed ({error}): pip install stable-baselines3",
        code="not_installed",
        path="stable_baselines3",
    ) from None

ACTION_MASKS = "action_masks"  # sb3-contrib asks for masks by this name


class MissingAttributeError(UserError, AttributeError):
    """Stable-Baselines3 asks whether there is something by looking for an `AttributeError`."""


class SB3VecEnv(vec_env.VecEnv):
    """One seat in `num_envs` worlds; everybody else is a player inside.

    A step is one own turn in every world. `infos[i]` holds `projected` and the measures that were
    asked for; in a world that has ended, its last sight as `terminal_observation`, and
    `TimeLimit.truncated`: whether it was cut off by the limit of rounds. It begins anew at once.
    Where actions are choices, `env_method("action_masks")` tells what is open now, `[option]` a
    world, as sb3-contrib's masked learners ask for it.

    Worlds are one program and have no objects of their own: of a single world there are no
    attributes to read or set and no methods to call. `seed(n)` gives the worlds of
    `VectorEnv.reset(seed=n)`. Returns of episodes are added up by `VecMonitor(env)`.

    Args:
        environment: the name of an environment (`mores list`), or a game.
        num_envs: how many worlds.
        agent: as in `person_3`; by default the first seat of the role with the fewest seats.
        rounds: length of an episode.
        policies: by role, for all other seats: `{"person": {"kind": "respondent"}}`, or ready
            players; by default the game's baseline.
        population: where people come from: `{"kind": "anes96"}`; by default the game's own.
        metrics: names of measures to put in `infos`. They may tell what the seat must not see.
        device: where the worlds are played.
        **parameters: of the environment, where it is given by name.

    Raises:
        UserError: an unknown name or parameter, or a wrong value.
    """

    def __init__(
        self,
        environment: str | Environment[Any],
        num_envs: int = 1,
        agent: str | None = None,
        rounds: int = 100,
        policies: Mapping[str, Policy | SpecMapping] | None = None,
        population: Population | SpecMapping | None = None,
        metrics: Sequence[str] = (),
        device: torch.device | str = "cpu",
        **parameters: Any,
    ) -> None:
        self.vector_env = GymnasiumVectorEnv(
            environment,
            num_envs,
            agent,
            rounds,
            policies,
            population,
            metrics,
            device,
            **parameters,
        )
        self._info_keys = ("repaired", *check_names("measures", metrics))
        self._actions: np.ndarray | None = None
        super().__init__(
            num_envs, self.vector_env.single_observation_space, self.vector_env.single_action_space
        )

    def reset(self) -> np.ndarray:
        """Begin an episode in every world, with what `seed` was told last."""
        for options in self._options:
            check_no_options(options)
        seen, info = self.vector_env.reset(seed=self._seeds[0])
        self._reset_seeds()
        self.reset_infos = self._infos(info)
        return _to_numpy(seen)

    def step_async(self, actions: np.ndarray) -> None:
        """Take the actions of all worlds, `[world]` or `[world, size]`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Act in every world, and play on to the next own turn."""
        if self._actions is None:
            raise UserError(
                "no actions were given: step_async comes before step_wait", code="wrong_order"
            )
        seen, reward, terminated, truncated, info = self.vector_env.step(self._actions)
        self._actions = None
        over = (terminated | truncated).cpu().numpy()
        infos = self._infos(info)
        if over.any():
            self._finish_episodes(np.flatnonzero(over), _to_numpy(truncated), infos, info)
        return _to_numpy(seen), _to_numpy(reward), over, infos

    def _finish_episodes(
        self,
        done_worlds: np.ndarray,
        truncated: np.ndarray,
        infos: list[dict[str, Any]],
        info: Mapping[str, Any],
    ) -> None:
        """In worlds that ended: infos of the episode that did, `reset_infos` of the next."""
        final, last = _to_numpy(info["final_obs"]), self._infos(info["final_info"])
        for world in done_worlds:
            self.reset_infos[world] = infos[world] | {"repaired": False}
            infos[world] = last[world] | {
                "terminal_observation": final[world],
                "TimeLimit.truncated": bool(truncated[world]),
            }

    def _infos(self, info: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What is told of every world, in objects of their own."""
        told = {name: info[name].cpu() for name in self._info_keys}
        infos: list[dict[str, Any]] = [
            {"repaired": repaired} for repaired in told.pop("repaired").tolist()
        ]
        for name, measure in told.items():
            for world, value in enumerate(measure):
                infos[world][name] = metric_to_numpy(value)
        return infos

    def close(self) -> None:
        """Nothing is held open."""
        self.vector_env.close()

    def action_masks(self) -> np.ndarray:
        """Which options are open now, `[world, option]`; those of several choices in a row."""
        try:
            return _to_numpy(self.vector_env.action_masks())
        except UserError as error:
            raise MissingAttributeError(error.args[0], code=error.code, path=error.path) from None

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """What Stable-Baselines3 may ask of every world: `render_mode` and spaces; the masks.

        Raises:
            NoAttribute: anything else.
        """
        if attr_name == ACTION_MASKS:
            each = [
                lambda world=world: self.action_masks()[world] for world in range(self.num_envs)
            ]
            self.action_masks()  # where there are none, say so now
            return [each[world] for world in self._get_indices(indices)]
        known = {
            "render_mode": None,
            "spec": self.vector_env.spec,
            "observation_space": self.vector_env.single_observation_space,
            "action_space": self.vector_env.single_action_space,
        }
        if attr_name not in known:
            raise MissingAttributeError(
                f"a world has no {attr_name!r} of its own"
                f"{did_you_mean(attr_name, [*known, ACTION_MASKS])}",
                code="unknown_name",
                path=attr_name,
            )
        return [known[attr_name] for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Nothing can be set: give it when the environment is made."""
        raise UserError(
            f"worlds are one program: {attr_name!r} cannot be set in some of them",
            code="unsupported",
            path=attr_name,
        )

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        """Masks of the worlds asked for; there are no other methods.

        Raises:
            NoAttribute: anything else.
        """
        if method_name != ACTION_MASKS:
            raise MissingAttributeError(
                f"a world has no method {method_name!r}, only {ACTION_MASKS!r}",
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
        """No world is wrapped: there is nothing to wrap."""
        return [False for _ in self._get_indices(indices)]


def _to_numpy(tensor: Tensor) -> np.ndarray:
    """Of one's own, on the host: clients keep what they get, and the worlds play on."""
    return tensor.cpu().numpy().copy()

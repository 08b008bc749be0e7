"""Gymnasium vector environment: one agent in many worlds at once, tensors or numpy arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from jaxtyping import Bool
from torch import Tensor

from mores.clients.array_conversion import (
    action_to_tensor,
    check_array,
    check_no_options,
    to_numpy,
)
from mores.clients.registration import check_rounds_of_spec, with_step_limit
from mores.clients.single_agent import SingleAgentClient, SingleAgentTurn
from mores.core.arguments import check_integer
from mores.core.environment import Environment
from mores.core.errors import UserError, did_you_mean
from mores.core.people import Population
from mores.core.policy import Policy
from mores.registry.specs import Spec
from mores.sim import autoreset as simulator_autoreset

MODES: Mapping[AutoresetMode, simulator_autoreset.AutoresetMode] = {
    AutoresetMode.SAME_STEP: "same_step",
    AutoresetMode.NEXT_STEP: "next_step",
    AutoresetMode.DISABLED: "disabled",
}


class GymnasiumVectorEnv(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """One external agent in each of `num_envs` worlds; policies act for all others.

    Steps, rewards and `info` are as in `GymnasiumEnv`. All arrays lead with the world dimension,
    and `info` has Gymnasium's validity masks (`_action_mask`, ...). `action_mask` is bool,
    `[world, option]`; masks of a multi-discrete action are concatenated.

    The modes of `autoreset_mode` are Gymnasium's. SAME_STEP: a finished world resets in the same
    step; `info["final_obs"]` holds its last observation and `info["final_info"]` its last metrics,
    both valid where `info["_final_obs"]` is True. NEXT_STEP: it resets in the next step, which
    ignores its action, returns its first observation and reward 0; the agent must act once a
    round. DISABLED: it must be reset before the next step, by
    `reset(options={"reset_mask": mask})`, which can also reset worlds that are not finished, before
    the agent's first turn of a round.

    `array="numpy"` returns numpy arrays, which most wrappers of `gymnasium.wrappers.vector` need.
    Actions may be arrays or tensors in any case.

    Args:
        environment: name of an environment (`mores list`), or an environment.
        num_envs: number of worlds.
        agent: as in `person_3`; default: the first agent of the role with the fewest agents.
        rounds: maximum length of an episode (truncation).
        policies: policies of the other agents by role: `{"person": {"kind": "random"}}`, or
            objects; default: the environment's.
        population: source of the people: `{"kind": "anes96"}`; default: the environment's.
        metrics: names of metrics to add to `info`. Metrics can reveal latent quantities.
        device: device of the simulation, and of the tensors.
        max_episode_steps: a shorter limit than `rounds`, in turns of the agent; a multiple of the
            turns per round. Gymnasium passes it.
        autoreset_mode: a `gymnasium.vector.AutoresetMode`, or its value, such as `"NextStep"`.
        observation, reward_vector: see `GymnasiumEnv`. A vector reward is `[world, component]`.
        array: `torch` returns tensors, `numpy` arrays.
        spec_rounds: set by `spec`: rounds of the specification from which the environment is made,
            the most that `rounds` can be.
        **parameters: of an environment given by name.

    Raises:
        UserError: an unknown name or parameter, or a wrong value.
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

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
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        observation: str = "vector",
        reward_vector: Sequence[str] = (),
        spec_rounds: int | None = None,
        array: str = "torch",
        **parameters: Any,
    ) -> None:
        self._as_numpy = check_array(array) == "numpy"
        num_envs = check_integer("num_envs", num_envs)
        mode = _gymnasium_mode(autoreset_mode)
        self.autoreset_mode = mode  # TorchRL reads this attribute, Gymnasium's wrappers metadata
        self.metadata = {**self.metadata, "autoreset_mode": mode}
        self._client = SingleAgentClient(
            environment,
            agent,
            rounds,
            policies,
            population,
            metrics,
            num_envs,
            MODES[mode],
            device,
            observation,
            reward_vector,
            parameters,
            type(self),
        )
        check_rounds_of_spec(rounds, spec_rounds)
        self._rounds = rounds
        self._spec: EnvSpec | None = None
        self.reward_space, self.reward_labels = (
            self._client.reward_space,
            self._client.reward_labels,
        )
        self.environment, self.simulator = self._client.environment, self._client.simulator
        self.agent_id = self._client.agent_id
        if max_episode_steps is not None:
            self.simulator.rounds = min(rounds, self._rounds_from_steps(max_episode_steps))
        self.num_envs, self.device = num_envs, self.simulator.device
        self.single_observation_space = self._client.observation_space
        self.single_action_space = self._client.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def _rounds_from_steps(self, steps: int) -> int:
        turns = self._client.turns_per_round
        if steps < 1 or steps % turns:
            raise UserError(
                f"max_episode_steps: a positive multiple of {turns}, the turns per round of "
                f"{self.agent_id.name}, not {steps}: or use rounds",
                code="out_of_range" if steps < 1 else "invalid_value",
                path="max_episode_steps",
            )
        return steps // turns

    @property
    def spec(self) -> EnvSpec | None:
        """Specification from which `make_vec` made the environment; `None`: it did not."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:  # type: ignore[override]
        self._spec = with_step_limit(spec, self._client.max_episode_steps, self._rounds)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode in every world, or in those of `options["reset_mask"]`.

        Args:
            seed: selects the random numbers of all worlds; not with `reset_mask`, whose worlds
                continue with the numbers of their next episode.
            options: in mode DISABLED `reset_mask`: bool, `[world]`, numpy or torch. `info` is valid
                in these worlds; the observations are those of all.
        """
        if isinstance(options, Mapping) and "reset_mask" in options:
            return self._reset_worlds(seed, options)
        check_no_options(options)
        super().reset(seed=seed)
        self.simulator.reset(int(self.np_random.integers(2**63 - 1)))
        projected = torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)
        info = self._info(projected, torch.ones_like(projected))
        return self._returned(self._client.observe()), self._returned(info)

    def _reset_worlds(
        self, seed: int | None, options: Mapping[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode in the worlds of `options["reset_mask"]`."""
        check_no_options({name: value for name, value in options.items() if name != "reset_mask"})
        mask = self._reset_mask(options["reset_mask"])
        if seed is not None:
            raise UserError(
                "seed: selects the random numbers of all worlds, which reset_mask resets in part",
                code="conflict",
                path="seed",
            )
        self.simulator.reset_worlds(mask)
        info = self._info(torch.zeros_like(mask), mask.clone())
        return self._returned(self._client.observe()), self._returned(info)

    def _reset_mask(self, mask: Any) -> Bool[Tensor, " world"]:
        """The mask on the device, if it is one."""
        if self.autoreset_mode is not AutoresetMode.DISABLED:
            raise UserError(
                f"reset_mask: only with autoreset_mode DISABLED, not {self.autoreset_mode.name}",
                code="unsupported",
                path="options.reset_mask",
            )
        if isinstance(mask, np.ndarray):
            if mask.dtype != bool:
                message = f"reset_mask: must be a bool array or tensor, not {mask.dtype}"
                raise UserError(message, code="wrong_type", path="options.reset_mask")
            mask = torch.from_numpy(mask)
        tensor = simulator_autoreset.check_reset_mask(mask, self.num_envs, "options.reset_mask")
        return tensor.to(self.device)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Act (`[world]` or `[world, size]`) and simulate until the agent's next turn."""
        if self.autoreset_mode is AutoresetMode.DISABLED and self.simulator.finished is not None:
            worlds = self.simulator.finished.nonzero()[:, 0].tolist()
            raise UserError(
                f"worlds {worlds[:3]}{' ...' if worlds[3:] else ''} are finished: reset them with "
                'options={"reset_mask": mask}',
                code="wrong_order",
                path="options.reset_mask",
            )
        turn = self._client.step(action_to_tensor(actions, self.agent_id.name).to(self.device))
        projected, final_info = turn.projected, dict[str, Any]()
        if self.autoreset_mode is AutoresetMode.SAME_STEP and turn.final_observation is not None:
            final_info = self._final_info(turn, turn.final_observation)
            projected = projected & ~final_info["_final_obs"]  # `info` is that of the new episode
        info = self._info(projected, torch.ones_like(projected)) | final_info
        observation = self._client.observe()
        parts = observation, turn.reward, turn.terminated, turn.truncated, info
        return tuple(map(self._returned, parts))  # type: ignore[return-value]

    def action_masks(self) -> Any:
        """Legal options now, bool `[world, option]`; multi-discrete masks are concatenated.

        Raises:
            UserError: the action is a box.
        """
        mask = self._client.action_mask()
        if mask is None:
            raise UserError(
                f"the actions of {self.agent_id.name} are numbers: there is no action mask",
                code="unsupported",
                path=self.agent_id.name,
            )
        return self._returned(mask)

    def _returned(self, value: Any) -> Any:
        """Tensors as the caller wants them."""
        return to_numpy(value) if self._as_numpy else value

    def _info(
        self, projected: Bool[Tensor, " world"], valid: Bool[Tensor, " world"]
    ) -> dict[str, Any]:
        own, mask = {"projected": projected}, self._client.action_mask()
        if mask is not None:
            own["action_mask"] = mask
        return _with_masks(own, self._client.metrics(self.simulator.state), valid)

    def _final_info(self, turn: SingleAgentTurn, final_observation: Any) -> dict[str, Any]:
        done = turn.terminated | turn.truncated
        own, metrics = {"projected": turn.projected}, self._client.metrics(turn.final_state)
        mask = self._client.final_action_mask(turn.final_state)
        if mask is not None:
            own["action_mask"] = mask
        return {
            "final_obs": _zero_unless(done, final_observation),
            "_final_obs": done,
            "final_info": _with_masks(own, metrics, done.clone()),
            "_final_info": done.clone(),
        }


def _zero_unless(valid: Bool[Tensor, " world"], observation: Any) -> Any:
    """The observation, 0 in the other worlds."""
    if isinstance(observation, dict):
        return {name: _zero_unless(valid, part) for name, part in observation.items()}
    return torch.where(valid[:, None], observation, 0)


def _gymnasium_mode(mode: AutoresetMode | str) -> AutoresetMode:
    """The mode of this name or value."""
    for known in AutoresetMode:
        if mode is known or (isinstance(mode, str) and mode == known.value):
            return known
    values = [known.value for known in AutoresetMode]
    near = did_you_mean(mode, values) if isinstance(mode, str) else ""
    raise UserError(
        f"autoreset_mode: must be an AutoresetMode or one of {values}, not {mode!r:.60}{near}",
        code="unknown_name" if isinstance(mode, str) else "wrong_type",
        path="autoreset_mode",
    )


def _with_masks(
    own: Mapping[str, Tensor], metrics: Mapping[str, Tensor], valid: Bool[Tensor, " world"]
) -> dict[str, Any]:
    """The tensors `own` and copies of metrics; `_<name>`: the worlds where it is valid.

    Every entry is another tensor, since clients may write into it: `own`, with at least one tensor,
    and `valid` are used without a copy and must not be used elsewhere.
    """
    info: dict[str, Any] = {**own, **{name: metric.clone() for name, metric in metrics.items()}}
    first, *others = info
    return info | {f"_{first}": valid, **{f"_{name}": valid.clone() for name in others}}

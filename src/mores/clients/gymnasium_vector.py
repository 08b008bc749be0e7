"""One seat in many worlds at once as a Gymnasium vector environment: torch tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from jaxtyping import Bool, Float
from torch import Tensor

from mores.clients.array_conversion import action_to_tensor, check_no_options
from mores.clients.resolve import SpecMapping
from mores.clients.single_agent import SingleAgentClient, SingleAgentTurn
from mores.core.arguments import check_integer
from mores.core.environment import Environment, Policy
from mores.core.errors import UserError
from mores.sim.simulator import Population


class GymnasiumVectorEnv(gymnasium.vector.VectorEnv[Tensor, Tensor, Tensor]):
    """One seat in `num_envs` worlds; everybody else is a player inside.

    Steps, rewards and `info` are as in `GymnasiumEnv`, with the world as first dimension of every tensor
    and masks (`_action_mask`, ...) as Gymnasium has them. `action_mask` is bool, `[world, option]`;
    masks of several choices stand one after the other. A world that ends begins anew in the same
    step: its last observation is in `info["final_obs"]`, its last measures in
    `info["final_info"]`, both only where `info["_final_obs"]` holds.

    For clients that want numpy: `ArrayConversion(env, env_xp=torch, target_xp=numpy)`.

    Args:
        environment: the name of an environment (`mores list`), or a game.
        num_envs: how many worlds.
        agent: as in `person_3`; by default the first seat of the role with the fewest seats.
        rounds: length of an episode.
        policies: by role, for all other seats: `{"person": {"kind": "respondent"}}`, or ready
            players; by default the game's baseline.
        population: where people come from: `{"kind": "anes96"}`; by default the game's own.
        metrics: names of measures to put in `info`. They may tell what the seat must not see.
        device: where tensors live.
        max_episode_steps: length of an episode in own turns, where it is shorter than `rounds`:
            whole rounds only. Gymnasium passes it.
        **parameters: of the environment, where it is given by name.

    Raises:
        UserError: an unknown name or parameter, or a wrong value.
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012
    autoreset_mode = AutoresetMode.SAME_STEP  # TorchRL looks for it here

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
        max_episode_steps: int | None = None,
        **parameters: Any,
    ) -> None:
        num_envs = check_integer("num_envs", num_envs)
        self._client = SingleAgentClient(
            environment,
            agent,
            rounds,
            policies,
            population,
            metrics,
            num_envs,
            True,
            device,
            parameters,
        )
        self.environment, self.simulator, self.agent_id = (
            self._client.environment,
            self._client.simulator,
            self._client.agent_id,
        )
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
                f"{self.agent_id.name} has {turns} turns a round, and {steps} steps are not whole "
                "rounds: give rounds instead of max_episode_steps",
                code="out_of_range" if steps < 1 else "invalid_value",
                path="max_episode_steps",
            )
        return steps // turns

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float[Tensor, "world size"], dict[str, Any]]:
        """Begin an episode in every world."""
        super().reset(seed=seed)
        check_no_options(options)
        self.simulator.reset(int(self.np_random.integers(2**63 - 1)))
        nobody = torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)
        return self._client.observe(), self._info(nobody)

    def step(
        self, actions: Any
    ) -> tuple[
        Float[Tensor, "world size"],
        Float[Tensor, " world"],
        Bool[Tensor, " world"],
        Bool[Tensor, " world"],
        dict[str, Any],
    ]:
        """Act in every world (`[world]` or `[world, size]`), and play on to the next own turn."""
        turn = self._client.step(action_to_tensor(actions, self.agent_id.name).to(self.device))
        info = self._info(turn.projected)
        if turn.final_observation is not None:
            info |= self._final_info(turn, turn.final_observation)
        return self._client.observe(), turn.reward, turn.terminated, turn.truncated, info

    def action_masks(self) -> Bool[Tensor, "world option"]:
        """Which options are open now; masks of several choices stand one after the other.

        Raises:
            UserError: actions are numbers.
        """
        mask = self._client.action_mask()
        if mask is None:
            raise UserError(
                f"{self.agent_id.name} gives numbers, not choices: it has no mask",
                code="unsupported",
                path=self.agent_id.name,
            )
        return mask

    def _info(self, projected: Bool[Tensor, " world"]) -> dict[str, Any]:
        told = {"repaired": projected, **self._client.metrics(self.simulator.state)}
        mask = self._client.action_mask()
        if mask is not None:
            told["action_mask"] = mask
        return _with_masks(told, torch.ones_like(projected))

    def _final_info(
        self, turn: SingleAgentTurn, final_observation: Float[Tensor, "world size"]
    ) -> dict[str, Any]:
        over = turn.terminated | turn.truncated
        told = {"repaired": turn.projected, **self._client.metrics(turn.final_state)}
        return {
            "final_obs": torch.where(over[:, None], final_observation, 0.0),
            "_final_obs": over,
            "final_info": _with_masks(told, over),
            "_final_info": over.clone(),
        }


def _with_masks(values: Mapping[str, Tensor], valid: Bool[Tensor, " world"]) -> dict[str, Any]:
    """Each tensor of its own, and beside it the worlds of which it is told."""
    info: dict[str, Any] = {}
    for name, tensor in values.items():
        info[name] = tensor.clone()
        info[f"_{name}"] = valid.clone()
    return info

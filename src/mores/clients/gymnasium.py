"""One seat of one world as a Gymnasium environment: numpy, one step for each own turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Bool, Float

from mores.clients import text_rendering
from mores.clients.array_conversion import (
    action_to_tensor,
    check_no_options,
    check_render_mode,
    metric_to_numpy,
    sampling_mask,
)
from mores.clients.resolve import SpecMapping
from mores.clients.single_agent import SingleAgentClient
from mores.core.environment import Environment, Policy
from mores.core.errors import UserError
from mores.sim.simulator import Population

Observation = Float[np.ndarray, " size"]


class GymnasiumEnv(gymnasium.Env[Observation, Any]):
    """One seat of a game; everybody else is a player inside.

    A step is one own turn, and its reward is all that the seat earned since its last one. `info`
    holds `action_mask` where actions are choices (int8, as `action_space.sample` takes it: where
    several are made at once, a tuple with a mask for each), `projected`: whether the last action was
    out of range or illegal and had to be changed, and the measures that were asked for. An episode
    ends where the game says so (`terminated`) or after `rounds` rounds (`truncated`).

    Args:
        environment: the name of an environment (`mores list`), or a game.
        agent: as in `person_3`; by default the first seat of the role with the fewest seats.
        rounds: length of an episode.
        policies: by role, for all other seats: `{"person": {"kind": "respondent"}}`, or ready
            players; by default the game's baseline.
        population: where people come from: `{"kind": "anes96"}`; by default the game's own.
        metrics: names of measures to put in `info`. They may tell what the seat must not see.
        render_mode: `ansi` gives text, `human` prints it; None shows nothing.
        **parameters: of the environment, where it is given by name.

    Raises:
        UserError: an unknown name or parameter, or a wrong value.
    """

    metadata = {"render_modes": list(text_rendering.RENDER_MODES), "render_fps": 4}  # noqa: RUF012

    def __init__(
        self,
        environment: str | Environment[Any],
        agent: str | None = None,
        rounds: int = 100,
        policies: Mapping[str, Policy | SpecMapping] | None = None,
        population: Population | SpecMapping | None = None,
        metrics: Sequence[str] = (),
        render_mode: str | None = None,
        **parameters: Any,
    ) -> None:
        check_render_mode(render_mode)
        self._client = SingleAgentClient(
            environment, agent, rounds, policies, population, metrics, 1, False, "cpu", parameters
        )
        self.environment, self.simulator, self.agent_id = (
            self._client.environment,
            self._client.simulator,
            self._client.agent_id,
        )
        self.observation_space = self._client.observation_space
        self.action_space = self._client.action_space
        self.render_mode = render_mode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode. Without a seed, the next one of the generator that was seeded last."""
        super().reset(seed=seed)
        check_no_options(options)
        self.simulator.reset(int(self.np_random.integers(2**63 - 1)))
        self._render_human()
        return self._client.observe()[0].numpy(), self._info(False)

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Act, and play on to the next own turn or the end."""
        turn = self._client.step(action_to_tensor(action, self.agent_id.name)[None])
        seen = self._client.observe() if turn.final_observation is None else turn.final_observation
        self._render_human()
        return (
            seen[0].numpy(),
            float(turn.reward[0]),
            bool(turn.terminated[0]),
            bool(turn.truncated[0]),
            self._info(bool(turn.projected[0])),
        )

    def action_masks(self) -> Bool[np.ndarray, " option"]:
        """Which options are open now: sb3-contrib's masked learners ask for it by this name.

        Masks of several choices stand one after the other.
        """
        mask = self._client.action_mask()
        if mask is None:
            raise UserError(
                f"{self.agent_id.name} gives numbers, not choices: it has no mask",
                code="unsupported",
                path=self.agent_id.name,
            )
        return mask[0].numpy()

    def render(self) -> str | None:  # type: ignore[override]
        """What the seat sees, as text; in mode `human` it is printed at every step anyway."""
        if self.render_mode != "ansi":
            return None
        return self._render_text()

    def _render_text(self) -> str:
        return text_rendering.render_text(
            self.simulator, [self.agent_id], self._client.metrics(self.simulator.state)
        )

    def _render_human(self) -> None:
        if self.render_mode == "human":
            print(self._render_text())

    def _info(self, projected: bool) -> dict[str, Any]:
        info: dict[str, Any] = {"repaired": projected}
        mask = self._client.action_mask()
        if mask is not None and self._client.num_options is not None:
            info["action_mask"] = sampling_mask(mask[0], self._client.num_options)
        told = self._client.metrics(self.simulator.state)
        return info | {name: metric_to_numpy(measure[0]) for name, measure in told.items()}

"""Gymnasium environment: one agent of one world, numpy, one step per turn of the agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from jaxtyping import Bool, Float

from mores.clients import text_rendering
from mores.clients.array_conversion import (
    action_to_tensor,
    check_no_options,
    check_render_mode,
    metric_to_numpy,
    sampling_mask,
)
from mores.clients.picture import Picture
from mores.clients.registration import check_rounds_of_spec, with_step_limit
from mores.clients.single_agent import SingleAgentClient
from mores.core.environment import Environment
from mores.core.errors import UserError
from mores.core.people import Population
from mores.core.policy import Policy
from mores.registry.specs import Spec

Observation = Float[np.ndarray, " size"] | dict[str, np.ndarray]


class GymnasiumEnv(gymnasium.Env[Observation, Any]):
    """One external agent of an environment; policies act for all others.

    A step is one turn of the agent. Its reward is the sum since the agent's last turn. `info` holds
    `action_mask` for discrete actions (int8, as `action_space.sample` takes it; for multi-discrete
    actions a tuple with one mask per component), `projected` (the last action was out of range or
    illegal and was projected to a legal one) and the requested metrics. An episode ends when the
    environment terminates it (`terminated`) or after `rounds` rounds (`truncated`): the limit in
    turns is `spec.max_episode_steps`. A smaller `max_episode_steps` of `gymnasium.make` truncates
    earlier; a larger one has no effect. An environment made from `env.spec` has this
    limit too, so that more `rounds` are refused.

    Args:
        environment: name of an environment (`mores list`), or an environment.
        agent: as in `person_3`; default: the first agent of the role with the fewest agents.
        rounds: maximum length of an episode (truncation).
        policies: policies of the other agents by role: `{"person": {"kind": "random"}}`, or
            objects; default: the environment's.
        population: source of the people: `{"kind": "anes96"}`; default: the environment's.
        metrics: names of metrics to add to `info`. Metrics can reveal latent quantities.
        render_mode: `ansi` returns text, `human` prints it, `rgb_array` returns a picture of the
            episode so far; None: no rendering.
        observation: `vector`: an array; `dict`: a mapping of `observation` and, for discrete
            actions, `action_mask` (int8; masks of a multi-discrete action are concatenated).
        reward_vector: components of a vector reward, for multi-objective learners: agents
            (`person_3`), roles (`person`: a component for each of its agents) and numeric feedback
            to the agent (`feedback.reward`); empty: the agent's reward, a float.
        spec_rounds: set by `spec`: rounds of the specification from which the environment is made,
            the most that `rounds` can be.
        **parameters: of an environment given by name.

    Attributes:
        reward_space: space of vector rewards; `None`: rewards are floats.
        reward_labels: name of each component of a vector reward.

    Raises:
        UserError: an unknown name or parameter, or a wrong value.
    """

    metadata = {"render_modes": list(text_rendering.RENDER_MODES), "render_fps": 4}  # noqa: RUF012

    def __init__(
        self,
        environment: str | Environment[Any],
        agent: str | None = None,
        rounds: int = 100,
        policies: Mapping[str, Policy | Spec] | None = None,
        population: Population | Spec | None = None,
        metrics: Sequence[str] = (),
        render_mode: str | None = None,
        observation: str = "vector",
        reward_vector: Sequence[str] = (),
        spec_rounds: int | None = None,
        **parameters: Any,
    ) -> None:
        check_render_mode(render_mode)
        # A copy: vector environments of Gymnasium below 1.3 write their autoreset mode into it.
        self.metadata = dict(type(self).metadata)
        self._client = SingleAgentClient(
            environment,
            agent,
            rounds,
            policies,
            population,
            metrics,
            1,
            "disabled",
            "cpu",
            observation,
            reward_vector,
            parameters,
            type(self),
            render_mode == "rgb_array",
        )
        self.environment, self.simulator = self._client.environment, self._client.simulator
        self.agent_id = self._client.agent_id
        self.reward_space, self.reward_labels = (
            self._client.reward_space,
            self._client.reward_labels,
        )
        self.observation_space = self._client.observation_space
        self.action_space = self._client.action_space
        self.render_mode = render_mode
        self._picture: Picture | None = None
        check_rounds_of_spec(rounds, spec_rounds)
        self._rounds = rounds
        self._spec: EnvSpec | None = None

    @property
    def spec(self) -> EnvSpec | None:
        """Specification from which `gymnasium.make` made the environment; `None`: it did not."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:  # type: ignore[override]
        self._spec = with_step_limit(spec, self._client.max_episode_steps, self._rounds)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode. Without a seed, the seed comes from the last seeded generator."""
        check_no_options(options)
        super().reset(seed=seed)
        if self._client.trace is not None:
            self._client.trace.start()
            self._picture = None
        self.simulator.reset(int(self.np_random.integers(2**63 - 1)))
        self._show()
        return _of_world(self._client.observe()), self._info(False)

    def step(self, action: Any) -> tuple[Observation, Any, bool, bool, dict[str, Any]]:
        """Act and simulate until the agent's next turn or the end of the episode."""
        turn = self._client.step(action_to_tensor(action, self.agent_id.name)[None])
        final = turn.final_observation
        observation = self._client.observe() if final is None else final
        self._show()
        return (
            _of_world(observation),
            float(turn.reward[0]) if self.reward_space is None else turn.reward[0].numpy(),
            bool(turn.terminated[0]),
            bool(turn.truncated[0]),
            self._info(bool(turn.projected[0])),
        )

    def action_masks(self) -> Bool[np.ndarray, " option"]:
        """Legal options now. sb3-contrib's masked learners call this method by name.

        Masks of a multi-discrete action are concatenated.
        """
        mask = self._client.action_mask()
        if mask is None:
            raise UserError(
                f"the actions of {self.agent_id.name} are numbers: there is no action mask",
                code="unsupported",
                path=self.agent_id.name,
            )
        return mask[0].numpy()

    def render(self) -> str | np.ndarray | None:  # type: ignore[override]
        """The agent's observation as text in mode `ansi`, a picture in mode `rgb_array`.

        Mode `human` prints the text at every step. Pictures, uint8 `[608, 800, 3]`, are for people:
        they show latent quantities.
        """
        self.simulator.check_reset("render")
        if self.render_mode == "rgb_array" and self._client.trace is not None:
            if self._picture is None:
                self._picture = Picture(self.simulator, self._client.trace, [self.agent_id])
            return self._picture.draw()
        return self._render_text() if self.render_mode == "ansi" else None

    def _show(self) -> None:
        """Print the text in mode `human`; record the state for pictures."""
        if self.render_mode == "human":
            print(self._render_text())
        if self._client.trace is not None:
            self._client.trace.observe_state(self.simulator)

    def _render_text(self) -> str:
        return text_rendering.render_text(
            self.simulator, [self.agent_id], self._client.metrics(self.simulator.state)
        )

    def _info(self, projected: bool) -> dict[str, Any]:
        info: dict[str, Any] = {"projected": projected}
        mask = self._client.action_mask()
        if mask is not None and self._client.num_options is not None:
            info["action_mask"] = sampling_mask(mask[0], self._client.num_options)
        if self._client.metric_names:
            metrics = self._client.metrics(self.simulator.state)
            info |= {name: metric_to_numpy(metric[0]) for name, metric in metrics.items()}
        return info


def _of_world(observation: Any) -> Observation:
    """Observation of the one world as arrays."""
    if isinstance(observation, dict):
        return {name: part[0].numpy() for name, part in observation.items()}
    return observation[0].numpy()

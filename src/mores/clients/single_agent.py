"""One external agent of a simulator: shared by `GymnasiumEnv` and `GymnasiumVectorEnv`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.clients import gymnasium_spaces, resolve
from mores.clients.episode_trace import EpisodeTrace
from mores.clients.observation_format import check_format, format_observation, format_space
from mores.clients.reward_vector import RewardVector
from mores.core.arguments import check_names
from mores.core.environment import Environment, get_role
from mores.core.errors import UserError
from mores.core.people import Population
from mores.core.policy import Policy
from mores.sim.autoreset import AutoresetMode
from mores.sim.simulator import Simulator


class SingleAgentTurn(NamedTuple):
    """Result since the agent's last turn: see `mores.sim.simulator.ExternalTurn`."""

    reward: Float[Tensor, "world *component"]
    terminated: Bool[Tensor, " world"]
    truncated: Bool[Tensor, " world"]
    projected: Bool[Tensor, " world"]
    final_observation: Any  # in the format of the client; None if no episode ended
    final_state: Any


class SingleAgentClient:
    """One external agent in one or many worlds.

    Args:
        environment: name of an environment, or an environment.
        agent: as in `person_3`; default: the first agent of the role with the fewest agents.
        rounds: maximum length of an episode (truncation).
        policies: policies of the other agents, by role; default: the environment's.
        population: source of the people; default: the environment's.
        metrics: names of the metrics that `metrics` returns.
        worlds: number of parallel worlds.
        autoreset_mode: see `Simulator`.
        device: device of the tensors.
        observation: format of observations: `mores.clients.observation_format`.
        reward_vector: components of the reward: `mores.clients.reward_vector`; none: a number.
        parameters: of an environment given by name.
        client: class of the client, for messages.
        traced: record the episode of the first world, for pictures.

    Attributes:
        trace: the record.
        reward_labels: name of each component of a reward vector.
        reward_space: space of reward vectors; `None`: rewards are numbers.
    """

    def __init__(
        self,
        environment: str | Environment[Any],
        agent: str | None,
        rounds: int,
        policies: Mapping[str, Policy | resolve.Spec] | None,
        population: Population | resolve.Spec | None,
        metrics: Sequence[str],
        worlds: int,
        autoreset_mode: AutoresetMode,
        device: torch.device | str,
        observation: str,
        reward_vector: Sequence[str],
        parameters: Mapping[str, Any],
        client: type[Any],
        traced: bool = False,
    ) -> None:
        self._observation_format = check_format(observation)
        people = resolve.resolve_population(population)
        self.environment = resolve.resolve_environment(environment, parameters, people, client)
        self.agent_id = resolve.resolve_agent(self.environment, agent)
        self.metric_names = tuple(check_names("metrics", metrics))
        external = {self.agent_id.role: [self.agent_id.agent_index]}
        self.trace = EpisodeTrace(self.environment) if traced else None
        self.simulator = Simulator(
            self.environment,
            resolve.resolve_policies(self.environment, policies, external),
            external,
            worlds,
            rounds,
            autoreset_mode,
            population=people,
            device=device,
            recorder=self.trace,
        )
        role = get_role(self.environment, self.agent_id.role)
        self.action_space = gymnasium_spaces.action_space(self.environment, role.name)
        self.num_options = gymnasium_spaces.num_options(self.action_space)
        self.observation_space = format_space(
            gymnasium_spaces.observation_space(role), self.num_options, observation
        )
        self._reward_vector = None
        self.reward_labels: tuple[str, ...] = ()
        self.reward_space: gymnasium.spaces.Box | None = None
        if check_names("reward_vector", reward_vector):
            self._reward_vector = RewardVector(reward_vector, self.simulator, self.agent_id)
            self.reward_labels = tuple(self._reward_vector.labels)
            shape = (len(self.reward_labels),)
            self.reward_space = gymnasium.spaces.Box(-np.inf, np.inf, shape, np.float32)

    @property
    def turns_per_round(self) -> int:
        """Number of phases of a round in which the agent acts."""
        return sum(self.agent_id.role in phase.action_spaces for phase in self.environment.phases)

    @property
    def max_episode_steps(self) -> int:
        """Limit of an episode in turns of the agent."""
        return self.simulator.rounds * self.turns_per_round

    def observe(self) -> Any:
        """Current observation: a copy, which clients may store and modify.

        Returns:
            `[world, size]`, or the mapping of `mores.clients.observation_format`.
        """
        vector = self.simulator.observe(self.agent_id.role)[:, self.agent_id.agent_index].clone()
        return self._formatted(vector, self.action_mask())

    def action_mask(self) -> Bool[Tensor, "world option"] | None:
        """Legal options now; masks of a multi-discrete action are concatenated.

        `None`: the action is a box.
        """
        if self.num_options is None:
            return None
        mask = self.simulator.action_mask(self.agent_id.role, self.num_options)
        return mask[:, self.agent_id.agent_index].clone()

    def final_action_mask(self, state: Any) -> Bool[Tensor, "world option"] | None:
        """Like `action_mask`, of the turn that would follow the last state of an episode."""
        if self.num_options is None:
            return None
        mask = self.simulator.next_action_mask(self.agent_id.role, state, self.num_options)
        return mask[:, self.agent_id.agent_index].clone()

    def metrics(self, state: Any) -> dict[str, Tensor]:
        """The requested metrics of a state."""
        return resolve.selected_metrics(self.simulator, state, self.metric_names)

    def step(self, actions: Tensor) -> SingleAgentTurn:
        """Act and simulate until the agent's next turn. `actions`: `[world]` or `[world, size]`."""
        if actions.dim() == 0:
            raise UserError(
                f"actions: one for each of {len(self.simulator.worlds)} worlds, not one number",
                code="wrong_shape",
                path="actions",
            )
        role, index = self.agent_id
        turn = self.simulator.step({role: actions[:, None]})
        final = turn.final_observation
        vector = self._reward_vector
        return SingleAgentTurn(
            turn.reward[role][:, index] if vector is None else vector.read(turn.reward),
            turn.terminated.clone(),
            turn.truncated.clone(),
            turn.projected[role][:, 0],
            None if final is None else self._final_observation(final[role], turn.final_state),
            turn.final_state,
        )

    def _final_observation(self, observation: Float[Tensor, "world agent size"], state: Any) -> Any:
        """Last observation of an episode, with the mask of the turn that would follow."""
        mask = self.final_action_mask(state) if self._observation_format == "dict" else None
        return self._formatted(observation[:, self.agent_id.agent_index].clone(), mask)

    def _formatted(self, vector: Tensor, mask: Tensor | None) -> Any:
        return format_observation(vector, mask, self._observation_format)

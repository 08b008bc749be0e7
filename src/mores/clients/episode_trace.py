"""What a picture of an episode shows: values, rewards and actions in one world, round by round."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mores.core.environment import Environment, Phase, Role
from mores.core.errors import printable
from mores.core.spaces import Box, Discrete
from mores.core.turn_text import decode_message, is_message_space
from mores.sim.recorder import Recorder
from mores.sim.simulator import Simulator

MAX_PEOPLE, MAX_DIMENSIONS = 60, 4  # whose values are kept
MAX_AGENTS = 6  # of each role, whose actions are kept


class ActionRecord(NamedTuple):
    """Actions of the first agents of a role in one phase of a world."""

    phase: Phase
    observation: Tensor  # agent size
    action: Tensor  # agent, or agent size
    action_mask: Tensor | None  # agent option


class EpisodeTrace(Recorder):
    """Recorder of the first world's current episode.

    Attributes:
        num_people: number of people; 0: the environment has none.
        values: values of the first people after each round, `[person, value]`.
        mean_values: mean over all people after each round, `[value]`.
        rewards: by role, the mean over its agents in each round; the last round may be incomplete.
        actions: last actions, by role.
        last_rewards: of each agent in the current round, or else the last one, by role.
    """

    def __init__(self, environment: Environment[Any]) -> None:
        self._environment = environment
        self.num_people = 0
        self.start()

    def start(self) -> None:
        """Forget the last episode."""
        self.values: list[np.ndarray] = []
        self.mean_values: list[np.ndarray] = []
        self.rewards: dict[str, list[float]] = {}
        self.actions: dict[str, ActionRecord] = {}
        self.last_rewards: dict[str, Tensor] = {}
        self._round_rewards: dict[str, Tensor] = {}

    def observe_state(self, simulator: Simulator) -> None:
        """Keep the people's values, once in a round."""
        people = self._environment.people(simulator.state)
        if people is not None and len(self.values) <= int(simulator.round[0]):
            values = people.values[0, :, :MAX_DIMENSIONS].cpu().numpy()
            self.num_people = len(values)
            self.values.append(values[:MAX_PEOPLE].copy())
            self.mean_values.append(values.mean(0))

    def record_action(
        self,
        role: str,
        phase: Phase,
        observation: Tensor,
        action: Tensor,
        action_mask: Tensor | None = None,
    ) -> None:
        """Keep the last actions of the first agents.

        Args:
            role: name of the role.
            phase: the phase.
            observation: `[world, agent, size]`.
            action: `[world, agent]` or `[world, agent, size]`.
            action_mask: legal options, `[world, agent, option]`; None: all.
        """
        mask = None if action_mask is None else action_mask[0, :MAX_AGENTS]
        parts = observation[0, :MAX_AGENTS], action[0, :MAX_AGENTS]
        self.actions[role] = ActionRecord(phase, *parts, mask)

    def record_reward(self, role: str, reward: Tensor) -> None:
        """Add the rewards of a phase, `[world, agent]`, to those of the round."""
        before = self._round_rewards.get(role)
        self._round_rewards[role] = reward[0] if before is None else before + reward[0]
        self.last_rewards[role] = self._round_rewards[role]

    def record_round(self, done: Tensor, finished: Tensor) -> None:
        """Keep the mean rewards of the completed round."""
        for role, reward in self._round_rewards.items():
            self.rewards.setdefault(role, []).append(float(reward.mean()))
        self._round_rewards = {}

    def action_text(self, role: Role, agent_index: int) -> str:
        """The last action of an agent in words; empty if it has not acted, or is not kept."""
        record = self.actions.get(role.name)
        if record is None or agent_index >= len(record.action):
            return ""
        space, action = record.phase.action_spaces[role.name], record.action[agent_index]
        if isinstance(space, Discrete):
            return self._option_text(role, record, agent_index, int(action))
        if is_message_space(space):
            return repr(printable(decode_message(action), 60))
        if isinstance(space, Box):
            parts = (f"{name} {_numbers(space.read(action, name))}" for name in [*space.parts][:3])
            return ", ".join(parts)
        return _numbers(action)

    def _option_text(self, role: Role, record: ActionRecord, agent_index: int, option: int) -> str:
        """Text of the selected option, if the environment has texts."""
        if type(self._environment).describe is not Environment.describe:
            mask = None if record.action_mask is None else record.action_mask[agent_index]
            observation = record.observation[agent_index]
            turn = self._environment.describe(role.name, record.phase.name, observation, mask)
            if option < len(turn.options):
                return printable(turn.options[option], 60)
        return f"{record.phase.name}: option {option}"


def _numbers(values: Tensor) -> str:
    text = " ".join(f"{value:.3g}" for value in values[:4].to(torch.float32).tolist())
    return f"{text} ..." if len(values) > 4 else text

"""One seat at the table, its own turns only: what `GymnasiumEnv` and `GymnasiumVectorEnv` share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.clients import gymnasium_spaces, resolve
from mores.core.arguments import check_names
from mores.core.environment import Environment, Policy, get_role
from mores.core.errors import UserError
from mores.sim.simulator import Population, Simulator


class SingleAgentTurn(NamedTuple):
    """What happened since the seat's last turn: see `mores.sim.simulator.ExternalTurn`."""

    reward: Float[Tensor, " world"]
    terminated: Bool[Tensor, " world"]
    truncated: Bool[Tensor, " world"]
    projected: Bool[Tensor, " world"]
    final_observation: Float[Tensor, "world size"] | None
    final_state: Any


class SingleAgentClient:
    """A seat that is played from outside, in one or many worlds.

    Args:
        environment: the name of an environment, or a game.
        agent: as in `person_3`; by default the first seat of the role with the fewest.
        rounds: after so many an episode is cut off.
        policies: by role, for all other seats; by default the game's baseline.
        population: where people come from; by default the game's own.
        metrics: names of measures to be told.
        worlds: how many are played at once.
        autoreset: see `Simulator`.
        device: where tensors live.
        parameters: of the environment, where it is given by name.
    """

    def __init__(
        self,
        environment: str | Environment[Any],
        agent: str | None,
        rounds: int,
        policies: Mapping[str, Policy | resolve.SpecMapping] | None,
        population: Population | resolve.SpecMapping | None,
        metrics: Sequence[str],
        worlds: int,
        autoreset: bool,
        device: torch.device | str,
        parameters: Mapping[str, Any],
    ) -> None:
        self.environment = resolve.resolve_environment(environment, parameters)
        self.agent_id = resolve.resolve_agent(self.environment, agent)
        self.metric_names = tuple(check_names("measures", metrics))
        self.simulator = Simulator(
            self.environment,
            resolve.resolve_policies(self.environment, policies),
            {self.agent_id.role: [self.agent_id.agent_index]},
            worlds,
            rounds,
            autoreset,
            population=resolve.resolve_population(population),
            device=device,
        )
        role = get_role(self.environment, self.agent_id.role)
        self.observation_space = gymnasium_spaces.observation_space(role)
        self.action_space = gymnasium_spaces.action_space(self.environment, role.name)
        self.num_options = gymnasium_spaces.num_options(self.action_space)

    @property
    def turns_per_round(self) -> int:
        """How often the seat acts in a round."""
        return sum(self.agent_id.role in phase.action_spaces for phase in self.environment.phases)

    def observe(self) -> Float[Tensor, "world size"]:
        """What the seat sees now: a copy, which clients may keep and write into."""
        return self.simulator.observe(self.agent_id.role)[:, self.agent_id.agent_index].clone()

    def action_mask(self) -> Bool[Tensor, "world option"] | None:
        """Which options are open now, those of several choices one after the other.

        `None` where actions are numbers.
        """
        if self.num_options is None:
            return None
        return self.simulator.action_mask(self.agent_id.role, self.num_options)[
            :, self.agent_id.agent_index
        ].clone()

    def metrics(self, state: Any) -> dict[str, Tensor]:
        """The measures of a state that were asked for."""
        return resolve.selected_metrics(self.simulator, state, self.metric_names)

    def step(self, actions: Tensor) -> SingleAgentTurn:
        """Act, and play on to the seat's next turn. `actions`: `[world]` or `[world, size]`."""
        if actions.dim() == 0:
            raise UserError(
                f"one action for each of {len(self.simulator.worlds)} worlds is needed",
                code="wrong_shape",
                path="actions",
            )
        role, number = self.agent_id
        turn = self.simulator.step({role: actions[:, None]})
        return SingleAgentTurn(
            turn.reward[role][:, number],
            turn.terminated.clone(),
            turn.truncated.clone(),
            turn.projected[role][:, 0],
            None
            if turn.final_observation is None
            else turn.final_observation[role][:, number].clone(),
            turn.final_state,
        )

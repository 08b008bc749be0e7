"""Base class of contract games, and the policy that acts according to a game's solution.

A contract game is an environment without people, in the registry `contract_game`. The environment
`contracts` (`mores.envs.strategic.contracts`) plays any of them. A game with a closed form returns
it from `solution`; the policy `contract_solution` then acts on it in every role: as a control, as
an opponent of a learner, and where a policy is evaluated without sampling.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeVar

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from mores.core.environment import Environment, Phase, Role
from mores.core.errors import UserError
from mores.core.people import People
from mores.core.policy import ActionOutput, Policy
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Discrete
from mores.registry.component import component

State = TypeVar("State")


class ContractGame(Environment[State]):
    """Base class of games in which one party offers a contract and another responds.

    The games of the package share names: metrics `principal_payoff` and `agent_payoff`, the mean
    payoffs of a round; `exploitability` of policies, the gain of roles by best responses, 0 for the
    solution; and analytic values `solution_principal_payoff`, `solution_agent_payoff`.
    """

    def solution(
        self, role: str, phase: str, observation: Float[Tensor, "world agent query size"]
    ) -> Float[Tensor, "world agent query option"]:
        """Equilibrium action of a role: probabilities of options, or the action of a box.

        Args:
            role: the role.
            phase: a phase in which it acts.
            observation: one or several observations of each agent.

        Raises:
            UserError: the game has no closed form.
        """
        raise UserError(
            f"{type(self).__name__} has no solution in closed form",
            code="unsupported",
            path=f"policies.{role}",
        )

    def default_policies(self) -> Mapping[str, Any]:
        """The solution of the game, in every role."""
        return {role.name: ContractSolution(game=self) for role in self.roles}


def refuse_people(kind: str, people: People | None) -> None:
    """Check that there is no population.

    Raises:
        UserError: there is one.
    """
    if people is not None:
        raise UserError(
            f"{kind} accepts no population: its agents have no values",
            code="unsupported",
            path="population",
        )


def random_rewards(streams: RandomStreams, roles: tuple[Role, ...]) -> dict[str, Tensor]:
    """Standard normal rewards of all agents: no action has an effect on them."""
    noise = streams.normal("random reward", sum(role.num_agents for role in roles))[..., 0]
    counts = [role.num_agents for role in roles]
    return dict(zip((role.name for role in roles), noise.split(counts, 1), strict=True))


def best_options(
    value: Float[Tensor, "*lead option"], tolerance: float = 1e-5
) -> Float[Tensor, "*lead option"]:
    """One-hot: the last option whose value is the largest, up to rounding.

    Options stand in the order in which the principal prefers them: in equilibrium an indifferent
    agent takes the one that the principal prefers.
    """
    good = value >= value.amax(-1, keepdim=True) - tolerance
    index = torch.arange(value.shape[-1], device=value.device)
    last = torch.where(good, index, -1).amax(-1, keepdim=True)
    return (index == last).to(value.dtype)


@dataclasses.dataclass(frozen=True)
class _RoleName:
    """Name of the role that a policy acts for; no tensors."""

    name: str


class ContractSolution(Policy):
    """Acts on the closed form of a contract game; mixed strategies are drawn."""

    tags: ClassVar[Mapping[str, object]] = {"stochastic": True}

    game: Annotated[ContractGame[Any], component("contract_game")] = Field(
        default="linear",
        validate_default=True,
        description="the game, with the parameters of the environment",
    )

    def initial_state(
        self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams
    ) -> _RoleName:
        """Name of the role; checks that the game has such a role.

        Raises:
            UserError: the role has other observations than in the game.
        """
        spaces = {each.name: each.observation_space for each in self.game.roles}
        if spaces.get(role.name) != role.observation_space:
            raise UserError(
                f"contract_solution: the observations of {role.name} differ from those of the "
                "policy's game; set `game` to the parameters of the environment",
                code="conflict",
                path=f"policies.{role.name}.game",
            )
        return _RoleName(role.name)

    def act(
        self,
        phase: Phase,
        observation: Float[Tensor, "world agent size"],
        action_mask: Bool[Tensor, "world agent option"] | None,
        state: _RoleName,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        """The action of the solution; options are drawn with its probabilities."""
        expected = self.game.solution(state.name, phase.name, observation[:, :, None])[:, :, 0]
        space = phase.action_spaces[state.name]
        if isinstance(space, Box):
            return ActionOutput(space.clamp(expected), state)
        assert isinstance(space, Discrete)
        if action_mask is not None:
            expected = expected * action_mask
        return ActionOutput(streams.categorical("option", expected.log()), state)

    def expected_action(
        self,
        phase: Phase,
        observation: Float[Tensor, "world agent query size"],
        action_mask: Bool[Tensor, "world agent query option"] | None,
        state: _RoleName,
        search: bool = False,
    ) -> Float[Tensor, "world agent query option"]:
        """See `Policy`."""
        expected = self.game.solution(state.name, phase.name, observation)
        space = phase.action_spaces[state.name]
        return space.clamp(expected) if isinstance(space, Box) else expected

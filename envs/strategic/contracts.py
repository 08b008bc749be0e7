"""Contracts: an environment that plays a contract game of the registry `contract_game`.

A *contract game* defines offers, private information and payments. The games of the package are in
`mores.envs.strategic.contract_games`, one per file:

    linear              linear contracts for several tasks, one or several principals
    limited_liability   wages that cannot be negative, hidden effort
    screening           a menu for agents with private costs
    inspection          audits and violations
    cheap_talk          advice by an interested expert
    off_switch          a robot that may defer to a human
    limited_commitment  promises that can be broken: the environment `moral_hazard`

Demo: `python -m mores.envs.strategic.contracts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field
from torch import Tensor

from mores.core.environment import Environment, Phase, PolicyQuery, Role, StepResult
from mores.core.people import People
from mores.core.random_streams import RandomStreams
from mores.core.turn_text import TurnText
from mores.envs.strategic.contract_games.game import ContractGame
from mores.registry.component import component


class Contracts(Environment[Any]):
    """A contract game: principals offer, agents accept or refuse and act, wages follow.

    Description:
        The environment has no rules of its own: roles, observations, actions, rewards, metrics and
        closed forms are those of `game`. A game from a user's file or package works like those of
        the package: `mores.register("contract_game", "my_game", MyGame)`. Left out: people with
        values; games whose roles change during an episode.

    Roles:
        Those of the game; in most of them principal and agent.

    Observation:
        See the game: `mores describe linear`, `mores describe screening` ...

    Action:
        See the game.

    Reward:
        See the game. Every game of the package has `reward_source: random`, which replaces all
        rewards by standard normal numbers: the signal of the contract is removed.

    Dynamics:
        See the game.

    Start:
        See the game.

    End:
        See the game; those of the package except limited_commitment do not terminate.

    Parameters:
        game: the game and its parameters.

    References:
        See the game.
    """

    tags: ClassVar[Mapping[str, object]] = {"changes": "contracts", "stochastic": True}

    game: Annotated[ContractGame[Any], component("contract_game")] = Field(
        default="linear", validate_default=True, description="contract game and its parameters"
    )

    @property
    def dimension_names(self) -> Mapping[str, tuple[str, ...]]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Those of the game."""
        return self.game.dimension_names

    @property
    def solver_values(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Those of the game."""
        return self.game.solver_values

    @property
    def roles(self) -> tuple[Role, ...]:
        """Roles of the game."""
        return self.game.roles

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Phases of the game."""
        return self.game.phases

    @property
    def metric_bounds(self) -> Mapping[str, tuple[float, float]]:
        """Bounds of the game's metrics."""
        return self.game.metric_bounds

    @property
    def elements_per_world(self) -> int:
        """Size of the game's state."""
        return self.game.elements_per_world

    @property
    def min_rounds(self) -> int:
        """Rounds below which there is nothing to learn in the game."""
        return self.game.min_rounds

    def reset(self, streams: RandomStreams, people: People | None = None) -> Any:
        """Initial state of the game."""
        return self.game.reset(streams, people)

    def observe(self, state: Any, role: str, phase: str) -> Tensor:
        """Observation in the game."""
        return self.game.observe(state, role, phase)

    def action_mask(self, state: Any, role: str, phase: str) -> Tensor | None:
        """Legal options in the game."""
        return self.game.action_mask(state, role, phase)

    def step(
        self, state: Any, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[Any]:
        """A phase of the game."""
        return self.game.step(state, phase, actions, streams)

    def metrics(self, state: Any) -> Mapping[str, Tensor]:
        """Metrics of the game."""
        return self.game.metrics(state)

    def latent(self, state: Any) -> Mapping[str, Tensor]:
        """Latent quantities of the game."""
        return self.game.latent(state)

    @property
    def policy_metric_names(self) -> tuple[str, ...]:
        """Metrics of policies in the game."""
        return self.game.policy_metric_names

    def policy_queries(self, state: Any) -> Mapping[str, PolicyQuery]:
        """Observations on which the game evaluates policies."""
        return self.game.policy_queries(state)

    def policy_metrics(self, state: Any, answers: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Metrics of policies in the game."""
        return self.game.policy_metrics(state, answers)

    def render(self, state: Any, world: int = 0) -> str:
        """A state of the game in words."""
        return self.game.render(state, world)

    def role_rules(self, role: str) -> str:
        """Rules of the game in words."""
        return self.game.role_rules(role)

    def describe(
        self, role: str, phase: str, observation: Tensor, action_mask: Tensor | None = None
    ) -> TurnText:
        """A turn of the game in words."""
        return self.game.describe(role, phase, observation, action_mask)

    def parse_reply(
        self, role: str, phase: str, reply: str, action_mask: Tensor | None = None
    ) -> Tensor | None:
        """The action that a reply states in the game."""
        return self.game.parse_reply(role, phase, reply, action_mask)

    def analytic_values(self, policies: Mapping[str, Any], rounds: int) -> Mapping[str, Any]:
        """Closed forms of the game."""
        return self.game.analytic_values(policies, rounds)

    def default_policies(self) -> Mapping[str, Any]:
        """Default policies of the game; mostly its solution."""
        return self.game.default_policies()


if __name__ == "__main__":
    from mores.sim.demo import show

    show(Contracts())

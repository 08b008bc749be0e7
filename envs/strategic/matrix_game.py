"""Repeated matrix games: social dilemmas of two agents, and public goods games of many.

Each round all agents choose simultaneously and receive the payoff of the joint action. Repetition
makes reciprocity possible: agents observe past actions and may condition on them (Axelrod 1984, The
Evolution of Cooperation). Another round follows with probability `continuation_probability`, so
that the last round is unknown.

Learners discount later payoffs by their own factor; the product of both matters: two grim triggers
are an equilibrium of the prisoner's dilemma if

    discount * continuation_probability >= (T - R) / (T - P)

(temptation, reward, punishment). In a public goods game all agents receive the share r / n of the
contributions: a contribution of 1 costs `1 - r / n` and adds `r` to the payoffs of the group.

Demo: `python -m mores.envs.strategic.matrix_game`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, field_validator
from torch import Tensor

from mores.core.deterministic_sum import mean, total
from mores.core.environment import Environment, Phase, Role, StepResult
from mores.core.errors import ParameterError, UserError, did_you_mean
from mores.core.people import People
from mores.core.plain_text import read_parts
from mores.core.policy import ActionOutput, Policy
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Discrete, Part
from mores.core.stream_addresses import CONTINUATION, EXPLORATION, RANDOM_OPTION
from mores.core.turn_text import TurnText
from mores.envs.strategic import matrix_game_analytic as formulas
from mores.envs.strategic import matrix_game_text as texts
from mores.envs.strategic.bimatrix_games import (
    NAMED_GAMES,
    Bimatrix,
    PayoffMatrix,
    to_bimatrix,
    validate_payoffs,
)
from mores.envs.strategic.matrix_game_analytic import RepetitionProbabilities
from mores.envs.strategic.public_goods import PublicGoods

PUBLIC_GOODS = "public_goods"
GAME_NAMES = (*NAMED_GAMES, PUBLIC_GOODS)
PUBLIC_GOODS_PARAMETERS = ("endowment", "multiplier", "num_levels")


@dataclasses.dataclass(frozen=True)
class MatrixGameState:
    """State between rounds; sums are over the rounds so far."""

    action_history: Int[Tensor, "world agent memory"]  # newest first; -1 before the first
    last_action: Int[Tensor, "world agent"]  # also if `memory_depth` is 0
    num_cooperations: Float[Tensor, "world agent"]  # rounds with option 0
    contribution_sum: Float[Tensor, "world agent"]  # sum of 1 - option / last option
    num_mutual_cooperations: Float[Tensor, " world"]  # rounds in which all agents take option 0
    num_unanimous_rounds: Float[Tensor, " world"]  # rounds in which all take the same option
    payoff_sum: Float[Tensor, "world agent"]
    last_payoff: Float[Tensor, "world agent"]
    rounds_elapsed: Float[Tensor, " world"]


class MatrixGame(Environment[MatrixGameState]):
    """Repeated game in normal form: a bimatrix game or a public goods game.

    Description:
        All agents choose simultaneously, receive payoffs and observe the actions. Option 0 is to
        cooperate where the term applies; in public goods games it is to contribute everything, the
        last option nothing. Left out: communication, choice of partners, identities of others,
        unequal endowments, and observation of payoffs.

    Roles:
        player (`num_agents`).

    Observation (m = `memory_depth`, k = largest number of options; nothing else is observed):
        own_actions    m*k  [0, 1]  own last m actions, newest first, one-hot; zeros before
        other_actions  m*k  [0, 1]  the same of the other agents, mean over them
        game_started   1    {0, 1}  1 after the first round
        second_player  1    {0, 1}  1 for the second agent; only with `observe_player`

    Action:
        Index of an option. If one of two agents has fewer options, the others are masked.

    Reward:
        Payoff of the round. Public goods: `endowment` not contributed, plus `multiplier /
        num_agents` times all contributions.

    Dynamics:
        With probability `tremble_probability` an agent takes another legal option, uniformly, than
        intended; payoffs, observations and metrics use the option taken.

    Start:
        No actions.

    End:
        Terminates after each round with probability 1 - `continuation_probability`.

    Parameters:
        See the fields: each has its range and meaning. `payoffs` is a name, a matrix of a symmetric
        game (rows own options, columns the other's), or two matrices, of the first and the second
        agent (rows options of the first, columns of the second).

    References:
        Axelrod 1984; Nowak and Sigmund 1993, Nature 364, 56; Ledyard 1995 for public goods. Payoffs
        of named games: `mores.envs.strategic.bimatrix_games`.
    """

    tags: ClassVar[Mapping[str, object]] = {
        "phases": 1,
        "changes": "actions",
        "stochastic": True,
        "masks": True,
        "dilemma": True,
    }
    solver_values: ClassVar[frozenset[str]] = formulas.SOLVER_VALUES

    payoffs: str | PayoffMatrix | tuple[PayoffMatrix, PayoffMatrix] = Field(
        default="prisoners_dilemma",
        description=f"{', '.join(GAME_NAMES)}; a payoff matrix (symmetric game); two matrices",
    )
    num_agents: int = Field(default=2, ge=2, le=10_000, description="agents; 2 in matrix games")
    endowment: float = Field(default=1.0, gt=0, description="public goods: endowment per round")
    multiplier: float = Field(
        default=1.6, ge=0, description="public goods: factor r of contributions"
    )
    num_levels: int = Field(
        default=2, ge=2, le=100, description="public goods: contribution levels, all to nothing"
    )
    continuation_probability: float = Field(
        default=1.0, ge=0, le=1, description="probability that another round follows"
    )
    tremble_probability: float = Field(
        default=0.0, ge=0, le=1, description="probability of another than the intended option"
    )
    memory_depth: int = Field(default=1, ge=0, le=100, description="observed past rounds")
    observe_player: bool = Field(
        default=False,
        description="matrix games: whether agents observe which of the two they are, as a policy "
        "that both share must if their payoffs differ",
    )
    option_names: tuple[str, ...] | None = Field(
        default=None, description="names of the options in text; null: those of the game"
    )

    @field_validator("payoffs", mode="before")
    @classmethod
    def _check_payoffs(cls, value: Any) -> Any:
        if isinstance(value, str) and value not in GAME_NAMES:
            raise ParameterError(
                message=f"no game {value!r}{did_you_mean(value, GAME_NAMES)}; or give a matrix",
                code="unknown_name",
            )
        return validate_payoffs(value)

    def model_post_init(self, context: Any) -> None:
        """Refuse incompatible parameters."""
        if self.option_names is not None and len(self.option_names) != self.max_options:
            message = f"needs {self.max_options} names, of all options"
            raise ParameterError("option_names", message=message, code="wrong_shape")
        if self.payoffs == PUBLIC_GOODS:
            if self.observe_player:
                message = f"observe_player is not for payoffs: {PUBLIC_GOODS}"
                raise ParameterError(message=message, code="conflict")
            return
        for name in PUBLIC_GOODS_PARAMETERS:
            if name in self.model_fields_set:
                raise ParameterError(
                    message=f"{name} is only for payoffs: {PUBLIC_GOODS}", code="conflict"
                )
        if self.num_agents != 2:
            raise ParameterError(
                message=f"num_agents is {self.num_agents}; matrix games need 2", code="conflict"
            )

    # --- static data -----------------------------------------------------------------------------

    @functools.cached_property
    def payoff_rule(self) -> Bimatrix | PublicGoods:
        """Payoffs of joint actions."""
        if self.payoffs == PUBLIC_GOODS:
            return PublicGoods(self.num_agents, self.endowment, self.multiplier, self.num_levels)
        return to_bimatrix(self.payoffs)

    @functools.cached_property
    def max_options(self) -> int:
        """Largest number of options of an agent."""
        return max(self.payoff_rule.num_options)

    @functools.cached_property
    def _available_options(self) -> Bool[Tensor, "agent option"] | None:
        """Options of each agent; None if all agents have the same number."""
        num_options = torch.tensor(self.payoff_rule.num_options)
        available = torch.arange(self.max_options) < num_options[:, None]
        return None if bool(available.all()) else available

    @property
    def roles(self) -> tuple[Role, ...]:
        """`player`."""
        actions = Part(self.memory_depth * self.max_options, 0.0, 1.0)
        bit = Part(1, 0.0, 1.0)
        player = {"second_player": bit} if self.observe_player else {}
        space = Box.of(own_actions=actions, other_actions=actions, game_started=bit, **player)
        return (Role("player", self.num_agents, space),)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """All agents choose simultaneously."""
        return (Phase("choose", {"player": Discrete(self.max_options)}),)

    # --- text ------------------------------------------------------------------------------------

    @functools.cached_property
    def _option_names(self) -> list[str]:
        """Names of the options in text."""
        if self.option_names is not None:
            return list(self.option_names)
        game = self.payoffs if isinstance(self.payoffs, str) else None
        return texts.option_names(game, self.payoff_rule, self.max_options)

    def role_rules(self, role: str) -> str:
        """Payoffs of all joint actions, and what is left to chance."""
        chances = (self.continuation_probability, self.tremble_probability)
        if isinstance(self.payoff_rule, PublicGoods):
            return texts.public_goods_rules(self.payoff_rule, *chances)
        return texts.matrix_rules(self.payoff_rule, self._option_names, *chances)

    def describe(
        self, role: str, phase: str, observation: Tensor, action_mask: Tensor | None = None
    ) -> TurnText:
        """Past actions of both sides, and the options with their payoffs."""
        seen = read_parts(self.roles[0].observation_space, observation)
        return texts.matrix_turn(seen, self.payoff_rule, self._option_names, self.memory_depth)

    # --- dynamics --------------------------------------------------------------------------------

    def reset(self, streams: RandomStreams, people: People | None = None) -> MatrixGameState:
        """Initial state: no actions."""
        if people is not None:
            raise UserError(
                "matrix_game accepts no population: its agents have no values",
                code="unsupported",
                path="population",
            )
        zeros = torch.zeros(streams.num_worlds, self.num_agents, device=streams.device)
        no_action = torch.full_like(zeros, -1, dtype=torch.int64)
        history = no_action[:, :, None].expand(-1, -1, self.memory_depth).clone()
        zero = zeros[:, 0].clone()
        return MatrixGameState(history, no_action, zeros, zeros, zero, zero, zeros, zeros, zero)

    def observe(self, state: MatrixGameState, role: str, phase: str) -> Tensor:
        """See the class docstring."""
        options = torch.arange(self.max_options, device=state.action_history.device)
        # world agent memory option
        own = (state.action_history[..., None] == options).to(torch.float32)
        others = (total(own, 1)[:, None] - own) / (self.num_agents - 1)
        started = (state.rounds_elapsed > 0).to(torch.float32)[:, None, None]
        started = started.expand(-1, self.num_agents, -1)
        parts = [own.flatten(2), others.flatten(2), started]
        if self.observe_player:
            index = torch.arange(self.num_agents, device=own.device).to(torch.float32)
            parts.append(index[:, None].expand(len(own), -1, -1))
        return torch.cat(parts, -1)

    def action_mask(self, state: MatrixGameState, role: str, phase: str) -> Tensor | None:
        """Options of each agent; None if all agents have the same number."""
        if self._available_options is None:
            return None
        available = self._available_options.to(state.action_history.device)
        return available.expand(len(state.rounds_elapsed), -1, -1)

    def step(
        self,
        state: MatrixGameState,
        phase: str,
        actions: Mapping[str, Tensor],
        streams: RandomStreams,
    ) -> StepResult[MatrixGameState]:
        """Pay the joint action, record it, and terminate at random."""
        action = self._apply_trembles(actions["player"].to(torch.int64), streams)
        payoff = self.payoff_rule.batch_payoffs(action)
        cooperates = action == 0
        history = torch.cat([action[..., None], state.action_history], -1)
        next_state = MatrixGameState(
            action_history=history[..., : self.memory_depth],
            last_action=action,
            num_cooperations=state.num_cooperations + cooperates,
            contribution_sum=state.contribution_sum + (1.0 - action / (self.max_options - 1)),
            num_mutual_cooperations=state.num_mutual_cooperations + cooperates.all(1),
            num_unanimous_rounds=state.num_unanimous_rounds + (action == action[:, :1]).all(1),
            payoff_sum=state.payoff_sum + payoff,
            last_payoff=payoff,
            rounds_elapsed=state.rounds_elapsed + 1,
        )
        terminated = None
        if self.continuation_probability < 1:
            terminated = streams.uniform(CONTINUATION)[:, 0, 0] >= self.continuation_probability
        return StepResult(next_state, {"player": payoff}, terminated)

    def _apply_trembles(
        self, intended: Int[Tensor, "world agent"], streams: RandomStreams
    ) -> Int[Tensor, "world agent"]:
        """Actions taken: with the tremble probability another legal option, uniformly."""
        if not self.tremble_probability:
            return intended
        num_options = torch.tensor(self.payoff_rule.num_options, device=intended.device)
        u = streams.uniform("tremble", self.num_agents, 2)
        offset = 1 + (u[..., 1] * (num_options - 1)).to(torch.int64)
        other = (intended + offset) % num_options
        return torch.where(u[..., 0] < self.tremble_probability, other, intended)

    # --- metrics ---------------------------------------------------------------------------------

    def metrics(self, state: MatrixGameState) -> Mapping[str, Tensor]:
        """Statistics of the rounds so far; shares and means are NaN before the first.

        cooperation_rate: share of option 0 in all actions.  cooperation_rate_by_agent.
        last_cooperation_rate: in the last round.  mutual_cooperation_rate: share of rounds in which
        all agents take option 0.  unanimity_rate: in which all take the same option.  mean_payoff:
        per round and agent.  mean_payoff_by_agent: per round.  last_mean_payoff: mean over agents
        in the last round.  return_by_agent: sum of payoffs.  efficiency: mean_payoff over the
        largest possible mean payoff; NaN if that is not above 0.  rounds_played.  Public goods:
        contribution_share: mean share of the endowment contributed.
        """
        rounds = torch.where(state.rounds_elapsed > 0, state.rounds_elapsed, torch.nan)
        cooperation = state.num_cooperations / rounds[:, None]
        payoffs = state.payoff_sum / rounds[:, None]
        defined = torch.where(state.rounds_elapsed > 0, 1.0, torch.nan)
        payoff, best = mean(payoffs, 1), self.payoff_rule.max_mean_payoff
        metrics = {
            "cooperation_rate": mean(cooperation, 1),
            "cooperation_rate_by_agent": cooperation,
            "last_cooperation_rate": mean((state.last_action == 0).to(payoff.dtype), 1) * defined,
            "mutual_cooperation_rate": state.num_mutual_cooperations / rounds,
            "unanimity_rate": state.num_unanimous_rounds / rounds,
            "mean_payoff": payoff,
            "mean_payoff_by_agent": payoffs,
            "last_mean_payoff": mean(state.last_payoff, 1) * defined,
            "return_by_agent": state.payoff_sum,
            "efficiency": payoff / (best if best > 0 else math.nan),
            "rounds_played": state.rounds_elapsed,
        }
        if self.payoffs == PUBLIC_GOODS:
            metrics["contribution_share"] = mean(state.contribution_sum, 1) / rounds
        return metrics

    @property
    def metric_bounds(self) -> Mapping[str, tuple[float, float]]:
        """Shares of actions and of rounds lie between 0 and 1."""
        names = ("cooperation_rate", "cooperation_rate_by_agent", "last_cooperation_rate",
                 "mutual_cooperation_rate", "unanimity_rate")  # fmt: skip
        if self.payoffs == PUBLIC_GOODS:
            names = (*names, "contribution_share")
        return dict.fromkeys(names, (0.0, 1.0))

    def analytic_values(self, policies: Mapping[str, Policy], rounds: int) -> Mapping[str, Any]:
        """Values of the one-shot game, of the repeated game, and of automata.

        max_mean_payoff: largest mean payoff over agents.  One-shot, without trembles:
        num_equilibria of nondegenerate games; worst_equilibrium_payoff, best_equilibrium_payoff:
        mean over agents; equilibrium_cooperation_rate: mean probability of option 0 in a unique
        equilibrium; mixed_equilibrium_payoff, mixed_equilibrium_cooperation_rate: of the
        equilibrium with full support.  critical_discount_factor: smallest discount times
        continuation at which two grim triggers are an equilibrium of a prisoner's dilemma.
        rounds_played: expected number, by rounds.

        If all agents are automata (`mores.agents.scripted.repeated_game`), exact expectations of
        mean_payoff, mean_payoff_by_agent[i], return_by_agent[i], cooperation_rate and
        cooperation_rate_by_agent[i].  If all but agent i are: best_response_return[i], largest
        expected return of i if it observes the automata's states; with continuation 1 also
        best_response_payoff[i], per round. Means over worlds if automata differ between worlds.
        """
        continuation = self.continuation_probability
        values: dict[str, Any] = {
            "max_mean_payoff": self.payoff_rule.max_mean_payoff,
            "rounds_played": formulas.expected_length(continuation, rounds),
        }
        if not self.tremble_probability:
            values |= formulas.one_shot_values(self.payoff_rule)
        if "player" in policies:
            probabilities = RepetitionProbabilities(continuation, self.tremble_probability)
            values |= formulas.repeated_game_values(
                self.payoff_rule, policies["player"], rounds, probabilities
            )
        return values

    def default_policies(self) -> Mapping[str, Any]:
        """Imitation of the last action of the others, with random actions."""
        return {"player": "imitate_last"}


class ImitateLast(Policy):
    """Option 0 at first, then the most frequent last option of others; sometimes a random one."""

    tags: ClassVar[Mapping[str, object]] = {"stochastic": True}

    epsilon: float = Field(default=0.05, ge=0, le=1, description="probability of a random option")

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Box:
        """Layout of the observation; requires `other_actions`."""
        if "other_actions" not in role.observation_space.parts:
            raise UserError(
                f"imitate_last needs a role that observes 'other_actions': {role.name} does not",
                code="unsupported",
                path=f"policies.{role.name}",
            )
        return role.observation_space

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Bool[Tensor, "world agent option"] | None,
        state: Box,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        """The most frequent legal option."""
        space = phase.action_spaces["player"]
        assert isinstance(space, Discrete)
        options, agents = space.num_options, observation.shape[1]
        shares = torch.zeros(*observation.shape[:2], options, device=observation.device)
        if state.parts["other_actions"].size:
            shares = state.read(observation, "other_actions")[..., :options]
        u = streams.uniform(RANDOM_OPTION, agents, options)
        is_random = streams.uniform(EXPLORATION, agents)[..., 0] < self.epsilon
        score = torch.where(is_random[..., None], u, shares)
        if action_mask is not None:
            score = torch.where(action_mask, score, -1.0)
        return ActionOutput(score.argmax(-1), state)


if __name__ == "__main__":
    from mores.sim.demo import show

    show(MatrixGame(payoffs="chicken"))

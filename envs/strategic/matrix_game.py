"""Matrix games, round after round: social dilemmas of two, and public goods of many.

Each round everybody chooses an option, all at once, and earns what a payoff table says. What makes
more of it than one table is that there is a next round: acts are remembered, and a strategy can
answer them (Axelrod 1984, The Evolution of Cooperation). Another round follows with probability
`continuation_probability`, so that nobody knows which is the last.

A learner weighs later payoffs by a discount of its own. What counts is the product of both: two who
never forgive are an equilibrium of the prisoner's dilemma if

    discount * continuation >= (T - R) / (T - P)

(temptation, reward, punishment). Of public goods everybody gets the same share, r / n of what was
given, so that to give costs `1 - r / n` a unit and is worth `r` to all.

Run `python -m mores.envs.strategic.matrix_game` to watch it.
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
from mores.core.environment import (
    ActionOutput,
    Box,
    Discrete,
    Environment,
    Part,
    Phase,
    Policy,
    Role,
    StepResult,
)
from mores.core.errors import ParameterError, UserError, did_you_mean
from mores.core.people import People
from mores.core.random_streams import RandomStreams
from mores.envs.strategic import matrix_game_analytic as formulas
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
    """A table between rounds; sums are over the rounds so far."""

    action_history: Int[
        Tensor, "world agent memory"
    ]  # acts, the newest first; -1 before there were any
    last_action: Int[Tensor, "world agent"]  # the newest act, though nobody may remember it
    num_cooperations: Float[Tensor, "world agent"]  # rounds in which option 0 was taken
    contribution_sum: Float[Tensor, "world agent"]  # sum of 1 - option / last option
    num_mutual_cooperations: Float[Tensor, " world"]  # rounds in which all took option 0
    num_unanimous_rounds: Float[Tensor, " world"]  # rounds in which all took the same option
    payoff_sum: Float[Tensor, "world agent"]
    last_payoff: Float[Tensor, "world agent"]  # in the last round
    rounds_elapsed: Float[Tensor, " world"]


class MatrixGame(Environment[MatrixGameState]):
    """A game of payoff tables that is played again and again.

    Description:
        Everybody chooses at once, is paid, and sees what was done. Option 0 is to cooperate, where
        the word fits; of public goods it is to give everything, and the last option nothing.

    Roles:
        player (`num_agents`).

    Observation:
        `own` acts and `others` acts of the last `memory_depth` rounds, the newest first, a mark at one of
        the options each, zeros before there were any; several others are averaged [0, 1]. `begun`:
        1 after the first round. Payoffs, seats, the round and older acts are not seen.

    Action:
        One of the options. Where one of two has fewer than the other, the rest is masked.

    Reward:
        The payoff of the round. Public goods: what was kept, and `multiplier / agents` of what was
        given by all.

    Dynamics:
        With probability `tremble_probability` somebody does any other open option than was meant, and that is
        what is paid, seen and remembered. Else what moves is who remembers what.

    Start:
        Nobody has done anything.

    End:
        After each round with probability 1 - `continuation_probability`.

    Parameters:
        See the fields: each has its range and meaning. Payoffs: a name; a table for two who earn
        alike (rows own options, columns the other's); or two tables, of what the first and what the
        second earns (rows options of the first, columns those of the second).

    References:
        Axelrod 1984; Nowak and Sigmund 1993, Nature 364, 56; Ledyard 1995 for public goods. Payoffs
        of the named games stand in `mores.envs.strategic.bimatrix_games`.
    """

    tags: ClassVar[Mapping[str, object]] = {
        "phases": 1,
        "moves": "acts",
        "stochastic": True,
        "masks": True,
        "dilemma": True,
    }
    solver_values: ClassVar[frozenset[str]] = formulas.SOLVER_VALUES

    payoffs: str | PayoffMatrix | tuple[PayoffMatrix, PayoffMatrix] = Field(
        default="prisoners_dilemma",
        description=f"{', '.join(GAME_NAMES)}; or a table of two who earn alike; or two tables",
    )
    num_agents: int = Field(
        default=2, ge=2, le=10_000, description="seats; of a table of payoffs, 2"
    )
    endowment: float = Field(
        default=1.0, gt=0, description="public goods: what everybody has in a round"
    )
    multiplier: float = Field(
        default=1.6, ge=0, description="public goods: worth to all of a unit given (r)"
    )
    num_levels: int = Field(
        default=2, ge=2, le=100, description="public goods: amounts, all to nothing"
    )
    continuation_probability: float = Field(
        default=1.0, ge=0, le=1, description="probability that another round follows"
    )
    tremble_probability: float = Field(
        default=0.0, ge=0, le=1, description="probability of doing another option than was meant"
    )
    memory_depth: int = Field(
        default=1, ge=0, le=100, description="rounds that everybody remembers"
    )

    @field_validator("payoffs", mode="before")
    @classmethod
    def _check_payoffs(cls, value: Any) -> Any:
        if isinstance(value, str) and value not in GAME_NAMES:
            raise ParameterError(
                message=f"no game {value!r}{did_you_mean(value, GAME_NAMES)}; or give a table",
                code="unknown_name",
            )
        return validate_payoffs(value)

    def model_post_init(self, context: Any) -> None:
        """Refuse parameters that do not go together."""
        if self.payoffs == PUBLIC_GOODS:
            return
        for name in PUBLIC_GOODS_PARAMETERS:
            if name in self.model_fields_set:
                raise ParameterError(
                    message=f"{name} goes with payoffs: {PUBLIC_GOODS}", code="conflict"
                )
        if self.num_agents != 2:
            raise ParameterError(
                message=f"a table of payoffs is for 2 agents, not {self.num_agents}",
                code="conflict",
            )

    # --- what is fixed ---------------------------------------------------------------------------

    @functools.cached_property
    def payoff_rule(self) -> Bimatrix | PublicGoods:
        """Who earns what."""
        if self.payoffs == PUBLIC_GOODS:
            return PublicGoods(self.num_agents, self.endowment, self.multiplier, self.num_levels)
        return to_bimatrix(self.payoffs)

    @functools.cached_property
    def max_options(self) -> int:
        """The most options that anybody has."""
        return max(self.payoff_rule.num_options)

    @functools.cached_property
    def _available_options(self) -> Bool[Tensor, "agent option"] | None:
        """Which options each seat has; none where all have all."""
        many = torch.tensor(self.payoff_rule.num_options)
        open_to = torch.arange(self.max_options) < many[:, None]
        return None if bool(open_to.all()) else open_to

    @property
    def roles(self) -> tuple[Role, ...]:
        """`player`."""
        marks = Part(self.memory_depth * self.max_options, 0.0, 1.0)
        sees = Box.of(own_actions=marks, other_actions=marks, game_started=Part(1, 0.0, 1.0))
        return (Role("player", self.num_agents, sees),)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """All choose at once."""
        return (Phase("choose", {"player": Discrete(self.max_options)}),)

    # --- the game --------------------------------------------------------------------------------

    def reset(self, streams: RandomStreams, people: People | None = None) -> MatrixGameState:
        """Nobody has done anything."""
        if people is not None:
            raise UserError(
                "matrix_game takes no people from a population: they have no values",
                code="unsupported",
                path="people",
            )
        none = torch.zeros(streams.num_worlds, self.num_agents, device=streams.device)
        nothing = torch.full_like(none, -1, dtype=torch.int64)
        past = nothing[:, :, None].expand(-1, -1, self.memory_depth).clone()
        zero = none[:, 0].clone()
        return MatrixGameState(past, nothing, none, none, zero, zero, none, none, zero)

    def observe(self, state: MatrixGameState, role: str, phase: str) -> Tensor:
        """See the class docstring."""
        numbers = torch.arange(self.max_options, device=state.action_history.device)
        own = (state.action_history[..., None] == numbers).to(
            torch.float32
        )  # world agent memory option
        others = (total(own, 1)[:, None] - own) / (self.num_agents - 1)
        begun = (
            (state.rounds_elapsed > 0)
            .to(torch.float32)[:, None, None]
            .expand(-1, self.num_agents, -1)
        )
        return torch.cat([own.flatten(2), others.flatten(2), begun], -1)

    def action_mask(self, state: MatrixGameState, role: str, phase: str) -> Tensor | None:
        """All options, but where one of two has fewer than the other."""
        if self._available_options is None:
            return None
        return self._available_options.to(state.action_history.device).expand(
            len(state.rounds_elapsed), -1, -1
        )

    def step(
        self,
        state: MatrixGameState,
        phase: str,
        actions: Mapping[str, Tensor],
        streams: RandomStreams,
    ) -> StepResult[MatrixGameState]:
        """Everybody is paid, and what was done is remembered."""
        acts = self._apply_trembles(actions["player"].to(torch.int64), streams)
        paid = self.payoff_rule.batch_payoffs(acts)
        after = MatrixGameState(
            action_history=torch.cat([acts[..., None], state.action_history], -1)[
                ..., : self.memory_depth
            ],
            last_action=acts,
            num_cooperations=state.num_cooperations + (acts == 0),
            contribution_sum=state.contribution_sum + (1.0 - acts / (self.max_options - 1)),
            num_mutual_cooperations=state.num_mutual_cooperations + (acts == 0).all(1),
            num_unanimous_rounds=state.num_unanimous_rounds + (acts == acts[:, :1]).all(1),
            payoff_sum=state.payoff_sum + paid,
            last_payoff=paid,
            rounds_elapsed=state.rounds_elapsed + 1,
        )
        ended = None
        if self.continuation_probability < 1:
            ended = streams.uniform("another round")[:, 0, 0] >= self.continuation_probability
        return StepResult(after, {"player": paid}, ended)

    def _apply_trembles(
        self, intended: Int[Tensor, "world agent"], streams: RandomStreams
    ) -> Int[Tensor, "world agent"]:
        """What is done of what was meant: whose hand trembles takes any other open option."""
        if not self.tremble_probability:
            return intended
        many = torch.tensor(self.payoff_rule.num_options, device=intended.device)
        u = streams.uniform("tremble", self.num_agents, 2)
        further = 1 + (u[..., 1] * (many - 1)).to(torch.int64)
        return torch.where(
            u[..., 0] < self.tremble_probability, (intended + further) % many, intended
        )

    # --- what is reported ------------------------------------------------------------------------

    def metrics(self, state: MatrixGameState) -> Mapping[str, Tensor]:
        """Over the rounds so far; there are no shares and means before the first.

        cooperation: share of acts that were option 0.  cooperations: the same by seat.
        cooperation_now: in the last round.  together: share of rounds in which all took option 0.
        alike: in which all took the same one.  payoff: mean payoff a round and seat.  payoffs: a
        round, by seat.  payoff_now: mean over seats in the last round.  returns: sum of payoffs, by
        seat.  welfare: payoff as a share of the best that all together could earn, where that is
        above 0.  rounds: how many were played.  Of public goods also contribution: mean share of
        the endowment given.
        """
        rounds = torch.where(state.rounds_elapsed > 0, state.rounds_elapsed, torch.nan)
        cooperations = state.num_cooperations / rounds[:, None]
        payoffs = state.payoff_sum / rounds[:, None]
        begun = torch.where(state.rounds_elapsed > 0, 1.0, torch.nan)
        payoff, best = mean(payoffs, 1), self.payoff_rule.max_mean_payoff
        found = {
            "cooperation_rate": mean(cooperations, 1),
            "cooperation_rate_by_agent": cooperations,
            "last_cooperation_rate": mean((state.last_action == 0).to(payoff.dtype), 1) * begun,
            "mutual_cooperation_rate": state.num_mutual_cooperations / rounds,
            "unanimity_rate": state.num_unanimous_rounds / rounds,
            "mean_payoff": payoff,
            "mean_payoff_by_agent": payoffs,
            "last_mean_payoff": mean(state.last_payoff, 1) * begun,
            "return_by_agent": state.payoff_sum,
            "efficiency": payoff / (best if best > 0 else math.nan),
            "rounds_played": state.rounds_elapsed,
        }
        if self.payoffs == PUBLIC_GOODS:
            found["contribution_share"] = mean(state.contribution_sum, 1) / rounds
        return found

    def analytic_values(self, policies: Mapping[str, Policy], rounds: int) -> Mapping[str, Any]:
        """Of the game played once, of the game repeated, and of named strategies.

        best: most that a seat earns on average if all act for the sum.  Once, where no hand
        trembles: equilibria, their number, where it is not degenerate; equilibrium_low,
        equilibrium_high: mean payoff over seats in the worst and the best of them;
        equilibrium_cooperation: mean probability of option 0, if there is only one; mixed_payoff,
        mixed_cooperation: of the one in which both use all options, if there is one.  lasting:
        least discount times continuation at which two who never forgive are an equilibrium, in a
        prisoner's dilemma.  rounds: played, after each number of them.

        If every seat follows a strategy (`mores.agents.scripted.repeated_game`), by the names of the
        measures, exactly: payoff, payoffs[i], returns[i], cooperation, cooperations[i].  If every
        seat but i does: best_return[i], most that seat i can earn in so many rounds, knowing where
        the others' strategies are; with continuation 1 also best_payoff[i], a round. Where worlds
        differ in who plays, the mean over a number of worlds in which each comes equally often.
        """
        chance = RepetitionProbabilities(self.continuation_probability, self.tremble_probability)
        length = formulas.expected_length(self.continuation_probability, rounds)
        found: dict[str, Any] = {"max_mean_payoff": self.payoff_rule.max_mean_payoff, "rounds_played": length}
        if not self.tremble_probability:
            found |= formulas.one_shot_values(self.payoff_rule)
        if "player" in policies:
            found |= formulas.repeated_game_values(
                self.payoff_rule, policies["player"], rounds, chance
            )
        return found

    def default_policies(self) -> Mapping[str, Policy]:
        """Everybody does what others did, and slips now and then."""
        return {"player": ImitateLast()}


class ImitateLast(Policy):
    """Takes option 0 at first, then what most others took last; sometimes any option."""

    tags: ClassVar[Mapping[str, object]] = {"learns": False, "stochastic": True}

    epsilon: float = Field(
        default=0.05, ge=0, le=1, description="probability of any option instead"
    )

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Box:
        """How its sight is laid out."""
        if "other_actions" not in role.observation_space.parts:
            raise UserError(
                "copy needs a role that sees what 'others' did",
                code="unsupported",
                path=f"players.{role.name}",
            )
        return role.observation_space

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Bool[Tensor, "world agent option"] | None,
        state: Box,
        streams: RandomStreams,
    ) -> ActionOutput:
        """The option that is most common among the others, if it is open."""
        space = phase.action_spaces["player"]
        assert isinstance(space, Discrete)
        options, seats = space.num_options, observation.shape[1]
        shares = torch.zeros(*observation.shape[:2], options, device=observation.device)
        if state.parts["other_actions"].size:
            shares = state.read(observation, "other_actions")[..., :options]
        chance = streams.uniform("any option", seats, options)
        slips = streams.uniform("slips", seats)[..., 0] < self.epsilon
        liking = torch.where(slips[..., None], chance, shares)
        if action_mask is not None:
            liking = torch.where(action_mask, liking, -1.0)
        return ActionOutput(liking.argmax(-1), state)


if __name__ == "__main__":
    from mores.sim.demo import show

    show(MatrixGame(payoffs="chicken"))

"""Matrix games, round after round: social dilemmas of two, and public goods of many.

Each round everybody chooses an option, all at once, and earns what a payoff table says. What makes
more of it than one table is that there is a next round: acts are remembered, and a strategy can
answer them (Axelrod 1984, The Evolution of Cooperation). Another round follows with probability
`continuation`, so that nobody knows which is the last.

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
from mores.core.environment import Act, Box, Discrete, Game, Part, Phase, Player, Role, Step
from mores.core.errors import ParameterError, UserError, did_you_mean
from mores.core.people import People
from mores.core.random_streams import Draws
from mores.envs.strategic import matrix_game_analytic as formulas
from mores.envs.strategic.bimatrix_games import NAMED, Table, Tables, checked, tables_of
from mores.envs.strategic.matrix_game_analytic import Chance
from mores.envs.strategic.public_goods import PublicGoods

PUBLIC_GOODS = "public_goods"
NAMES = (*NAMED, PUBLIC_GOODS)
FOR_PUBLIC_GOODS = ("endowment", "multiplier", "levels")


@dataclasses.dataclass(frozen=True)
class State:
    """A table between rounds; sums are over the rounds so far."""

    past: Int[Tensor, "world agent memory"]  # acts, the newest first; -1 before there were any
    last: Int[Tensor, "world agent"]  # the newest act, though nobody may remember it
    cooperated: Float[Tensor, "world agent"]  # rounds in which option 0 was taken
    given: Float[Tensor, "world agent"]  # sum of 1 - option / last option
    together: Float[Tensor, " world"]  # rounds in which all took option 0
    alike: Float[Tensor, " world"]  # rounds in which all took the same option
    earned: Float[Tensor, "world agent"]
    paid: Float[Tensor, "world agent"]  # in the last round
    rounds: Float[Tensor, " world"]


class MatrixGame(Game[State]):
    """A game of payoff tables that is played again and again.

    Description:
        Everybody chooses at once, is paid, and sees what was done. Option 0 is to cooperate, where
        the word fits; of public goods it is to give everything, and the last option nothing.

    Roles:
        player (`agents`).

    Observation:
        `own` acts and `others` acts of the last `memory` rounds, the newest first, a mark at one of
        the options each, zeros before there were any; several others are averaged [0, 1]. `begun`:
        1 after the first round. Payoffs, seats, the round and older acts are not seen.

    Action:
        One of the options. Where one of two has fewer than the other, the rest is masked.

    Reward:
        The payoff of the round. Public goods: what was kept, and `multiplier / agents` of what was
        given by all.

    Dynamics:
        With probability `trembles` somebody does any other open option than was meant, and that is
        what is paid, seen and remembered. Else what moves is who remembers what.

    Start:
        Nobody has done anything.

    End:
        After each round with probability 1 - `continuation`.

    Parameters:
        See the fields: each has its range and meaning. Payoffs: a name; a table for two who earn
        alike (rows own options, columns the other's); or two tables, of what the first and what the
        second earns (rows options of the first, columns those of the second).

    References:
        Axelrod 1984; Nowak and Sigmund 1993, Nature 364, 56; Ledyard 1995 for public goods. Payoffs
        of the named games stand in `mores.envs.strategic.bimatrix_games`.
    """

    traits: ClassVar[Mapping[str, object]] = {
        "phases": 1,
        "moves": "acts",
        "stochastic": True,
        "masks": True,
        "dilemma": True,
    }
    solved: ClassVar[frozenset[str]] = formulas.SOLVED

    payoffs: str | Table | tuple[Table, Table] = Field(
        default="prisoners_dilemma",
        description=f"{', '.join(NAMES)}; or a table of two who earn alike; or two tables",
    )
    agents: int = Field(default=2, ge=2, le=10_000, description="seats; of a table of payoffs, 2")
    endowment: float = Field(
        default=1.0, gt=0, description="public goods: what everybody has in a round"
    )
    multiplier: float = Field(
        default=1.6, ge=0, description="public goods: worth to all of a unit given (r)"
    )
    levels: int = Field(
        default=2, ge=2, le=100, description="public goods: amounts, all to nothing"
    )
    continuation: float = Field(
        default=1.0, ge=0, le=1, description="probability that another round follows"
    )
    trembles: float = Field(
        default=0.0, ge=0, le=1, description="probability of doing another option than was meant"
    )
    memory: int = Field(default=1, ge=0, le=100, description="rounds that everybody remembers")

    @field_validator("payoffs", mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        if isinstance(given, str) and given not in NAMES:
            raise ParameterError(
                message=f"no game {given!r}{did_you_mean(given, NAMES)}; or give a table",
                code="unknown_name",
            )
        return checked(given)

    def model_post_init(self, context: Any) -> None:
        """Refuse parameters that do not go together."""
        if self.payoffs == PUBLIC_GOODS:
            return
        for name in FOR_PUBLIC_GOODS:
            if name in self.model_fields_set:
                raise ParameterError(
                    message=f"{name} goes with payoffs: {PUBLIC_GOODS}", code="conflict"
                )
        if self.agents != 2:
            raise ParameterError(
                message=f"a table of payoffs is for 2 agents, not {self.agents}", code="conflict"
            )

    # --- what is fixed ---------------------------------------------------------------------------

    @functools.cached_property
    def rules(self) -> Tables | PublicGoods:
        """Who earns what."""
        if self.payoffs == PUBLIC_GOODS:
            return PublicGoods(self.agents, self.endowment, self.multiplier, self.levels)
        return tables_of(self.payoffs)

    @functools.cached_property
    def most(self) -> int:
        """The most options that anybody has."""
        return max(self.rules.options)

    @functools.cached_property
    def _open(self) -> Bool[Tensor, "agent option"] | None:
        """Which options each seat has; none where all have all."""
        many = torch.tensor(self.rules.options)
        open_to = torch.arange(self.most) < many[:, None]
        return None if bool(open_to.all()) else open_to

    @property
    def roles(self) -> tuple[Role, ...]:
        """`player`."""
        marks = Part(self.memory * self.most, 0.0, 1.0)
        sees = Box.of(own=marks, others=marks, begun=Part(1, 0.0, 1.0))
        return (Role("player", self.agents, sees),)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """All choose at once."""
        return (Phase("choose", {"player": Discrete(self.most)}),)

    # --- the game --------------------------------------------------------------------------------

    def reset(self, draws: Draws, start: People | None = None) -> State:
        """Nobody has done anything."""
        if start is not None:
            raise UserError(
                "matrix_game takes no people from a population: they have no values",
                code="unsupported",
                path="people",
            )
        none = torch.zeros(draws.worlds, self.agents, device=draws.device)
        nothing = torch.full_like(none, -1, dtype=torch.int64)
        past = nothing[:, :, None].expand(-1, -1, self.memory).clone()
        zero = none[:, 0].clone()
        return State(past, nothing, none, none, zero, zero, none, none, zero)

    def observe(self, state: State, role: str, phase: str) -> Tensor:
        """See the class docstring."""
        numbers = torch.arange(self.most, device=state.past.device)
        own = (state.past[..., None] == numbers).to(torch.float32)  # world agent memory option
        others = (total(own, 1)[:, None] - own) / (self.agents - 1)
        begun = (state.rounds > 0).to(torch.float32)[:, None, None].expand(-1, self.agents, -1)
        return torch.cat([own.flatten(2), others.flatten(2), begun], -1)

    def legal(self, state: State, role: str, phase: str) -> Tensor | None:
        """All options, but where one of two has fewer than the other."""
        if self._open is None:
            return None
        return self._open.to(state.past.device).expand(len(state.rounds), -1, -1)

    def step(
        self, state: State, phase: str, actions: Mapping[str, Tensor], draws: Draws
    ) -> Step[State]:
        """Everybody is paid, and what was done is remembered."""
        acts = self._done(actions["player"].to(torch.int64), draws)
        paid = self.rules.pay(acts)
        after = State(
            past=torch.cat([acts[..., None], state.past], -1)[..., : self.memory],
            last=acts,
            cooperated=state.cooperated + (acts == 0),
            given=state.given + (1.0 - acts / (self.most - 1)),
            together=state.together + (acts == 0).all(1),
            alike=state.alike + (acts == acts[:, :1]).all(1),
            earned=state.earned + paid,
            paid=paid,
            rounds=state.rounds + 1,
        )
        ended = None
        if self.continuation < 1:
            ended = draws.uniform("another round")[:, 0, 0] >= self.continuation
        return Step(after, {"player": paid}, ended)

    def _done(self, meant: Int[Tensor, "world agent"], draws: Draws) -> Int[Tensor, "world agent"]:
        """What is done of what was meant: whose hand trembles takes any other open option."""
        if not self.trembles:
            return meant
        many = torch.tensor(self.rules.options, device=meant.device)
        u = draws.uniform("tremble", self.agents, 2)
        further = 1 + (u[..., 1] * (many - 1)).to(torch.int64)
        return torch.where(u[..., 0] < self.trembles, (meant + further) % many, meant)

    # --- what is reported ------------------------------------------------------------------------

    def measures(self, state: State) -> Mapping[str, Tensor]:
        """Over the rounds so far; there are no shares and means before the first.

        cooperation: share of acts that were option 0.  cooperations: the same by seat.
        cooperation_now: in the last round.  together: share of rounds in which all took option 0.
        alike: in which all took the same one.  payoff: mean payoff a round and seat.  payoffs: a
        round, by seat.  payoff_now: mean over seats in the last round.  returns: sum of payoffs, by
        seat.  welfare: payoff as a share of the best that all together could earn, where that is
        above 0.  rounds: how many were played.  Of public goods also contribution: mean share of
        the endowment given.
        """
        rounds = torch.where(state.rounds > 0, state.rounds, torch.nan)
        cooperations = state.cooperated / rounds[:, None]
        payoffs = state.earned / rounds[:, None]
        begun = torch.where(state.rounds > 0, 1.0, torch.nan)
        payoff, best = mean(payoffs, 1), self.rules.best
        found = {
            "cooperation": mean(cooperations, 1),
            "cooperations": cooperations,
            "cooperation_now": mean((state.last == 0).to(payoff.dtype), 1) * begun,
            "together": state.together / rounds,
            "alike": state.alike / rounds,
            "payoff": payoff,
            "payoffs": payoffs,
            "payoff_now": mean(state.paid, 1) * begun,
            "returns": state.earned,
            "welfare": payoff / (best if best > 0 else math.nan),
            "rounds": state.rounds,
        }
        if self.payoffs == PUBLIC_GOODS:
            found["contribution"] = mean(state.given, 1) / rounds
        return found

    def predictions(self, players: Mapping[str, Player], rounds: int) -> Mapping[str, Any]:
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
        chance = Chance(self.continuation, self.trembles)
        length = formulas.length(self.continuation, rounds)
        found: dict[str, Any] = {"best": self.rules.best, "rounds": length}
        if not self.trembles:
            found |= formulas.once(self.rules)
        if "player" in players:
            found |= formulas.repeated(self.rules, players["player"], rounds, chance)
        return found

    def baseline(self) -> Mapping[str, Player]:
        """Everybody does what others did, and slips now and then."""
        return {"player": Copy()}


class Copy(Player):
    """Takes option 0 at first, then what most others took last; sometimes any option."""

    traits: ClassVar[Mapping[str, object]] = {"learns": False, "stochastic": True}

    slips: float = Field(default=0.05, ge=0, le=1, description="probability of any option instead")

    def start(self, role: Role, phases: tuple[Phase, ...], draws: Draws) -> Box:
        """How its sight is laid out."""
        if "others" not in role.sees.parts:
            raise UserError(
                "copy needs a role that sees what 'others' did",
                code="unsupported",
                path=f"players.{role.name}",
            )
        return role.sees

    def act(
        self,
        phase: Phase,
        seen: Tensor,
        legal: Bool[Tensor, "world agent option"] | None,
        memory: Box,
        draws: Draws,
    ) -> Act:
        """The option that is most common among the others, if it is open."""
        space = phase.acts["player"]
        assert isinstance(space, Discrete)
        options, seats = space.options, seen.shape[1]
        shares = torch.zeros(*seen.shape[:2], options, device=seen.device)
        if memory.parts["others"].size:
            shares = memory.read(seen, "others")[..., :options]
        chance = draws.uniform("any option", seats, options)
        slips = draws.uniform("slips", seats)[..., 0] < self.slips
        liking = torch.where(slips[..., None], chance, shares)
        if legal is not None:
            liking = torch.where(legal, liking, -1.0)
        return Act(liking.argmax(-1), memory)


if __name__ == "__main__":
    from mores.sim.demo import show

    show(MatrixGame(payoffs="chicken"))

"""Influence: rewards that change with the person, and what an assistant should then be after.

Carroll et al. 2024 (arXiv 2405.17713). Every person has an assistant, and a *taste* that moves with
what the assistant does: somebody influenced comes to like being influenced. Whether the assistant
then should influence depends on whose eyes count: the person's now, at the end, at the start, or
had they been left alone. `mores.envs.influence.alignment_objectives` solves all cases exactly.

Run `python -m mores.envs.influence.dr_mdp` to watch it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from mores.core.deterministic_sum import mean, total
from mores.core.environment import Box, Discrete, Environment, Part, Phase, Policy, Role, StepResult
from mores.core.errors import ParameterError, UserError
from mores.core.people import People
from mores.core.random_streams import RandomStreams
from mores.envs.influence import alignment_objectives as notions
from mores.envs.influence.alignment_objectives import AlignmentObjective
from mores.envs.influence.dr_mdp_analytic import (
    PersonGroup,
    planner_metrics,
    real_time_switch_susceptibility,
)
from mores.envs.influence.dr_mdp_planner import DRMDPPlanner
from mores.envs.influence.person_dr_mdp import INFLUENCE, NOOP, Matrix, PersonDRMDP, inverse_cdf


@dataclasses.dataclass(frozen=True)
class DRMDPState:
    """People between rounds."""

    susceptibility: Float[Tensor, "world agent"]
    initial_preference: Int[Tensor, "world agent"]  # taste at the start
    natural_preference: Int[Tensor, "world agent"]  # what it would be if left alone
    preference: Int[Tensor, "world agent"]
    num_influences: Float[Tensor, "world agent"]  # so far
    influenced_in_first_round: Float[Tensor, "world agent"]  # 1: influenced in the first round
    real_time_return: Float[Tensor, "world agent"]  # rewards so far, by the taste of the moment
    natural_shift_return: Float[Tensor, "world agent"]  # by nature
    rounds_elapsed: Float[Tensor, " world"]  # rounds


class DRMDP(Environment[DRMDPState]):
    """People whose rewards change, each with an assistant who does nothing or influences.

    Description:
        Each round every assistant does nothing or influences its person, whose taste then moves.
        People play along: what they are is their taste, and it is not theirs to choose.

    Roles:
        assistant (`people`): one a person.

    Observation:
        Of its own person: `taste`, `nature` (taste if left alone), `first` (taste at the start),
        each a mark at one of the tastes; `num_influences` so far and `played` rounds so far and `left`
        [0, horizon]; `susceptibility` [0, 1], the person's own or, if not `observe_susceptibility`, the people's
        mean. Of all: `rewards` by taste and action, `natural` and `influenced` probabilities by
        taste and next taste, row by row, `start` probabilities: what a planner needs.

    Action:
        0 do nothing, 1 influence. For `constrained` influence is masked where it could lead a
        person away from their nature; for `pareto` where some taste would rather have nothing done.

    Reward:
        Sums to what `objective` says, whenever the episode is stopped. real_time, initial,
        natural_shift, privileged: the action's worth in the eyes of the taste now, at the start, by
        nature, of the `ideal` taste. final: all actions so far are judged anew by the taste now,
        and the change since the last round is paid: together that is the last taste's judgement.
        constrained: as real_time, under the mask. pareto: mean over tastes, under the mask.
        myopic: as real_time; that one must not look ahead is up to who plays (no discount is 0).

    Dynamics:
        `mores.envs.influence.person_dr_mdp`: influence takes with the person's susceptibility;
        else, and if left alone, nature has its way.

    Start:
        Tastes drawn from `start`. The first `susceptible_share` of the people, rounded, have
        `susceptibility`, the others `other_susceptibility`.

    End:
        After `horizon` rounds; a game cut off earlier is one of which players expect more.

    Parameters:
        See the fields: each has its range and meaning. By default tastes are 0 natural and 1
        converted; influence converts, to be left alone cures.

    References:
        Carroll et al. 2024, arXiv 2405.17713; the game of two tastes is of our own.
    """

    tags: ClassVar[Mapping[str, object]] = {
        "phases": 1,
        "moves": "rewards",
        "stochastic": True,
        "masks": True,
        "paper": "2405.17713",
    }
    value_names: ClassVar[tuple[str, ...]] = ("doing nothing", "influence")
    solver_values: ClassVar[frozenset[str]] = frozenset({"optimal_return"})

    num_people: int = Field(
        default=8, ge=1, le=1_000_000, description="people, each with an assistant"
    )
    horizon: int = Field(default=20, ge=1, le=200, description="rounds until the end")
    objective: AlignmentObjective = Field(
        default="real_time", description="what assistants are rewarded for"
    )
    privileged_preference: int = Field(
        default=0, ge=0, description="the taste that counts if privileged"
    )
    rewards: Matrix = Field(
        default=((1.0, -1.0), (1.0, 3.0)),
        min_length=2,
        max_length=6,
        description="worth of doing nothing and of influence, for each taste",
    )
    natural_transitions: Matrix = Field(
        default=((1.0, 0.0), (1.0, 0.0)),
        description="where people left alone go: probabilities, a row for each taste",
    )
    influenced_transitions: Matrix = Field(
        default=((0.0, 1.0), (0.0, 1.0)),
        description="where people go whom influence takes: a row for each taste",
    )
    initial_distribution: tuple[float, ...] = Field(
        default=(1.0, 0.0), description="shares of first tastes"
    )
    susceptibility: float = Field(
        default=1.0, ge=0, le=1, description="probability that influence takes"
    )
    susceptible_share: float = Field(
        default=1.0, ge=0, le=1, description="of the people, rounded: they have that susceptibility"
    )
    other_susceptibility: float = Field(default=0.0, ge=0, le=1, description="of the others")
    observe_susceptibility: bool = Field(
        default=True, description="assistants know their person's susceptibility, not only the mean"
    )

    def model_post_init(self, context: Any) -> None:
        """Refuse parameters that do not go together."""
        tastes = len(self.rewards)
        if any(len(row) != 2 for row in self.rewards):
            raise ParameterError(
                "rewards",
                message="rewards has two numbers a taste: of doing nothing, of influence",
                code="wrong_shape",
            )
        for name, rows in (
            ("natural_transitions", self.natural_transitions),
            ("influenced_transitions", self.influenced_transitions),
        ):
            if len(rows) != tastes:
                raise ParameterError(
                    message=f"{name} has {len(rows)} rows, and rewards {tastes}", code="wrong_shape"
                )
            for row in rows:
                _check_distribution(name, row, tastes)
        _check_distribution("initial_distribution", self.initial_distribution, tastes)
        if self.privileged_preference >= tastes:
            raise ParameterError(
                "privileged_preference",
                message=f"ideal is one of {tastes} tastes, counted from 0",
                code="out_of_range",
            )

    # --- what is fixed ---------------------------------------------------------------------------

    @functools.cached_property
    def _groups(self) -> tuple[tuple[int, float], ...]:
        """How many people have which susceptibility: the susceptible, the others."""
        susceptible = round(self.susceptible_share * self.num_people)
        others = self.num_people - susceptible
        return (susceptible, self.susceptibility), (others, self.other_susceptibility)

    @functools.cached_property
    def _mean_susceptibility(self) -> float:
        return sum(many * takes for many, takes in self._groups) / self.num_people

    def person_dr_mdp(self, susceptibility: float) -> PersonDRMDP:
        """A person of that susceptibility."""
        return PersonDRMDP(
            self.rewards,
            self.natural_transitions,
            self.influenced_transitions,
            susceptibility,
            self.initial_distribution,
        )

    @functools.cached_property
    def _public_parameters(self) -> Float[Tensor, " number"]:
        """What every assistant knows: rewards, natural, influenced, start."""
        rows = (
            *self.rewards,
            *self.natural_transitions,
            *self.influenced_transitions,
            self.initial_distribution,
        )
        return torch.tensor([number for row in rows for number in row])

    @property
    def roles(self) -> tuple[Role, ...]:
        """`assistant`, one a person."""
        tastes = len(self.rewards)
        mark, rounds = Part(tastes, 0.0, 1.0), Part(1, 0.0, float(self.horizon))
        sees = Box.of(
            preference=mark,
            natural_preference=mark,
            initial_preference=mark,
            num_influences=rounds,
            rounds_elapsed=rounds,
            rounds_remaining=rounds,
            susceptibility=Part(1, 0.0, 1.0),
            rewards=2 * tastes,
            natural_transitions=Part(tastes * tastes, 0.0, 1.0),
            influenced_transitions=Part(tastes * tastes, 0.0, 1.0),
            initial_distribution=mark,
        )
        return (Role("assistant", self.num_people, sees),)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """All assistants act at once."""
        return (Phase("assist", {"assistant": Discrete(2)}),)

    # --- the game --------------------------------------------------------------------------------

    def reset(self, streams: RandomStreams, people: People | None = None) -> DRMDPState:
        """Tastes drawn from `people`; nobody was influenced yet."""
        if people is not None:
            raise UserError(
                "influence takes no people from a population: they have tastes instead",
                code="unsupported",
                path="num_people",
            )
        u = streams.uniform("start", self.num_people)[..., 0]
        first = inverse_cdf(u, torch.zeros_like(u, dtype=torch.int64), (self.initial_distribution,))
        zero = torch.zeros_like(u)
        takes = zero + self.other_susceptibility
        takes[:, : self._groups[0][0]] = self.susceptibility
        return DRMDPState(takes, first, first, first, zero, zero, zero, zero, zero[:, 0])

    def observe(self, state: DRMDPState, role: str, phase: str) -> Tensor:
        """See the class docstring."""
        numbers = torch.arange(len(self.rewards), device=state.preference.device)
        takes, played = self._believed_susceptibility(state), state.rounds_elapsed[:, None, None]

        def mark(which: Tensor) -> Tensor:
            return (which[..., None] == numbers).to(takes.dtype)

        shape = (*state.preference.shape, -1)
        return torch.cat(
            [
                mark(state.preference),
                mark(state.natural_preference),
                mark(state.initial_preference),
                state.num_influences[..., None],
                played.expand(shape),
                (self.horizon - played).expand(shape),
                takes[..., None],
                self._public_parameters.to(takes.device).expand(shape),
            ],
            -1,
        )

    def _believed_susceptibility(self, state: DRMDPState) -> Float[Tensor, "world agent"]:
        """What assistants hold their person's susceptibility to be."""
        if self.observe_susceptibility:
            return state.susceptibility
        return torch.full_like(state.susceptibility, self._mean_susceptibility)

    def action_mask(self, state: DRMDPState, role: str, phase: str) -> Tensor | None:
        """Influence only where `constrained` and `pareto` allow it."""
        if self.objective == "constrained":
            harmless = torch.tensor(
                self.person_dr_mdp(1.0).preserves_natural_preference, device=state.preference.device
            )
            allowed = (self._believed_susceptibility(state) == 0) | harmless[state.preference]
        elif self.objective == "pareto":
            fine = self.person_dr_mdp(1.0).influence_weakly_dominates
            allowed = torch.full_like(state.preference, fine, dtype=torch.bool)
        else:
            return None
        return torch.stack([torch.ones_like(allowed), allowed], -1)

    def step(
        self, state: DRMDPState, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[DRMDPState]:
        """Rewards by the tastes there are, then tastes move."""
        action = actions["assistant"]
        acted = (action == INFLUENCE).to(state.real_time_return.dtype)
        u = streams.uniform("taste", self.num_people)[..., 0]
        takes = streams.uniform("takes", self.num_people)[..., 0] < state.susceptibility
        left_alone = inverse_cdf(u, state.preference, self.natural_transitions)
        moved = inverse_cdf(u, state.preference, self.influenced_transitions)
        now = self._reward(state.preference, action)
        by_nature = self._reward(state.natural_preference, action)
        after = dataclasses.replace(
            state,
            natural_preference=inverse_cdf(u, state.natural_preference, self.natural_transitions),
            preference=torch.where((action == INFLUENCE) & takes, moved, left_alone),
            num_influences=state.num_influences + acted,
            influenced_in_first_round=torch.where(
                state.rounds_elapsed[:, None] == 0, acted, state.influenced_in_first_round
            ),
            real_time_return=state.real_time_return + now,
            natural_shift_return=state.natural_shift_return + by_nature,
            rounds_elapsed=state.rounds_elapsed + 1,
        )
        yardstick = notions.RETURN_CRITERIA[self.objective]
        if yardstick == "real_time":
            pay = now
        elif yardstick == "natural_shift":
            pay = by_nature
        else:
            pay = self._returns(after)[yardstick] - self._returns(state)[yardstick]
        return StepResult(after, {"assistant": pay}, after.rounds_elapsed >= self.horizon)

    def _reward(self, preference: Tensor, action: Tensor) -> Tensor:
        """Rewards of the actions in the eyes of those tastes."""
        table = torch.tensor(self.rewards, device=preference.device)
        return table[preference, action]

    def _returns(self, state: DRMDPState) -> dict[notions.ReturnCriterion, Tensor]:
        """Sum of rewards so far by each yardstick, `[world, agent]`."""
        table = torch.tensor(self.rewards, device=state.preference.device)
        doing, leaving = state.num_influences, state.rounds_elapsed[:, None] - state.num_influences

        def judged_by(worth: Tensor) -> Tensor:
            return doing * worth[..., INFLUENCE] + leaving * worth[..., NOOP]

        return {
            "real_time": state.real_time_return,
            "final": judged_by(table[state.preference]),
            "initial": judged_by(table[state.initial_preference]),
            "natural_shift": state.natural_shift_return,
            "privileged": judged_by(table[self.privileged_preference]),
            "mean_preference": judged_by(mean(table, 0)),
        }

    # --- what is reported ------------------------------------------------------------------------

    def metrics(self, state: DRMDPState) -> Mapping[str, Tensor]:
        """Means over people, per person.

        influence_share: share of rounds so far with influence.  influenced_at_once: share of people
        influenced in the first round.  converted: share whose taste is not what nature would have
        it be.  return_real_time, return_final, return_initial, return_natural_shift,
        return_privileged: rewards so far by each yardstick.  paid: by that of the objective.
        gap_initial, gap_natural: real-time rewards less those by the first taste, by nature: how
        much of the reward is owed to a change of taste.  targeting_gap: influence share of the
        susceptible less that of the others; none where all are alike.  centre: mean worth of doing
        nothing and of influence in people's eyes.
        """
        returns = {name: mean(summed, 1) for name, summed in self._returns(state).items()}
        share = state.num_influences / state.rounds_elapsed.clamp(min=1.0)[:, None]
        many = self._groups[0][0]
        away = (state.preference != state.natural_preference).to(share.dtype)
        named = {f"return_{name}": of for name, of in returns.items() if name != "mean_preference"}
        return {
            "influence_share": mean(share, 1),
            "first_round_influence_share": mean(state.influenced_in_first_round, 1),
            "preference_shifted_share": mean(away, 1),
            **named,
            "objective_return": returns[notions.RETURN_CRITERIA[self.objective]],
            "return_gap_initial": returns["real_time"] - returns["initial"],
            "return_gap_natural_shift": returns["real_time"] - returns["natural_shift"],
            "targeting_gap": _mean_or_nan(share[:, :many]) - _mean_or_nan(share[:, many:]),
            "mean_value": mean(self._option_rewards(state), 1),
        }

    def _option_rewards(self, state: DRMDPState) -> Float[Tensor, "world agent action"]:
        return torch.tensor(self.rewards, device=state.preference.device)[state.preference]

    def latent(self, state: DRMDPState) -> Mapping[str, Tensor]:
        """What both actions are worth in each person's eyes, and who is susceptible."""
        return {"values": self._option_rewards(state), "susceptibility": state.susceptibility}

    def analytic_values(self, policies: Mapping[str, Policy], rounds: int) -> Mapping[str, Any]:
        """Solved exactly.

        optimum: the best that the objective can come to by the end, a person, with susceptibilities
        known.  switch: the susceptibility from which on real-time reward has a person influenced at
        once, if there is one: a closed form for two tastes as in `susceptibility_threshold`; at_once: 1
        beyond it (at it both is best), for people who are all alike.  Of a `DRMDPPlanner`, what its
        measures come to, by the names of the measures, after each number of rounds.
        """
        found: dict[str, Any] = {}
        if rounds >= self.horizon:
            best = [
                many
                * notions.solve(
                    self.person_dr_mdp(s), self.objective, self.horizon, self.privileged_preference
                ).value
                for many, s in self._groups
            ]
            found["optimal_return"] = sum(best) / self.num_people
        anybody = self.person_dr_mdp(self._mean_susceptibility)
        if (switch := real_time_switch_susceptibility(anybody, self.horizon)) is not None:
            if switch <= 1:
                found["switch_susceptibility"] = switch
            if not all(many for many, _ in self._groups):
                found["first_round_influence_closed_form"] = float(anybody.susceptibility > switch + notions.TIE_TOLERANCE)
        player = policies.get("assistant")
        masked = self.objective in ("constrained", "pareto")
        if isinstance(player, DRMDPPlanner) and (not masked or player.objective == self.objective):
            groups = [
                PersonGroup(
                    many, takes, takes if self.observe_susceptibility else self._mean_susceptibility
                )
                for many, takes in self._groups
            ]
            yardstick = notions.RETURN_CRITERIA[self.objective]
            goal = (self.horizon, self.privileged_preference, yardstick, rounds)
            found |= planner_metrics(player, groups, anybody, *goal)
        return found

    def default_policies(self) -> Mapping[str, Policy]:
        """Assistants that do what is best by the objective."""
        return {
            "assistant": DRMDPPlanner(
                objective=self.objective, privileged_preference=self.privileged_preference
            )
        }


def _check_distribution(name: str, probabilities: tuple[float, ...], num_preferences: int) -> None:
    if (
        len(probabilities) != num_preferences
        or min(probabilities) < 0
        or abs(sum(probabilities) - 1.0) > 1e-6
    ):
        raise ParameterError(
            name,
            message=f"{name}: {num_preferences} shares that sum to 1, not {list(probabilities)}",
            code="invalid_value",
        )


def _mean_or_nan(x: Float[Tensor, "world agent"]) -> Float[Tensor, " world"]:
    """Mean over the agents, if there are any."""
    return total(x, 1) / x.shape[1] if x.shape[1] else torch.full_like(x[:, :0].sum(1), torch.nan)


if __name__ == "__main__":
    from mores.sim.demo import show

    show(DRMDP(susceptibility=0.7, susceptible_share=0.5), rounds=20)

"""DRMDP: people whose preferences change, and assistants that can change them.

Carroll et al. 2024 (arXiv 2405.17713; formulas from memory, not compared with its text). Each
person has an assistant and a preference that depends on its actions: successful influence makes
influence preferred. Which assistant behavior is optimal depends on the preference that evaluates
it: present, last, initial or natural (without influence).
`mores.envs.influence.alignment_objectives` solves all cases exactly.

Demo: `python -m mores.envs.influence.dr_mdp`.
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
from mores.core.environment import Environment, Phase, Role, StepResult
from mores.core.errors import ParameterError, UserError
from mores.core.people import People
from mores.core.plain_text import read_parts
from mores.core.policy import Policy
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Discrete, Part
from mores.core.stream_addresses import PREFERENCE, SUSCEPTIBLE
from mores.core.turn_text import TurnText
from mores.envs.influence import alignment_objectives as objectives
from mores.envs.influence import dr_mdp_text as texts
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
    """State between rounds."""

    susceptibility: Float[Tensor, "world agent"]
    initial_preference: Int[Tensor, "world agent"]
    natural_preference: Int[Tensor, "world agent"]  # without any influence
    preference: Int[Tensor, "world agent"]
    num_influences: Float[Tensor, "world agent"]  # so far
    influenced_in_first_round: Float[Tensor, "world agent"]  # 1: influenced in the first round
    real_time_return: Float[Tensor, "world agent"]  # by present preferences
    natural_shift_return: Float[Tensor, "world agent"]  # by natural preferences
    rounds_elapsed: Float[Tensor, " world"]


class DRMDP(Environment[DRMDPState]):
    """People with changing preferences, each with an assistant that may influence them.

    Description:
        Each round every assistant does nothing or influences its person, whose preference then
        changes. People do not act. Left out: the content of actions, resistance and consent,
        contacts between people, noise in rewards, and learning of the transition probabilities.

    Roles:
        assistant (`num_people`): one per person.

    Observation (n preferences, T = `horizon`; the first seven parts concern the own person):
        preference              n    one-hot   present preference
        natural_preference      n    one-hot   present preference without any influence
        initial_preference      n    one-hot   preference at the start
        num_influences          1    [0, T]    influences so far
        rounds_elapsed          1    [0, T]    rounds so far
        rounds_remaining        1    [0, T]    rounds to the end
        susceptibility          1    [0, 1]    own, or people's mean if not `observe_susceptibility`
        rewards                 2n   any       by preference and action
        natural_transitions     n*n  [0, 1]    probabilities, by preference and next preference
        influenced_transitions  n*n  [0, 1]    the same for successful influence
        initial_distribution    n    [0, 1]    probabilities of initial preferences

    Action:
        0 do nothing, 1 influence. Influence is masked for `constrained` where it could move a
        person from the natural preference, and for `pareto` if a preference rewards it less.

    Reward (sums to the criterion of `objective` at every round):
        real_time, initial, natural_shift, privileged: R_theta(action) with the present, initial,
        natural, given preference theta. final: change of the sum over all actions so far evaluated
        by the present preference. constrained: as real_time, with mask. pareto: mean over
        preferences, with mask. myopic: as real_time; gamma = 0 is not enforced.

    Dynamics:
        `mores.envs.influence.person_dr_mdp`: influence succeeds with the person's susceptibility;
        otherwise, and without influence, the natural transition applies.

    Start:
        Preferences from `initial_distribution`. The first `susceptible_share` of the people,
        rounded, have `susceptibility`, the others `other_susceptibility`.

    End:
        Terminates after `horizon` rounds. Truncated episodes bootstrap: their return is not 0.

    Parameters:
        See the fields: each has its range and meaning. Default preferences are 0 natural and 1
        shifted; influence leads to 1, no influence to 0.

    References:
        Carroll et al. 2024, arXiv 2405.17713, by formulas from memory; the example with two
        preferences is from mores.
    """

    tags: ClassVar[Mapping[str, object]] = {
        "phases": 1,
        "changes": "rewards",
        "stochastic": True,
        "masks": True,
        "paper": "2405.17713",
    }
    dimension_names: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "mean_value": ("value",),
        "values": ("person", "value"),
        "susceptibility": ("person",),
    }
    solver_values: ClassVar[frozenset[str]] = frozenset({"optimal_return"})

    num_people: int = Field(default=8, ge=1, le=1_000_000, description="number of people")
    horizon: int = Field(default=20, ge=1, le=200, description="rounds until the end")
    objective: AlignmentObjective = Field(
        default="real_time", description="criterion of the reward"
    )
    privileged_preference: int = Field(
        default=0, ge=0, description="preference theta* of privileged"
    )
    constrain_last_action: bool = Field(
        default=True,
        description="constrained: whether it binds the preference after the last action, too",
    )
    rewards: Matrix = Field(
        default=((1.0, -1.0), (1.0, 3.0)),
        min_length=2,
        max_length=6,
        description="rewards of doing nothing and of influence, by preference",
    )
    natural_transitions: Matrix = Field(
        default=((1.0, 0.0), (1.0, 0.0)),
        description="transition probabilities without influence, one row per preference",
    )
    influenced_transitions: Matrix = Field(
        default=((0.0, 1.0), (0.0, 1.0)),
        description="transition probabilities of successful influence, likewise",
    )
    initial_distribution: tuple[float, ...] = Field(
        default=(1.0, 0.0), description="probabilities of initial preferences"
    )
    susceptibility: float = Field(
        default=1.0, ge=0, le=1, description="probability that influence succeeds"
    )
    susceptible_share: float = Field(
        default=1.0, ge=0, le=1, description="share of people with `susceptibility`, rounded"
    )
    other_susceptibility: float = Field(default=0.0, ge=0, le=1, description="of other people")
    observe_susceptibility: bool = Field(
        default=True, description="whether assistants observe the own person's susceptibility"
    )

    def model_post_init(self, context: Any) -> None:
        """Refuse incompatible parameters."""
        size = len(self.rewards)
        if any(len(row) != 2 for row in self.rewards):
            raise ParameterError(
                "rewards",
                message="rewards: each row has two numbers (doing nothing, influence)",
                code="wrong_shape",
            )
        for name, rows in (
            ("natural_transitions", self.natural_transitions),
            ("influenced_transitions", self.influenced_transitions),
        ):
            if len(rows) != size:
                raise ParameterError(
                    message=f"{name} has {len(rows)} rows; rewards has {size}", code="wrong_shape"
                )
            for row in rows:
                _check_distribution(name, row, size)
        _check_distribution("initial_distribution", self.initial_distribution, size)
        if self.privileged_preference >= size:
            raise ParameterError(
                "privileged_preference",
                message=f"privileged_preference must be 0 to {size - 1}",
                code="out_of_range",
            )

    # --- static data -----------------------------------------------------------------------------

    @functools.cached_property
    def _groups(self) -> tuple[tuple[int, float], ...]:
        """Number and susceptibility of the susceptible and of the other people."""
        susceptible = round(self.susceptible_share * self.num_people)
        others = self.num_people - susceptible
        return (susceptible, self.susceptibility), (others, self.other_susceptibility)

    @functools.cached_property
    def _mean_susceptibility(self) -> float:
        return sum(count * p for count, p in self._groups) / self.num_people

    def person_dr_mdp(self, susceptibility: float) -> PersonDRMDP:
        """DR-MDP of a person with that susceptibility."""
        return PersonDRMDP(
            self.rewards,
            self.natural_transitions,
            self.influenced_transitions,
            susceptibility,
            self.initial_distribution,
        )

    @functools.cached_property
    def _public_parameters(self) -> Float[Tensor, " number"]:
        """Parts of the observation that are equal for all assistants."""
        rows = (
            *self.rewards,
            *self.natural_transitions,
            *self.influenced_transitions,
            self.initial_distribution,
        )
        return torch.tensor([number for row in rows for number in row])

    @property
    def value_names(self) -> tuple[str, ...]:
        """A person's values are the rewards of the assistant's two actions."""
        return ("doing nothing", "influence")

    @property
    def roles(self) -> tuple[Role, ...]:
        """`assistant`, one per person."""
        size = len(self.rewards)
        one_hot, rounds = Part(size, 0.0, 1.0), Part(1, 0.0, float(self.horizon))
        space = Box.of(
            preference=one_hot,
            natural_preference=one_hot,
            initial_preference=one_hot,
            num_influences=rounds,
            rounds_elapsed=rounds,
            rounds_remaining=rounds,
            susceptibility=Part(1, 0.0, 1.0),
            rewards=2 * size,
            natural_transitions=Part(size * size, 0.0, 1.0),
            influenced_transitions=Part(size * size, 0.0, 1.0),
            initial_distribution=one_hot,
        )
        return (Role("assistant", self.num_people, space),)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """All assistants act simultaneously."""
        return (Phase("assist", {"assistant": Discrete(2)}),)

    # --- text ------------------------------------------------------------------------------------

    def role_rules(self, role: str) -> str:
        """Preferences, their changes, and what the objective rewards."""
        return texts.rules(
            self.objective,
            self.horizon,
            self.rewards,
            self.natural_transitions,
            self.influenced_transitions,
            self.initial_distribution,
            self.privileged_preference,
        )

    def describe(
        self, role: str, phase: str, observation: Tensor, action_mask: Tensor | None = None
    ) -> TurnText:
        """Present, natural and first preference, and both actions."""
        return texts.turn(read_parts(self.roles[0].observation_space, observation))

    # --- dynamics --------------------------------------------------------------------------------

    def reset(self, streams: RandomStreams, people: People | None = None) -> DRMDPState:
        """Initial state: preferences from `initial_distribution`, no influences."""
        if people is not None:
            raise UserError(
                "dr_mdp accepts no population: its people have preferences, not values",
                code="unsupported",
                path="population",
            )
        u = streams.uniform("start", self.num_people)[..., 0]
        zero, row = torch.zeros_like(u), torch.zeros_like(u, dtype=torch.int64)
        initial = inverse_cdf(u, row, (self.initial_distribution,))
        susceptibility = zero + self.other_susceptibility
        susceptibility[:, : self._groups[0][0]] = self.susceptibility
        preferences, sums = (initial, initial, initial), (zero, zero, zero, zero)
        return DRMDPState(susceptibility, *preferences, *sums, zero[:, 0])

    def observe(self, state: DRMDPState, role: str, phase: str) -> Tensor:
        """See the class docstring."""
        indices = torch.arange(len(self.rewards), device=state.preference.device)
        susceptibility, elapsed = self._believed_susceptibility(state), state.rounds_elapsed
        elapsed = elapsed[:, None, None]

        def one_hot(preference: Tensor) -> Tensor:
            return (preference[..., None] == indices).to(susceptibility.dtype)

        shape = (*state.preference.shape, -1)
        return torch.cat(
            [
                one_hot(state.preference),
                one_hot(state.natural_preference),
                one_hot(state.initial_preference),
                state.num_influences[..., None],
                elapsed.expand(shape),
                (self.horizon - elapsed).expand(shape),
                susceptibility[..., None],
                self._public_parameters.to(susceptibility.device).expand(shape),
            ],
            -1,
        )

    def _believed_susceptibility(self, state: DRMDPState) -> Float[Tensor, "world agent"]:
        """Susceptibility that assistants observe."""
        if self.observe_susceptibility:
            return state.susceptibility
        return torch.full_like(state.susceptibility, self._mean_susceptibility)

    def action_mask(self, state: DRMDPState, role: str, phase: str) -> Tensor | None:
        """Influence is legal where `constrained` or `pareto` allow it."""
        if self.objective == "constrained":
            preserving = torch.tensor(
                self.person_dr_mdp(1.0).preserves_natural_preference, device=state.preference.device
            )
            allowed = (self._believed_susceptibility(state) == 0) | preserving[state.preference]
            if not self.constrain_last_action:
                allowed = allowed | (state.rounds_elapsed >= self.horizon - 1)[:, None]
        elif self.objective == "pareto":
            dominates = self.person_dr_mdp(1.0).influence_weakly_dominates
            allowed = torch.full_like(state.preference, dominates, dtype=torch.bool)
        else:
            return None
        return torch.stack([torch.ones_like(allowed), allowed], -1)

    def step(
        self, state: DRMDPState, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[DRMDPState]:
        """Rewards by the present state; then preferences change."""
        action = actions["assistant"]
        influence = (action == INFLUENCE).to(state.real_time_return.dtype)
        u = streams.uniform(PREFERENCE, self.num_people)[..., 0]
        succeeds = streams.uniform(SUSCEPTIBLE, self.num_people)[..., 0] < state.susceptibility
        natural = inverse_cdf(u, state.preference, self.natural_transitions)
        influenced = inverse_cdf(u, state.preference, self.influenced_transitions)
        reward = self._reward(state.preference, action)
        natural_reward = self._reward(state.natural_preference, action)
        next_state = dataclasses.replace(
            state,
            natural_preference=inverse_cdf(u, state.natural_preference, self.natural_transitions),
            preference=torch.where((action == INFLUENCE) & succeeds, influenced, natural),
            num_influences=state.num_influences + influence,
            influenced_in_first_round=torch.where(
                state.rounds_elapsed[:, None] == 0, influence, state.influenced_in_first_round
            ),
            real_time_return=state.real_time_return + reward,
            natural_shift_return=state.natural_shift_return + natural_reward,
            rounds_elapsed=state.rounds_elapsed + 1,
        )
        criterion = objectives.RETURN_CRITERIA[self.objective]
        if criterion == "natural_shift":
            reward = natural_reward
        elif criterion != "real_time":
            reward = self._returns(next_state)[criterion] - self._returns(state)[criterion]
        terminated = next_state.rounds_elapsed >= self.horizon
        return StepResult(next_state, {"assistant": reward}, terminated)

    def _reward(self, preference: Tensor, action: Tensor) -> Tensor:
        """Rewards of the actions by the given preferences."""
        return torch.tensor(self.rewards, device=preference.device)[preference, action]

    def _returns(self, state: DRMDPState) -> dict[objectives.ReturnCriterion, Tensor]:
        """Sum of rewards so far by each criterion, `[world, agent]`."""
        rewards = torch.tensor(self.rewards, device=state.preference.device)
        influences = state.num_influences
        noops = state.rounds_elapsed[:, None] - influences

        def evaluate(reward: Tensor) -> Tensor:
            return influences * reward[..., INFLUENCE] + noops * reward[..., NOOP]

        return {
            "real_time": state.real_time_return,
            "final": evaluate(rewards[state.preference]),
            "initial": evaluate(rewards[state.initial_preference]),
            "natural_shift": state.natural_shift_return,
            "privileged": evaluate(rewards[self.privileged_preference]),
            "mean_preference": evaluate(mean(rewards, 0)),
        }

    # --- metrics ---------------------------------------------------------------------------------

    def metrics(self, state: DRMDPState) -> Mapping[str, Tensor]:
        """Means over people.

        influence_share: share of rounds so far with influence.  first_round_influence_share: share
        of people influenced in the first round.  preference_shifted_share: share with another than
        the natural preference.  return_real_time, return_final, return_initial,
        return_natural_shift, return_privileged: sums of rewards so far by each criterion.
        objective_return: by that of the objective.  return_gap_initial, return_gap_natural_shift:
        return_real_time minus the other, the return due to changed preferences.  targeting_gap:
        influence_share of susceptible minus that of other people; NaN if all are equal.
        mean_value: rewards of both actions by present preferences `[world, action]`.
        """
        returns = {name: mean(x, 1) for name, x in self._returns(state).items()}
        share = state.num_influences / state.rounds_elapsed.clamp(min=1.0)[:, None]
        count = self._groups[0][0]
        shifted = (state.preference != state.natural_preference).to(share.dtype)
        named = {f"return_{name}": x for name, x in returns.items() if name != "mean_preference"}
        return {
            "influence_share": mean(share, 1),
            "first_round_influence_share": mean(state.influenced_in_first_round, 1),
            "preference_shifted_share": mean(shifted, 1),
            **named,
            "objective_return": returns[objectives.RETURN_CRITERIA[self.objective]],
            "return_gap_initial": returns["real_time"] - returns["initial"],
            "return_gap_natural_shift": returns["real_time"] - returns["natural_shift"],
            "targeting_gap": _mean_or_nan(share[:, :count]) - _mean_or_nan(share[:, count:]),
            "mean_value": mean(self._option_rewards(state), 1),
        }

    @property
    def metric_bounds(self) -> Mapping[str, tuple[float, float]]:
        """Shares lie between 0 and 1, differences of two shares between -1 and 1."""
        shares = ("influence_share", "first_round_influence_share", "preference_shifted_share")
        return {**dict.fromkeys(shares, (0.0, 1.0)), "targeting_gap": (-1.0, 1.0)}

    def _option_rewards(self, state: DRMDPState) -> Float[Tensor, "world agent action"]:
        return torch.tensor(self.rewards, device=state.preference.device)[state.preference]

    def latent(self, state: DRMDPState) -> Mapping[str, Tensor]:
        """Rewards of both actions by each person's preference, and susceptibilities."""
        return {"values": self._option_rewards(state), "susceptibility": state.susceptibility}

    def people(self, state: DRMDPState) -> People:
        """Values are the rewards of both actions by present preferences."""
        return People(self._option_rewards(state), {"susceptibility": state.susceptibility})

    def analytic_values(self, policies: Mapping[str, Policy], rounds: int) -> Mapping[str, Any]:
        """Exact values.

        optimal_return: largest expected return of the objective at the end, mean over people, with
        known susceptibilities.  switch_susceptibility: see `susceptibility_threshold`.
        first_round_influence_closed_form: 1 above it, else 0, for equal people.  With a
        `DRMDPPlanner`: expectations of metrics by name, after each number of rounds.
        """
        values: dict[str, Any] = {}
        if rounds >= self.horizon:
            planner = self._optimal_planner
            optimum = [
                count * planner.optimal_policies(self.person_dr_mdp(p), self.horizon).value
                for count, p in self._groups
            ]
            values["optimal_return"] = sum(optimum) / self.num_people
        person = self.person_dr_mdp(self._mean_susceptibility)
        if (switch := real_time_switch_susceptibility(person, self.horizon)) is not None:
            if switch <= 1:
                values["switch_susceptibility"] = switch
            if not all(count for count, _ in self._groups):
                values["first_round_influence_closed_form"] = float(
                    person.susceptibility > switch + objectives.TIE_TOLERANCE
                )
        policy = policies.get("assistant")
        masked = self.objective in ("constrained", "pareto")
        if isinstance(policy, DRMDPPlanner) and (not masked or self._has_own_mask(policy)):
            observed, average = self.observe_susceptibility, self._mean_susceptibility
            groups = [PersonGroup(n, p, p if observed else average) for n, p in self._groups]
            criterion = objectives.RETURN_CRITERIA[self.objective]
            setting = (self.horizon, self.privileged_preference, criterion, rounds)
            values |= planner_metrics(policy, groups, person, *setting)
        return values

    def default_policies(self) -> Mapping[str, Any]:
        """Assistants that are optimal by the objective."""
        names = ("objective", "privileged_preference", "constrain_last_action")
        parameters = {name: getattr(self, name) for name in names}
        return {"assistant": {"kind": "dr_mdp_planner", **parameters}}

    @functools.cached_property
    def _optimal_planner(self) -> DRMDPPlanner:
        """Planner of the environment's objective."""
        return DRMDPPlanner(
            objective=self.objective,
            privileged_preference=self.privileged_preference,
            constrain_last_action=self.constrain_last_action,
        )

    def _has_own_mask(self, planner: DRMDPPlanner) -> bool:
        """Whether a planner's objective excludes the actions that the environment masks."""
        same_end = planner.constrain_last_action == self.constrain_last_action
        return planner.objective == self.objective and (same_end or self.objective == "pareto")


def _check_distribution(name: str, probabilities: tuple[float, ...], num_preferences: int) -> None:
    if (
        len(probabilities) != num_preferences
        or min(probabilities) < 0
        or abs(sum(probabilities) - 1.0) > 1e-6
    ):
        raise ParameterError(
            name,
            message=f"{name}: {list(probabilities)} is not {num_preferences} shares with sum 1",
            code="invalid_value",
        )


def _mean_or_nan(x: Float[Tensor, "world agent"]) -> Float[Tensor, " world"]:
    """Mean over agents; NaN without agents."""
    return total(x, 1) / x.shape[1] if x.shape[1] else torch.full_like(x[:, :0].sum(1), torch.nan)


if __name__ == "__main__":
    from mores.sim.demo import show

    show(DRMDP(susceptibility=0.7, susceptible_share=0.5), rounds=20)

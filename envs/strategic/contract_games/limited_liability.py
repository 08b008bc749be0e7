"""Hidden effort of a risk-neutral agent whose wages cannot be negative.

Laffont and Martimort 2002, chapter 4; closed form in `mores.envs.strategic.contract_values`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mores.core.deterministic_sum import mean, total
from mores.core.environment import Phase, PolicyQuery, Role, StepResult
from mores.core.errors import ParameterError
from mores.core.people import People
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Discrete, Part
from mores.core.stream_addresses import OUTPUT_NOISE
from mores.core.turn_text import TurnText
from mores.envs.strategic.contract_games import limited_liability_text as texts
from mores.envs.strategic.contract_games.game import (
    ContractGame,
    best_options,
    random_rewards,
    refuse_people,
)
from mores.envs.strategic.contract_values import (
    LimitedLiabilityContract,
    limited_liability_contract,
)

REFUSE, SHIRK, WORK = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class LimitedLiabilityState:
    """State of a round."""

    wages: Float[Tensor, "world 2"]  # after failure, after success
    choice: Float[Tensor, "world agent"]  # private: 0 refuse, 1 shirk, 2 work
    success: Float[Tensor, "world agent"]  # 1: success
    wage: Float[Tensor, "world agent"]


class LimitedLiability(ContractGame[LimitedLiabilityState]):
    """Wages after success and failure, none negative, for agents with hidden effort.

    Description:
        Each round the principal offers all agents the same two wages; each agent refuses, shirks or
        works; effort raises the probability of success. Wages cannot be negative, so that agents
        keep a rent. Left out: risk aversion, several outcomes, repeated relations, monitoring.

    Roles:
        principal (1), agent (`num_agents`).

    Observation:
        principal  successes  1  [0, 1]    share of the agents with success in the last round
        agent      wages      2  [0, inf)  offered wages after failure and after success

    Action:
        principal, phase offer: `wages`, each in [0, max_wage].
        agent, phase work: 0 refuse, 1 shirk, 2 work.

    Reward:
        principal: `success_value` for each success, less wages. agent: wage, less `effort_cost`
        after 2; 0 after a refusal. `reward_source: random`: standard normal numbers.

    Dynamics:
        Success has probability `effort_success` after 2, `shirk_success` after 1, 0 after 0.

    Start:
        No offers.

    End:
        Never terminates.

    Parameters:
        See the fields.

    References:
        Laffont and Martimort 2002, The Theory of Incentives, chapter 4.
    """

    tags: ClassVar[Mapping[str, object]] = {"phases": 2, "changes": "contracts", "stochastic": True}
    dimension_names: ClassVar[Mapping[str, tuple[str, ...]]] = {"policy_wages": ("outcome",)}

    num_agents: int = Field(default=2, ge=1, le=10_000, description="number of agents")
    effort_success: float = Field(
        default=0.8, ge=0, le=1, description="probability of success after effort"
    )
    shirk_success: float = Field(
        default=0.5, ge=0, le=1, description="probability of success without effort"
    )
    effort_cost: float = Field(default=0.2, ge=0, le=100, description="cost of effort")
    success_value: float = Field(
        default=2.0, ge=0, le=100, description="value of a success to the principal"
    )
    max_wage: float = Field(default=2.0, gt=0, le=100, description="largest wage")
    reward_source: Literal["outcome", "random"] = Field(
        default="outcome", description="random: rewards are noise, without any signal"
    )

    def model_post_init(self, context: Any) -> None:
        """Refuse effort without effect."""
        if self.shirk_success >= self.effort_success:
            message = "shirk_success must be below effort_success"
            raise ParameterError(message=message, code="conflict")

    @property
    def best(self) -> LimitedLiabilityContract:
        """The optimal contract with wages up to `max_wage`."""
        chances = (self.effort_success, self.shirk_success)
        return limited_liability_contract(
            *chances, self.effort_cost, self.success_value, self.max_wage
        )

    @property
    def roles(self) -> tuple[Role, ...]:
        """`principal` and `agent`."""
        principal = Box.of(successes=Part(1, 0.0, 1.0))
        agent = Box.of(wages=Part(2, 0.0, self.max_wage))
        return Role("principal", 1, principal), Role("agent", self.num_agents, agent)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """`offer`, `work`."""
        wages = Box.of(wages=Part(2, 0.0, self.max_wage))
        return Phase("offer", {"principal": wages}), Phase("work", {"agent": Discrete(3)})

    def reset(self, streams: RandomStreams, people: People | None = None) -> LimitedLiabilityState:
        """No offers."""
        refuse_people("contracts", people)
        zero = torch.zeros(streams.num_worlds, self.num_agents, device=streams.device)
        return LimitedLiabilityState(zero.new_zeros(len(zero), 2), zero, zero, zero)

    def observe(self, state: LimitedLiabilityState, role: str, phase: str) -> Tensor:
        """See the class docstring."""
        if role == "principal":
            return mean(state.success, 1)[:, None, None]
        return state.wages[:, None].expand(-1, self.num_agents, -1)

    def step(
        self,
        state: LimitedLiabilityState,
        phase: str,
        actions: Mapping[str, Tensor],
        streams: RandomStreams,
    ) -> StepResult[LimitedLiabilityState]:
        """`offer` sets the wages, `work` decides success and pays."""
        if phase == "offer":
            wages = actions["principal"][:, 0].to(torch.float32)
            return StepResult(dataclasses.replace(state, wages=wages))
        choice = actions["agent"]
        chance = torch.tensor([0.0, self.shirk_success, self.effort_success], device=choice.device)
        u = streams.uniform(OUTPUT_NOISE, self.num_agents)[..., 0]
        success = (u < chance[choice]).to(u.dtype)
        low, high = state.wages[:, None, 0], state.wages[:, None, 1]
        wage = torch.where(choice == REFUSE, 0.0, torch.where(success > 0, high, low))
        income = wage - self.effort_cost * (choice == WORK)
        profit = total(self.success_value * success - wage, 1)[:, None]
        reward = {"principal": profit, "agent": income}
        if self.reward_source == "random":
            reward = random_rewards(streams, self.roles)
        choice = choice.to(u.dtype)
        return StepResult(LimitedLiabilityState(state.wages, choice, success, wage), reward)

    def solution(
        self, role: str, phase: str, observation: Float[Tensor, "world agent query size"]
    ) -> Tensor:
        """Second-best wages; the option with the largest expected income."""
        if role == "principal":
            wages = observation.new_tensor([self.best.failure_wage, self.best.success_wage])
            return wages.expand(*observation.shape[:-1], -1)
        income = self._incomes(observation)
        return best_options(income)

    def _incomes(self, wages: Float[Tensor, "*lead 2"]) -> Float[Tensor, "*lead 3"]:
        """Expected income of refusing, shirking and working."""
        low, high = wages.unbind(-1)
        shirk = low + self.shirk_success * (high - low)
        work = low + self.effort_success * (high - low) - self.effort_cost
        return torch.stack([torch.zeros_like(low), shirk, work], -1)

    def metrics(self, state: LimitedLiabilityState) -> Mapping[str, Tensor]:
        """Bonus, and shares and means over agents."""
        work = (state.choice == WORK).to(torch.float32)
        rent = state.wage - self.effort_cost * work
        profit = self.success_value * state.success - state.wage
        return {
            "bonus": state.wages[:, 1] - state.wages[:, 0],
            "effort_share": mean(work, 1),
            "success_share": mean(state.success, 1),
            "principal_payoff": mean(profit, 1),
            "agent_payoff": mean(rent, 1),
        }

    @property
    def metric_bounds(self) -> Mapping[str, tuple[float, float]]:
        """Shares lie between 0 and 1."""
        return {"effort_share": (0.0, 1.0), "success_share": (0.0, 1.0)}

    @property
    def policy_metric_names(self) -> tuple[str, ...]:
        """Mean offer, expected profit against rational agents; effort at the optimal wages.

        `exploitability`: the principal's loss by its offer, plus the agents' loss at the
        optimal wages.
        """
        return ("policy_wages", "policy_profit", "policy_effort", "exploitability")

    def policy_queries(self, state: LimitedLiabilityState) -> Mapping[str, PolicyQuery]:
        """The principal's observation; agents with the optimal wages."""
        principal = self.observe(state, "principal", "offer")[:, :, None]
        wages = self.solution("principal", "offer", principal)
        wages = wages.expand(-1, self.num_agents, -1, -1)
        return {
            "offer": PolicyQuery("principal", "offer", principal),
            "work": PolicyQuery("agent", "work", wages),
        }

    def policy_metrics(
        self, state: LimitedLiabilityState, answers: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Values without noise, per agent."""
        wages = answers["offer"][:, 0, 0]
        low, high = wages.unbind(-1)
        chance = wages.new_tensor([0.0, self.shirk_success, self.effort_success])
        paid = low[:, None] * wages.new_tensor([0.0, 1.0, 1.0]) + chance * (high - low)[:, None]
        profit = best_options(self._incomes(wages)) * (self.success_value * chance - paid)
        profit = total(profit, 1)
        values = self.analytic_values({}, 1)
        choice = answers["work"][:, :, 0]
        income = self._incomes(self.solution("principal", "offer", wages[:, None, None])[:, 0, 0])
        lost = income.amax(-1) - mean(total(choice * income[:, None], -1), 1)
        return {
            "policy_wages": wages,
            "policy_profit": profit,
            "policy_effort": mean(choice[..., WORK], 1),
            "exploitability": values["solution_principal_payoff"] - profit + lost,
        }

    def analytic_values(self, policies: Mapping[str, Any], rounds: int) -> Mapping[str, float]:
        """The optimal contract."""
        best = self.best
        return {
            "optimal_bonus": best.success_wage - best.failure_wage,
            "solution_principal_payoff": best.profit,
            "solution_agent_payoff": best.rent,
        }

    def role_rules(self, role: str) -> str:
        """Chances of success, the cost of effort and the reward."""
        chances = (self.effort_success, self.shirk_success)
        return texts.rules(role, *chances, self.effort_cost, self.success_value)

    def describe(
        self, role: str, phase: str, observation: Tensor, action_mask: Tensor | None = None
    ) -> TurnText:
        """Successes or wages, and the offer or the work."""
        if role == "principal":
            return texts.principal_turn(float(observation[0]), self.max_wage)
        chances = (self.effort_success, self.shirk_success)
        return texts.agent_turn(observation.tolist(), *chances, self.effort_cost)

    def render(self, state: LimitedLiabilityState, world: int = 0) -> str:
        """Offer, and what every agent did."""
        low, high = state.wages[world].tolist()
        lines = [f"the principal offers {low:.2f} after failure and {high:.2f} after success"]
        for agent in range(self.num_agents):
            did = ("refused", "shirked", "worked")[int(state.choice[world, agent])]
            result = "success" if state.success[world, agent] > 0 else "failure"
            wage = state.wage[world, agent].item()
            lines.append(f"agent {agent} {did}: {result}, wage {wage:.2f}")
        return "\n".join(lines)

"""Screening: a menu of quantities and payments for agents who know their costs.

Laffont and Martimort 2002, chapter 2; closed form in `mores.envs.strategic.contract_values`.
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
from mores.core.turn_text import TurnText
from mores.envs.strategic.contract_games import screening_text as texts
from mores.envs.strategic.contract_games.game import (
    ContractGame,
    best_options,
    random_rewards,
    refuse_people,
)
from mores.envs.strategic.contract_values import screening_menu

NUM_ITEMS = 2  # of the menu; option 0 of an agent is to refuse both


@dataclasses.dataclass(frozen=True)
class ScreeningState:
    """State of a round."""

    cost: Float[Tensor, "world agent"]  # private, new in every round
    quantities: Float[Tensor, "world item"]
    payments: Float[Tensor, "world item"]
    choice: Float[Tensor, "world agent"]  # 0: refused; else the number of the item


class Screening(ContractGame[ScreeningState]):
    """A menu of two items for agents with private costs.

    Description:
        Each round the principal posts two items, each a quantity and a payment. An agent knows its
        cost of a unit, low or high, and takes one of the items or none. The efficient agent keeps a
        rent since it could take the other's item. Left out: more types, random menus, competition
        between principals, and dynamics (costs are new in every round).

    Roles:
        principal (1), agent (`num_agents`).

    Observation:
        principal  taken       2  [0, 1]    share of the agents with each item in the last round
        agent      cost        1  (0, inf)  own cost of a unit
        agent      quantities  2  [0, inf)  of the items
        agent      payments    2  [0, inf)  of the items

    Action:
        principal, phase offer: `quantities`, two in [0, max_quantity]; `payments`, two in
        [0, max_payment].
        agent, phase choose: 0 refuse, 1 the first item, 2 the second item.

    Reward:
        principal: sum over agents of 2 sqrt(q) - t; agent: t - cost q; 0 after a refusal.
        `reward_source: random`: standard normal numbers.

    Dynamics:
        Costs are `low_cost` with probability `low_share`, else `high_cost`, drawn in every round.

    Start:
        No menu.

    End:
        Never terminates.

    Parameters:
        See the fields.

    References:
        Laffont and Martimort 2002, The Theory of Incentives, chapter 2.
    """

    tags: ClassVar[Mapping[str, object]] = {"phases": 2, "changes": "contracts", "stochastic": True}
    dimension_names: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "policy_quantities": ("item",),
        "policy_payments": ("item",),
    }

    num_agents: int = Field(default=2, ge=1, le=10_000, description="number of agents")
    low_cost: float = Field(
        default=1.0, gt=0, le=100, description="unit cost of an efficient agent"
    )
    high_cost: float = Field(default=1.5, gt=0, le=100, description="unit cost of the other agents")
    low_share: float = Field(default=0.6, gt=0, lt=1, description="probability of the low cost")
    max_quantity: float = Field(default=2.0, gt=0, le=1e4, description="largest quantity")
    max_payment: float = Field(default=2.0, gt=0, le=1e4, description="largest payment")
    reward_source: Literal["outcome", "random"] = Field(
        default="outcome", description="random: rewards are noise, without any signal"
    )

    def model_post_init(self, context: Any) -> None:
        """Refuse equal costs, and bounds below the optimal menu: its closed form has none."""
        if self.low_cost >= self.high_cost:
            raise ParameterError(message="low_cost must be below high_cost", code="conflict")
        menu = screening_menu(self.low_cost, self.high_cost, self.low_share)
        for name, limit, numbers in (
            ("max_quantity", self.max_quantity, menu.quantities),
            ("max_payment", self.max_payment, menu.payments),
        ):
            if max(numbers) > limit:
                message = f"{name}: must be at least {max(numbers):.6g}, as in the optimal menu"
                raise ParameterError(name, message=message, code="out_of_range")

    @property
    def roles(self) -> tuple[Role, ...]:
        """`principal` and `agent`."""
        quantities, payments = Part(2, 0.0, self.max_quantity), Part(2, 0.0, self.max_payment)
        agent = Box.of(cost=Part(1, 0.0), quantities=quantities, payments=payments)
        principal = Box.of(taken=Part(NUM_ITEMS, 0.0, 1.0))
        return Role("principal", 1, principal), Role("agent", self.num_agents, agent)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """`offer`, `choose`."""
        quantities, payments = Part(2, 0.0, self.max_quantity), Part(2, 0.0, self.max_payment)
        menu = Box.of(quantities=quantities, payments=payments)
        return (
            Phase("offer", {"principal": menu}),
            Phase("choose", {"agent": Discrete(1 + NUM_ITEMS)}),
        )

    def reset(self, streams: RandomStreams, people: People | None = None) -> ScreeningState:
        """No menu; costs are drawn with the first one."""
        refuse_people("contracts", people)
        zero = torch.zeros(streams.num_worlds, self.num_agents, device=streams.device)
        items = zero.new_zeros(len(zero), NUM_ITEMS)
        return ScreeningState(zero + self.high_cost, items, items, zero)

    def observe(self, state: ScreeningState, role: str, phase: str) -> Tensor:
        """See the class docstring."""
        if role == "principal":
            taken = [mean((state.choice == 1 + i).to(torch.float32), 1) for i in range(NUM_ITEMS)]
            return torch.stack(taken, -1)[:, None]
        menu = torch.cat([state.quantities, state.payments], -1)
        return torch.cat([state.cost[..., None], menu[:, None].expand(-1, self.num_agents, -1)], -1)

    def step(
        self,
        state: ScreeningState,
        phase: str,
        actions: Mapping[str, Tensor],
        streams: RandomStreams,
    ) -> StepResult[ScreeningState]:
        """`offer` posts the menu and draws costs, `choose` trades."""
        if phase == "offer":
            menu = actions["principal"][:, 0].to(torch.float32)
            u = streams.uniform("agent type", self.num_agents)[..., 0]
            cost = torch.where(u < self.low_share, self.low_cost, self.high_cost)
            return StepResult(ScreeningState(cost, menu[:, :2], menu[:, 2:], torch.zeros_like(u)))
        choice = actions["agent"]
        agent, principal = self._incomes(state.quantities[:, None], state.payments[:, None], state)
        index = choice[..., None]
        income = agent.gather(-1, index)[..., 0]
        profit = total(principal.expand_as(agent).gather(-1, index)[..., 0], 1)[:, None]
        reward = {"principal": profit, "agent": income}
        if self.reward_source == "random":
            reward = random_rewards(streams, self.roles)
        return StepResult(dataclasses.replace(state, choice=choice.to(torch.float32)), reward)

    def _incomes(
        self, quantities: Tensor, payments: Tensor, state: ScreeningState
    ) -> tuple[Tensor, Tensor]:
        """Income of agents and principal by option."""
        return agent_incomes(state.cost, quantities, payments), principal_incomes(
            quantities, payments
        )

    def solution(
        self, role: str, phase: str, observation: Float[Tensor, "world agent query size"]
    ) -> Tensor:
        """The optimal menu; the best item, the one meant for the own cost if they are equal."""
        if role == "principal":
            menu = screening_menu(self.low_cost, self.high_cost, self.low_share)
            numbers = observation.new_tensor([*menu.quantities, *menu.payments])
            return numbers.expand(*observation.shape[:-1], -1)
        cost, quantities, payments = (
            observation[..., 0],
            observation[..., 1:3],
            observation[..., 3:],
        )
        income = agent_incomes(cost, quantities, payments)
        is_low = cost < 0.5 * (self.low_cost + self.high_cost)
        # Order of preference between equal options, the last one first: refuse, other's, own item.
        own_first = torch.where(is_low[..., None], income[..., [0, 2, 1]], income)
        best = best_options(own_first)
        return torch.where(is_low[..., None], best[..., [0, 2, 1]], best)

    def metrics(self, state: ScreeningState) -> Mapping[str, Tensor]:
        """The menu, and means over agents."""
        agent, principal = self._incomes(state.quantities[:, None], state.payments[:, None], state)
        index = state.choice.long()[..., None]
        return {
            "low_type_quantity": state.quantities[:, 0],
            "high_type_quantity": state.quantities[:, 1],
            "principal_payoff": mean(principal.expand_as(agent).gather(-1, index)[..., 0], 1),
            "agent_payoff": mean(agent.gather(-1, index)[..., 0], 1),
            "accepted_share": mean((state.choice > 0).to(torch.float32), 1),
        }

    @property
    def metric_bounds(self) -> Mapping[str, tuple[float, float]]:
        """Shares lie between 0 and 1."""
        return {"accepted_share": (0.0, 1.0)}

    def latent(self, state: ScreeningState) -> Mapping[str, Tensor]:
        """Costs of the agents."""
        return {"cost": state.cost}

    @property
    def policy_metric_names(self) -> tuple[str, ...]:
        """Mean menu, its expected profit and the violations of its constraints."""
        return (
            *("policy_quantities", "policy_payments", "policy_profit", "policy_rent"),
            *("ic_violation", "pc_violation", "exploitability"),
        )

    def policy_queries(self, state: ScreeningState) -> Mapping[str, PolicyQuery]:
        """The principal's observation."""
        observation = self.observe(state, "principal", "offer")[:, :, None]
        return {"offer": PolicyQuery("principal", "offer", observation)}

    def policy_metrics(
        self, state: ScreeningState, answers: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Values against rational agents. A violation is an income that a type forgoes.

        Incentive compatibility: by the own item instead of the other's; participation: by the own
        item instead of none; the larger one of the two types.
        """
        menu = answers["offer"][:, 0, 0]
        quantities, payments = menu[:, None, :2], menu[:, None, 2:]  # world, type, item
        cost = menu.new_tensor([self.low_cost, self.high_cost]).expand(len(menu), -1)
        income = agent_incomes(cost, quantities, payments)
        own = torch.stack([income[:, 0, 1], income[:, 1, 2]], -1)
        other = torch.stack([income[:, 0, 2], income[:, 1, 1]], -1)
        observation = torch.cat(
            [cost[..., None], quantities.expand(-1, 2, -1), payments.expand(-1, 2, -1)], -1
        )
        choice = self.solution("agent", "choose", observation[:, :, None])[:, :, 0]
        share = menu.new_tensor([self.low_share, 1.0 - self.low_share])
        profit = total(share * total(choice * principal_incomes(quantities, payments), -1), 1)
        return {
            "policy_quantities": menu[:, :2],
            "policy_payments": menu[:, 2:],
            "policy_profit": profit,
            "exploitability": self.analytic_values({}, 1)["solution_principal_payoff"] - profit,
            "policy_rent": total(share * total(choice * income, -1), 1),
            "ic_violation": (other - own).clamp(min=0.0).amax(1),
            "pc_violation": (-own).clamp(min=0.0).amax(1),
        }

    def analytic_values(self, policies: Mapping[str, Any], rounds: int) -> Mapping[str, float]:
        """The optimal menu."""
        menu = screening_menu(self.low_cost, self.high_cost, self.low_share)
        return {
            "optimal_low_type_quantity": menu.quantities[0],
            "optimal_high_type_quantity": menu.quantities[1],
            "solution_principal_payoff": menu.profit,
            "solution_agent_payoff": self.low_share * menu.rent,
        }

    def role_rules(self, role: str) -> str:
        """Costs, the menu and the reward."""
        return texts.rules(role, self.low_cost, self.high_cost, self.low_share)

    def describe(
        self, role: str, phase: str, observation: Tensor, action_mask: Tensor | None = None
    ) -> TurnText:
        """Items taken, or the own cost and the menu."""
        if role == "principal":
            limits = (self.max_quantity, self.max_payment)
            return texts.principal_turn(observation.tolist(), *limits)
        cost, *menu = observation.tolist()
        return texts.agent_turn(cost, menu[:NUM_ITEMS], menu[NUM_ITEMS:])

    def render(self, state: ScreeningState, world: int = 0) -> str:
        """The menu, and what every agent took."""
        lines = [
            f"item {i + 1}: {state.quantities[world, i].item():.3f} units for a payment of "
            f"{state.payments[world, i].item():.3f}"
            for i in range(NUM_ITEMS)
        ]
        for agent in range(self.num_agents):
            choice, cost = int(state.choice[world, agent]), state.cost[world, agent].item()
            took = f"takes item {choice}" if choice else "takes none"
            lines.append(f"agent {agent}, cost {cost:.2f}, {took}")
        return "\n".join(lines)


def agent_incomes(cost: Tensor, quantities: Tensor, payments: Tensor) -> Tensor:
    """t - cost q by option, the first one 0."""
    items = payments - cost[..., None] * quantities
    return torch.cat([torch.zeros_like(items[..., :1]), items], -1)


def principal_incomes(quantities: Tensor, payments: Tensor) -> Tensor:
    """2 sqrt(q) - t by option, the first one 0."""
    items = 2.0 * quantities.clamp(min=0.0).sqrt() - payments
    return torch.cat([torch.zeros_like(items[..., :1]), items], -1)

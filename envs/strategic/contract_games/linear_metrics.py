"""Values of policies in linear contract games, without sampling.

Principals are evaluated by the contracts that they offer on the present types, their mean action,
against an agent who responds optimally: so their surplus and exploitability do not depend on agents
who learn. Agents, and what principals earn from them: `linear_responses`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from mores.core.deterministic_sum import mean, total
from mores.core.environment import PolicyQuery
from mores.core.spaces import Box
from mores.envs.strategic.contract_games.linear_batch import (
    AgentTypes,
    LinearBatch,
    acceptance,
    best_profit,
    dot,
)
from mores.envs.strategic.contract_games.linear_responses import RESPONSE_METRICS, LinearResponses

POLICY_METRICS = (
    "policy_slopes",  # sum over principals, mean over agents, by task
    "policy_salary",  # sum over principals, mean over agents
    "slope_error",  # |T - T*| / |T*|, mean over agents
    "slope_ratio",  # T' T* / T*' T*, mean over agents
    "cooperative_ratio",  # the same for the slopes that principals would choose together
    "participation",  # probability that a rational agent accepts
    "principal_surplus",  # expected profits, sum over principals and agents
    "agent_surplus",  # expected gain over the outside option, sum over agents
    "total_surplus",  # their sum
    "surplus_ratio",  # principal_surplus relative to the equilibrium
    "exploitability",  # what a principal gains by its best response, mean over principals
    "played_profit_ratio",  # played_profit relative to the principals' surplus in equilibrium
    *RESPONSE_METRICS,
)


@dataclasses.dataclass(frozen=True)
class LinearValues:
    """Static data of a linear game, from which values follow.

    Attributes:
        batch: matrices.
        benefits: of the principals.
        outside_option: range.
        agent_space: layout of an agent's observation.
    """

    batch: LinearBatch
    benefits: Float[Tensor, "principal task"]
    outside_option: tuple[float, float]
    agent_space: Box

    @property
    def num_principals(self) -> int:
        """Number of principals."""
        return len(self.benefits)

    @property
    def responses(self) -> LinearResponses:
        """What agents are asked."""
        everyone = total(self.benefits, 0)
        return LinearResponses(self.batch, everyone, self.outside_option, self.agent_space)

    def equilibrium(self, types: AgentTypes) -> tuple[Tensor, Tensor, Tensor]:
        """Slopes `[..., task]`, salary and joint surplus in equilibrium, sums over principals."""
        everyone, count = total(self.benefits, 0), self.num_principals
        slopes = self.batch.slope_sum(everyone, count, types.risk_cost)
        effort = self.batch.best_effort(slopes, types)
        surplus = self.joint_surplus(slopes, types)
        low, high = self.outside_option
        utility = (low + (surplus - low).clamp(min=0.0) / (count + 1)).clamp(max=high)
        zero = torch.zeros_like(surplus)
        salary = utility - self.batch.certainty_equivalent(slopes, zero, effort, types)
        return slopes, salary, surplus

    def joint_surplus(self, slopes: Tensor, types: AgentTypes) -> Tensor:
        """Benefits of all principals less effort cost and risk premium, with the best effort."""
        effort = self.batch.best_effort(slopes, types)
        value = dot(total(self.benefits, 0), effort)
        cost = self.batch.effort_loss(effort, types)
        return value - cost - self.batch.risk_premium(slopes, types)

    def profits(self, slopes: Tensor, salary: Tensor, types: AgentTypes) -> Tensor:
        """Expected profit of each offer, `[world, principal, agent]`.

        Args:
            slopes: `[world, principal, agent, task]`.
            salary: `[world, principal, agent]`.
            types: of the agents, `[world, agent]`.
        """
        together = total(slopes, 1)
        effort = self.batch.best_effort(together, types)
        utility = self.batch.certainty_equivalent(together, total(salary, 1), effort, types)
        accepted = acceptance(utility, *self.outside_option)
        return accepted[:, None] * (dot(self.benefits[:, None] - slopes, effort[:, None]) - salary)

    def best_response_profits(self, slopes: Tensor, salary: Tensor, types: AgentTypes) -> Tensor:
        """Profit of each principal's best offer, given those of the others; shapes as `profits`."""
        others = total(slopes, 1)[:, None] - slopes
        others_salary = total(salary, 1)[:, None] - salary
        benefits = self.benefits[:, None].expand_as(slopes)
        wide = AgentTypes(
            *(x[:, None] for x in (types.risk_aversion, types.effort_cost, types.noise_variance))
        )
        own = self.batch.best_response_slopes(benefits, others, wide.risk_cost.expand_as(salary))
        effort = self.batch.best_effort(own + others, wide)
        utility = self.batch.certainty_equivalent(own + others, others_salary, effort, wide)
        joint = utility + dot(benefits - own, effort)  # of this principal and the agent
        return best_profit(joint, *self.outside_option)

    def equilibrium_profit(self, types: AgentTypes) -> Float[Tensor, " world"]:
        """Expected profits in equilibrium, sum over principals and agents."""
        _, _, joint = self.equilibrium(types)
        low, high = self.outside_option
        target = (low + (joint - low).clamp(min=0.0) / (self.num_principals + 1)).clamp(max=high)
        return total(acceptance(target, low, high) * (joint - target), 1)

    def queries(
        self,
        principal_observation: Float[Tensor, "world principal size"],
        slopes: Tensor,
        salary: Tensor,
        types: AgentTypes,
    ) -> Mapping[str, PolicyQuery]:
        """Observations of principals as they are, and those of `LinearResponses`.

        Slopes and salaries are the offers of the last round, as in `profits`.
        """
        contract = self.equilibrium(types)[:2]
        played = (total(slopes, 1), total(salary, 1))
        return {
            "offer": PolicyQuery("principal", "offer", principal_observation[:, :, None]),
            **self.responses.queries(types, contract, played),
        }

    def metrics(
        self,
        offered: tuple[Tensor, Tensor],
        played: tuple[Tensor, Tensor],
        answers: Mapping[str, Tensor],
        types: AgentTypes,
    ) -> Mapping[str, Tensor]:
        """The metrics of `POLICY_METRICS`.

        Args:
            offered: mean offers of the principals, slopes and salaries as in `profits`.
            played: offers of the last round.
            answers: of all roles to `queries`.
            types: of the agents.
        """
        best_slopes, best_salary, _ = self.equilibrium(types)
        together = (total(played[0], 1), total(played[1], 1))
        found = self.responses.metrics(answers, types, (best_slopes, best_salary), together)
        reference = self.equilibrium_profit(types)
        return {
            **self._offers(*offered, best_slopes, types),
            **found,
            "played_profit_ratio": found["played_profit"] / reference,
        }

    def _offers(
        self, slopes: Tensor, salary: Tensor, best: Tensor, types: AgentTypes
    ) -> Mapping[str, Tensor]:
        together = total(slopes, 1)
        utility = self.batch.best_certainty_equivalent(together, total(salary, 1), types)
        low, high = self.outside_option
        accepted = acceptance(utility, low, high)
        profits = self.profits(slopes, salary, types)
        gained = self.best_response_profits(slopes, salary, types) - profits
        principal = total(total(profits, 1), 1)
        # accepted outside options are uniform on [low, min(utility, high)]
        mean_option = 0.5 * (low + utility.clamp(low, high))
        agent = total(accepted * (utility - mean_option), 1)
        size = dot(best, best)
        joint_slopes = self.batch.slope_sum(total(self.benefits, 0), 1, types.risk_cost)
        return {
            "policy_slopes": mean(together, 1),
            "policy_salary": mean(total(salary, 1), 1),
            "slope_error": mean((dot(together - best, together - best) / size).sqrt(), 1),
            "slope_ratio": mean(dot(together, best) / size, 1),
            "cooperative_ratio": mean(
                dot(together, joint_slopes) / dot(joint_slopes, joint_slopes), 1
            ),
            "participation": mean(accepted, 1),
            "principal_surplus": principal,
            "agent_surplus": agent,
            "total_surplus": principal + agent,
            "surplus_ratio": principal / self.equilibrium_profit(types),
            "exploitability": mean(total(gained, 2), 1),
        }

"""Agents' decisions in linear contract games, without sampling.

Agents are asked about three kinds of contracts: that of the equilibrium, with outside options over
their range, and without piece rates; other piece rates, between 0 and twice those of the
equilibrium; and the offers of the last round, so that it is known what principals earn from agents
who learn. What an agent loses is in units of its certainty equivalent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import scipy.stats
import torch
from jaxtyping import Float
from torch import Tensor

from mores.core.deterministic_sum import mean, total
from mores.core.environment import PolicyQuery
from mores.core.spaces import Box
from mores.envs.strategic.contract_games.linear_batch import AgentTypes, LinearBatch, dot

RESPONSE_METRICS = (
    "policy_effort",  # effort of the agents with the equilibrium contract, by task
    "intrinsic_effort",  # effort of the agents with piece rates of 0, by task
    "ic_violation",  # lost by the effort with the equilibrium contract
    "other_ic_violation",  # lost by the effort with other piece rates, mean over them
    "pc_violation",  # lost by accepting the equilibrium contract too often
    "refusal_loss",  # lost by refusing the equilibrium contract too often
    "played_ic_violation",  # lost by the effort with the offers of the last round
    "played_loss",  # lost by acceptance and effort with them
    "played_profit",  # expected profits from them and the agents' decisions, sum over principals
)
NUM_OUTSIDE_OPTIONS = 16  # at which decisions on the equilibrium contract are evaluated
NUM_PLAYED_OPTIONS = 64  # the same for the offers of the last round
NUM_OTHER_CONTRACTS = 16


@dataclasses.dataclass(frozen=True)
class LinearResponses:
    """What agents are asked, and the values of their answers.

    Attributes:
        batch: matrices.
        all_benefits: of all principals together.
        outside_option: range.
        agent_space: layout of an agent's observation.
    """

    batch: LinearBatch
    all_benefits: Float[Tensor, " task"]
    outside_option: tuple[float, float]
    agent_space: Box

    def options(self, count: int, like: Tensor) -> Float[Tensor, " option"]:
        """Midpoints of equal parts of the range of outside options."""
        low, high = self.outside_option
        return low + (high - low) * (torch.arange(count, device=like.device) + 0.5) / count

    def other_slopes(
        self, slopes: Float[Tensor, "world agent task"]
    ) -> Float[Tensor, "world agent query task"]:
        """Piece rates between 0 and twice these, each task by itself: points of Halton."""
        points = scipy.stats.qmc.Halton(slopes.shape[-1], scramble=False)
        share = points.random(NUM_OTHER_CONTRACTS + 1)[1:]  # the first point is 0
        return 2.0 * torch.from_numpy(share).to(slopes) * slopes[:, :, None]

    def queries(
        self,
        types: AgentTypes,
        contract: tuple[Tensor, Tensor],
        played: tuple[Tensor, Tensor],
    ) -> Mapping[str, PolicyQuery]:
        """Observations of agents; slopes `[world, agent, task]` and salaries, sums of all offers.

        Args:
            types: of the agents, `[world, agent]`.
            contract: of the equilibrium.
            played: offers of the last round.
        """
        slopes, salary = contract
        nothing = torch.zeros_like(slopes)
        low = self.outside_option[0] + nothing[..., :1]
        work = torch.stack([slopes, nothing], 2)
        asked = {
            "accept": (slopes[:, :, None], salary, self.options(NUM_OUTSIDE_OPTIONS, slopes)),
            "work": (work, salary, low),
            "other_work": (self.other_slopes(slopes), salary, low),
            "played": (played[0][:, :, None], played[1], self.options(NUM_PLAYED_OPTIONS, slopes)),
        }
        return {
            name: PolicyQuery("agent", "work", self._observations(types, *contract))
            for name, contract in asked.items()
        }

    def _observations(
        self, types: AgentTypes, slopes: Tensor, salary: Tensor, outside_option: Tensor
    ) -> Float[Tensor, "world agent query size"]:
        """Agents' observations; the query dimensions broadcast."""
        salary, outside_option = torch.broadcast_tensors(salary[..., None], outside_option)
        salary, outside_option = salary[..., None], outside_option[..., None]
        return self.agent_space.join(
            risk_aversion=types.risk_aversion[..., None, None],
            effort_cost=types.effort_cost[..., None, None],
            noise_variance=types.noise_variance[..., None, None],
            slopes=slopes,
            salary=salary,
            outside_option=outside_option,
        )

    def metrics(
        self,
        answers: Mapping[str, Tensor],
        types: AgentTypes,
        contract: tuple[Tensor, Tensor],
        played: tuple[Tensor, Tensor],
    ) -> Mapping[str, Tensor]:
        """The metrics of `RESPONSE_METRICS`, means over agents; arguments as in `queries`."""
        slopes, salary = contract
        effort, idle = answers["work"][..., 1:].unbind(2)
        utility = self.batch.best_certainty_equivalent(slopes, salary, types)
        lost = utility - self.batch.certainty_equivalent(slopes, salary, effort, types)
        options = self.options(NUM_OUTSIDE_OPTIONS, slopes)
        gain = utility[..., None] - options  # world, agent, query
        accepted = (answers["accept"][..., 0] > 0).to(gain.dtype)
        other = self.effort_loss(
            answers["other_work"][..., 1:], self.other_slopes(slopes), salary, types
        )
        return {
            "policy_effort": mean(effort, 1),
            "intrinsic_effort": mean(idle, 1),
            "ic_violation": mean(lost, 1),
            "other_ic_violation": mean(mean(other, 2), 1),
            "pc_violation": mean(mean((-gain).clamp(min=0.0) * accepted, 2), 1),
            "refusal_loss": mean(mean(gain.clamp(min=0.0) * (1.0 - accepted), 2), 1),
            **self._played(answers["played"], types, *played),
        }

    def effort_loss(
        self, effort: Tensor, slopes: Tensor, salary: Tensor, types: AgentTypes
    ) -> Float[Tensor, "world agent query"]:
        """Certainty equivalent of the best effort less that of an effort, by query."""
        wide, salary = by_query(types), salary[..., None]
        best = self.batch.best_certainty_equivalent(slopes, salary, wide)
        return best - self.batch.certainty_equivalent(slopes, salary, effort, wide)

    def _played(
        self, answers: Tensor, types: AgentTypes, slopes: Tensor, salary: Tensor
    ) -> Mapping[str, Tensor]:
        accepted, effort = answers[..., 0] > 0, answers[..., 1:]
        lost = self.effort_loss(effort, slopes[:, :, None], salary, types)
        best = self.batch.best_certainty_equivalent(slopes, salary, types)[..., None]
        options = self.options(NUM_PLAYED_OPTIONS, slopes)
        regret = torch.maximum(best, options) - torch.where(accepted, best - lost, options)
        profit = dot((self.all_benefits - slopes)[:, :, None], effort) - salary[..., None]
        profit = torch.where(accepted, profit, 0.0)
        return {
            "played_ic_violation": mean(mean(lost, 2), 1),
            "played_loss": mean(mean(regret, 2), 1),
            "played_profit": total(mean(profit, 2), 1),
        }


def by_query(types: AgentTypes) -> AgentTypes:
    """Types with a dimension of queries, `[world, agent, 1]`."""
    values = (types.risk_aversion, types.effort_cost, types.noise_variance)
    return AgentTypes(*(value[..., None] for value in values))

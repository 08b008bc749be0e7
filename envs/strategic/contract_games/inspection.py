"""Inspection game: audits cost the principal, violations that are not audited cost it more.

Avenhaus, von Stengel and Zamir 2002, Handbook of Game Theory 3, chapter 51; closed form in
`mores.envs.strategic.contract_values`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mores.core.deterministic_sum import mean
from mores.core.environment import Phase, PolicyQuery, Role, StepResult
from mores.core.errors import ParameterError
from mores.core.people import People
from mores.core.plain_text import read_parts
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Discrete, Part
from mores.core.turn_text import TurnText
from mores.envs.strategic.contract_games import inspection_text as texts
from mores.envs.strategic.contract_games.game import ContractGame, random_rewards, refuse_people
from mores.envs.strategic.contract_values import inspection_equilibrium


@dataclasses.dataclass(frozen=True)
class InspectionState:
    """Decisions of the last round, 0 or 1."""

    inspected: Float[Tensor, "world agent"]
    violated: Float[Tensor, "world agent"]


class Inspection(ContractGame[InspectionState]):
    """Pairs of an inspector and an agent who may violate a rule.

    Description:
        Each round inspector and agent decide at the same time. The only equilibrium is mixed: each
        side makes the other indifferent, so that a higher fine lowers inspections, not violations.
        Left out: commitment to an audit rate, noisy detection, a limited number of audits.

    Roles:
        principal (`num_agents`), agent (`num_agents`): principal i inspects agent i.

    Observation (both roles; the parameters of the game):
        gain, fine, loss, inspection_cost  1 each  [0, inf)

    Action (phase decide):
        principal: 0 do not inspect, 1 inspect. agent: 0 comply, 1 violate.

    Reward:
        agent: `gain` by a violation without inspection, -`fine` by one with it, else 0.
        principal: -`inspection_cost` if it inspects, else -`loss` by a violation.
        `reward_source: random`: standard normal numbers.

    Dynamics:
        None: rounds are independent.

    Start:
        No decisions.

    End:
        Never terminates.

    Parameters:
        See the fields.

    References:
        Avenhaus, von Stengel and Zamir 2002.
    """

    tags: ClassVar[Mapping[str, object]] = {"phases": 1, "changes": "audits", "stochastic": True}

    num_agents: int = Field(default=2, ge=1, le=10_000, description="number of pairs")
    gain: float = Field(
        default=1.0, gt=0, le=1e4, description="agent's gain by an undetected violation"
    )
    fine: float = Field(default=3.0, gt=0, le=1e4, description="fine for a detected violation")
    loss: float = Field(
        default=5.0, gt=0, le=1e4, description="principal's loss by an undetected violation"
    )
    inspection_cost: float = Field(default=1.0, gt=0, le=1e4, description="cost of an inspection")
    reward_source: Literal["outcome", "random"] = Field(
        default="outcome", description="random: rewards are noise, without any signal"
    )

    def model_post_init(self, context: Any) -> None:
        """Refuse inspections that never pay."""
        if self.inspection_cost >= self.loss:
            raise ParameterError(message="inspection_cost must be below loss", code="conflict")

    @property
    def roles(self) -> tuple[Role, ...]:
        """`principal` and `agent`."""
        number = Part(1, 0.0)
        space = Box.of(gain=number, fine=number, loss=number, inspection_cost=number)
        return Role("principal", self.num_agents, space), Role("agent", self.num_agents, space)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """`decide`."""
        return (Phase("decide", {"principal": Discrete(2), "agent": Discrete(2)}),)

    def reset(self, streams: RandomStreams, people: People | None = None) -> InspectionState:
        """No decisions."""
        refuse_people("contracts", people)
        zero = torch.zeros(streams.num_worlds, self.num_agents, device=streams.device)
        return InspectionState(zero, zero)

    def observe(self, state: InspectionState, role: str, phase: str) -> Tensor:
        """The parameters."""
        numbers = (self.gain, self.fine, self.loss, self.inspection_cost)
        return state.violated.new_tensor(numbers).expand(*state.violated.shape, -1)

    def step(
        self,
        state: InspectionState,
        phase: str,
        actions: Mapping[str, Tensor],
        streams: RandomStreams,
    ) -> StepResult[InspectionState]:
        """Both decide."""
        inspected = actions["principal"].to(torch.float32)
        violated = actions["agent"].to(torch.float32)
        reward = {
            "principal": self.inspector_payoff(inspected, violated),
            "agent": self.agent_payoff(inspected, violated),
        }
        if self.reward_source == "random":
            reward = random_rewards(streams, self.roles)
        return StepResult(InspectionState(inspected, violated), reward)

    def inspector_payoff(self, inspection: Tensor, violation: Tensor) -> Tensor:
        """Expected payoff of an inspector, from both probabilities."""
        return -self.inspection_cost * inspection - self.loss * violation * (1.0 - inspection)

    def agent_payoff(self, inspection: Tensor, violation: Tensor) -> Tensor:
        """Expected payoff of an agent, from both probabilities."""
        return violation * (self.gain * (1.0 - inspection) - self.fine * inspection)

    def solution(
        self, role: str, phase: str, observation: Float[Tensor, "world agent query size"]
    ) -> Tensor:
        """The mixed equilibrium."""
        best = inspection_equilibrium(self.gain, self.fine, self.loss, self.inspection_cost)
        share = best.inspection if role == "principal" else best.violation
        return observation.new_tensor([1.0 - share, share]).expand(*observation.shape[:-1], -1)

    def metrics(self, state: InspectionState) -> Mapping[str, Tensor]:
        """Shares of pairs, and mean payoffs."""
        inspected, violated = state.inspected, state.violated
        return {
            "inspection_share": mean(inspected, 1),
            "violation_share": mean(violated, 1),
            "undetected_share": mean(violated * (1.0 - inspected), 1),
            "principal_payoff": mean(self.inspector_payoff(inspected, violated), 1),
            "agent_payoff": mean(self.agent_payoff(inspected, violated), 1),
        }

    @property
    def metric_bounds(self) -> Mapping[str, tuple[float, float]]:
        """Shares and probabilities lie between 0 and 1."""
        names = ("inspection_share", "violation_share", "undetected_share")
        return dict.fromkeys(
            (*names, "inspection_probability", "violation_probability"), (0.0, 1.0)
        )

    @property
    def policy_metric_names(self) -> tuple[str, ...]:
        """Probabilities, and the gain of both sides by a best response."""
        return ("inspection_probability", "violation_probability", "exploitability")

    def policy_queries(self, state: InspectionState) -> Mapping[str, PolicyQuery]:
        """The observations of both roles."""
        observation = self.observe(state, "agent", "decide")[:, :, None]
        return {role: PolicyQuery(role, "decide", observation) for role in ("principal", "agent")}

    def policy_metrics(
        self, state: InspectionState, answers: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Means over pairs; exploitability is the sum over both sides (NashConv)."""
        inspection, violation = answers["principal"][:, :, 0, 1], answers["agent"][:, :, 0, 1]
        both = (torch.zeros_like(inspection), torch.ones_like(inspection))
        inspector = torch.maximum(*(self.inspector_payoff(q, violation) for q in both))
        agent = torch.maximum(*(self.agent_payoff(inspection, v) for v in both))
        gained = inspector - self.inspector_payoff(inspection, violation)
        gained = gained + agent - self.agent_payoff(inspection, violation)
        return {
            "inspection_probability": mean(inspection, 1),
            "violation_probability": mean(violation, 1),
            "exploitability": mean(gained, 1),
        }

    def analytic_values(self, policies: Mapping[str, Any], rounds: int) -> Mapping[str, float]:
        """The equilibrium."""
        best = inspection_equilibrium(self.gain, self.fine, self.loss, self.inspection_cost)
        return {
            "equilibrium_inspection": best.inspection,
            "equilibrium_violation": best.violation,
            "solution_principal_payoff": best.inspector_payoff,
            "solution_agent_payoff": 0.0,
        }

    def role_rules(self, role: str) -> str:
        """The decisions of both sides."""
        return texts.rules(role)

    def describe(
        self, role: str, phase: str, observation: Tensor, action_mask: Tensor | None = None
    ) -> TurnText:
        """Gains, fines, losses and costs, and the two decisions."""
        return texts.turn(role, read_parts(self.roles[0].observation_space, observation))

    def render(self, state: InspectionState, world: int = 0) -> str:
        """Decisions of every pair in the last round."""
        lines = []
        for pair in range(self.num_agents):
            agent = "violates the rule" if state.violated[world, pair] > 0 else "complies"
            inspector = "inspects" if state.inspected[world, pair] > 0 else "does not inspect"
            lines.append(f"agent {pair} {agent}; principal {pair} {inspector}")
        return "\n".join(lines)
